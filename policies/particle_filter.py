"""Particle filtering: paths are particles, resampled after every step by what a reward model makes of them.

Puri et al. 2025 (arXiv 2502.01618, "A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using
Particle-Based Monte Carlo Methods"): N particles write a step each; a particle's weight is softmax(logit(score) / T)
over the particles, with T = 1 its odds; N are drawn from them by weight, and so on until all have ended. Chance leaves
particles alive that a reward model underrates, where beam search would give them up.

Choices:
- A particle that ended early is kept, as it is, and the others share their own slots, as the authors' code does without
  `resample_inactive`. With `resample_finished` it competes for slots, as in the paper's algorithm: it may be dropped or
  copied, and copies weigh less as evidence.
- `systematic` resampling spreads one random number evenly over the slots, so that each particle gets its expected
  number of children but for rounding: as unbiased as the `multinomial` of the paper, with less noise (Kitagawa 1996).
- Chance comes from the task's key, the round and the slot alone: carried out again, a purchase is the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, Literal

from apportion.policies.aggregate import logit
from apportion.policies.beams import Beam, Ranking, Share
from apportion.policies.population import check_population, check_size, populate, shared_out, softmax
from apportion.policies.strategy import Lengths, Plan, Task, Workload, sampled_workload

CHANCE = 1
"""Ends the path of a seed that decides about slots; those that write a step end with the round."""


@dataclass(frozen=True, slots=True)
class ParticleFilter:
    """n particles, resampled by softmax(logit(score) / `softmax_temperature`), at most `depth` rounds.

    `aggregate_search` makes the score of a prefix out of its step scores.
    """

    name: ClassVar[str] = "particle_filter"
    needs_verifier: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True

    softmax_temperature: float = 1.0
    resampling: Literal["systematic", "multinomial"] = "systematic"
    resample_finished: bool = False
    depth: int = 40
    aggregate_search: Ranking = "last"

    def __post_init__(self) -> None:
        check_population(self.name, self.depth, self.softmax_temperature)

    def plan(self, task: Task) -> Plan:
        """n drafts; where cut off, the last population, its prefixes with finish LENGTH."""

        def share(pool: Sequence[Beam], scores: Sequence[float], depth: int) -> list[Share]:
            among = [at for at, beam in enumerate(pool) if self.resample_finished or not beam.ended]
            weights = softmax([logit(scores[at]) for at in among], self.softmax_temperature)
            if self.resampling == "systematic":
                children = systematic(weights, len(among), task.chance(task.drawn, depth, CHANCE))
            else:
                children = multinomial(weights, [task.chance(task.drawn + at, depth, CHANCE) for at in among])
            return shared_out(pool, among, children)

        return populate(task, self.depth, self.aggregate_search, share)

    def check(self, n: int) -> str | None:
        return check_size(self.name, n)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Every step is written and scored once: engines and scorers keep what they have read of a prefix."""
        return sampled_workload(n, lengths, verified)


def systematic(weights: Sequence[float], slots: int, chance: float) -> list[int]:
    """How many of `slots` each weight gets, [weights], where slot i is drawn by the number (i + chance) / slots.

    `chance` is in [0, 1). Each gets its expected number, rounded down or up.
    """
    ends = list(accumulate(weights, initial=0.0))
    # The last slot's number may be so near the end that the difference rounds down.
    before = [slots if end == ends[-1] else math.ceil(slots * end / ends[-1] - chance) for end in ends]
    return [upper - lower for lower, upper in pairwise(before)]


def multinomial(weights: Sequence[float], chances: Sequence[float]) -> list[int]:
    """How many slots each weight gets, [weights], where each slot is drawn by its own number in [0, 1)."""
    ends = list(accumulate(weights))
    drawn = Counter(min(bisect_right(ends, chance * ends[-1]), len(ends) - 1) for chance in chances)
    return [drawn[at] for at in range(len(weights))]
