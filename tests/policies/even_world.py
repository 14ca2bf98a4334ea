"""A world in which all responses are as long as expected and nothing repeats, and what a search is to cost in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from scripted_steps import run

from apportion.costs import attended
from apportion.policies import conformance
from apportion.policies.strategy import Lengths, Strategy
from apportion.types import Completion, Finish, Generate, Generated, Reply, Request, Scored, Usage

PROMPT, STEP, STEPS = 100.0, 40, 5
READ_ONCE = float(attended(0.0, PROMPT))


@dataclass
class EvenWorld:
    """Every response has STEPS steps of STEP tokens, no two steps are the same, and what was read is kept."""

    completion_tokens: int = 0
    policy_attended: float = READ_ONCE
    verifier_tokens: float = PROMPT
    verifier_attended: float = READ_ONCE
    read: set[tuple[str, ...]] = field(default_factory=set)

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        return tuple(self._written(r) if isinstance(r, Generate) else self._scored(r.responses) for r in requests)

    def _written(self, request: Generate) -> Generated:
        done = request.prefix.count("\n")
        steps = 1 if request.sampling.stop else STEPS - done
        finish = Finish.END if done + steps == STEPS else Finish.STOP
        for _ in request.seeds:
            self.completion_tokens += steps * STEP
            self.policy_attended += float(attended(PROMPT + done * STEP, float(steps * STEP)))
        texts = ["".join(f"{seed}.{at}\n" for at in range(steps)) for seed in request.seeds]
        return Generated(tuple(Completion(text, steps * STEP, finish) for text in texts), Usage())

    def _scored(self, responses: tuple[tuple[str, ...], ...]) -> Scored:
        for steps in responses:
            for at in range(len(steps)):
                if steps[: at + 1] not in self.read:
                    self.read.add(steps[: at + 1])
                    self.verifier_tokens += STEP
                    self.verifier_attended += float(attended(PROMPT + at * STEP, float(STEP)))
        return Scored(tuple(tuple(conformance.draw(0, step) for step in steps) for steps in responses), Usage())


def check_prediction(strategy: Strategy, n: int) -> None:
    """What `workload` says of a search is what it does here."""
    world = EvenWorld()
    assert len(run(strategy, world, n)) == n
    work = strategy.workload(n, Lengths(PROMPT, float(STEP * STEPS), float(STEPS)), verified=True)
    assert work.completion_tokens == pytest.approx(world.completion_tokens)
    assert work.policy_attended == pytest.approx(world.policy_attended)
    assert work.verifier_tokens == pytest.approx(world.verifier_tokens)
    assert work.verifier_attended == pytest.approx(world.verifier_attended)
