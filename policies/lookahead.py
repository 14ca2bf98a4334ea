"""Lookahead search: beam search that judges a step by where it leads.

Snell et al. 2024 (arXiv 2408.03314, section 5.2), lookahead-k: before a step is scored, k more steps are rolled out
from it at temperature 0, and the score at the end of the rollout is the step's. k = 0 is beam search. Rollouts are
thrown away, and paid for: N(k + 1) in place of N. The paper found it worse than beam search at equal cost.

Choices the paper leaves open:
- A step has one greedy continuation, so beginnings with the same text share a rollout, and a beam that follows its
  parent's rollout goes on from it.
- A rollout ends where the response does; in the last round beams write to their own end and nothing is rolled out.
- Rollouts continue responses and begin none, so a budget in `samples` does not see them; every other unit does.
- Finals, ties, later purchases and what a cut-off returns are beam search's; a prefix whose rollout reached the end is
  returned with it, since that has an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies.beam_search import BeamSearch
from apportion.policies.beams import Beam, Round, continuation, extended, search
from apportion.policies.strategy import Lengths, Plan, Task, Workload, generate_all, sampled_workload
from apportion.types import Completion

Rollouts = dict[tuple[str, int], tuple[Completion, int]]
"""The greedy next step, and the seed that names it, after a text of so many tokens."""


@dataclass(frozen=True, slots=True)
class Lookahead(BeamSearch):
    """Beam search with `k` steps of lookahead; Snell et al. swept 1 and 3."""

    name: ClassVar[str] = "lookahead"

    k: int = 1

    def __post_init__(self) -> None:
        BeamSearch.__post_init__(self)
        if self.k < 0:
            raise ConfigError(f"lookahead.k is {self.k}; it must be 0 or more, and 0 is beam search")
        if self.depth == 1 and self.k > 0:
            raise ConfigError(
                f"lookahead.k is {self.k}, but with depth 1 responses are written at once and no step is chosen; "
                "use depth: 2 or more"
            )

    def plan(self, task: Task) -> Plan:
        """n drafts, best first; where cut off, the last pool, its prefixes with finish LENGTH."""
        known: Rollouts = {}

        def look(pool: Sequence[Beam], depth: int) -> Round:
            return self._look(task, pool, depth, known)

        return search(task, 1, self.width_of(task.n), self.depth, self.aggregate_search, look)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Beam search's, and after each step of every beam up to k more, as far as the response goes on."""
        search_only = sampled_workload(n, lengths, verified)
        prompt, completion, steps = (
            np.asarray(amount, dtype=np.float64)[..., None]
            for amount in (lengths.prompt_tokens, lengths.completion_tokens, lengths.steps)
        )
        written = np.arange(1, min(self.depth, math.ceil(float(steps.max(initial=1.0)))))
        ahead = np.clip(steps - written, 0.0, self.k)
        step = completion / steps
        tokens = n * (step * ahead).sum(axis=-1)
        reach = n * np.asarray(attended(prompt + written * step, ahead * step)).sum(axis=-1)
        return replace(
            search_only,
            completion_tokens=search_only.completion_tokens + tokens,
            policy_attended=search_only.policy_attended + reach,
            verifier_tokens=search_only.verifier_tokens + tokens * verified,
            verifier_attended=search_only.verifier_attended + reach * verified,
        )

    def _look(self, task: Task, pool: Sequence[Beam], depth: int, known: Rollouts) -> Round:
        """Where each beam's rollout ends; the beam itself where it has ended."""
        reached = list(pool)
        for ahead in range(1, self.k + 1):
            wanted: dict[tuple[str, int], tuple[Beam, int]] = {}
            for at, beam in enumerate(reached):
                place = (beam.text, beam.tokens)
                if not beam.ended and place not in known:
                    wanted.setdefault(place, (beam, task.seed(task.drawn + at, depth, ahead)))
            if wanted:
                requests = [continuation(task, beam, (seed,), last=False) for beam, seed in wanted.values()]
                greedy = tuple(replace(r, sampling=replace(r.sampling, temperature=0.0)) for r in requests)
                replies = yield from generate_all(greedy)
                for (place, (_, seed)), reply in zip(wanted.items(), replies, strict=True):
                    known[place] = (reply.completions[0], seed)
            reached = [
                beam if beam.ended else extended(beam, *known[beam.text, beam.tokens], task, last=False)
                for beam in reached
            ]
        return reached
