"""What a search is predicted to cost is what it costs where responses are as long as expected and nothing repeats."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from scripted_steps import run

from apportion.costs import attended
from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.dvts import DiverseTrees
from apportion.policies.lookahead import Lookahead
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


@pytest.mark.parametrize("n", [4, 16])
@pytest.mark.parametrize(
    "strategy",
    [
        BeamSearch(),
        BeamSearch(width="sqrt"),
        BeamSearch(depth=2),
        DiverseTrees(),
        DiverseTrees(width=2, depth=3),
        Lookahead(),
        Lookahead(k=0),
        Lookahead(k=3),
        Lookahead(k=9),
        Lookahead(k=2, depth=3),
    ],
    ids=str,
)
def test_prediction_is_what_is_paid(strategy: Strategy, n: int) -> None:
    world = EvenWorld()
    assert len(run(strategy, world, n)) == n
    work = strategy.workload(n, Lengths(PROMPT, float(STEP * STEPS), float(STEPS)), verified=True)
    assert work.completion_tokens == pytest.approx(world.completion_tokens)
    assert work.policy_attended == pytest.approx(world.policy_attended)
    assert work.verifier_tokens == pytest.approx(world.verifier_tokens)
    assert work.verifier_attended == pytest.approx(world.verifier_attended)


def test_a_step_ahead_of_long_responses_doubles_the_work() -> None:
    """N(k + 1), as the paper counts it, less what cannot be looked ahead of: the end."""
    lengths = Lengths(PROMPT, 4000.0, 100.0)
    plain = BeamSearch(depth=200).workload(16, lengths, verified=True)
    for k in (1, 3):
        ahead = Lookahead(depth=200, k=k).workload(16, lengths, verified=True)
        assert 0.95 * (k + 1) < ahead.completion_tokens / plain.completion_tokens < k + 1
