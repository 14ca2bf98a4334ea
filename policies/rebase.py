"""REBASE, reward-balanced search: every unfinished path goes on in as many ways as its reward is worth.

Wu et al. 2024 (arXiv 2408.00724, "Inference Scaling Laws", section 3.2): sample N first steps and score them; share
the width among the unfinished paths by softmax(reward / T_b); each finished path takes one from the width, so that
there are N finals. No path is given up by rank alone, as beam search does, and no rollouts are needed, as in tree
search by Monte Carlo.

The shares are made whole as the authors' code does, from the best path down: each gets its part of what is left of the
width, rounded up. The best are served first, and those for which nothing is left are dropped. T_b = 0.2 and 25 rounds
are the authors' settings; they sample at temperature 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from apportion.policies.beams import Beam, Ranking, Share
from apportion.policies.population import check_population, check_size, populate, shared_out, softmax
from apportion.policies.strategy import Lengths, Plan, Task, Workload, sampled_workload

ROUNDING = 1e-9
"""A part this little above a whole number is that number: rounding up would make floating-point noise a child."""


@dataclass(frozen=True, slots=True)
class Rebase:
    """n paths, balanced by softmax(score / `softmax_temperature`), at most `depth` rounds.

    `aggregate_search` makes the score of a prefix out of its step scores; `last` is the paper's.
    """

    name: ClassVar[str] = "rebase"
    needs_verifier: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True

    softmax_temperature: float = 0.2
    depth: int = 25
    aggregate_search: Ranking = "last"

    def __post_init__(self) -> None:
        check_population(self.name, self.depth, self.softmax_temperature)

    def plan(self, task: Task) -> Plan:
        """n drafts; where cut off, the last population, its prefixes with finish LENGTH."""
        return populate(task, self.depth, self.aggregate_search, self._share)

    def check(self, n: int) -> str | None:
        return check_size(self.name, n)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Every step is written and scored once: engines and scorers keep what they have read of a prefix."""
        return sampled_workload(n, lengths, verified)

    def _share(self, pool: Sequence[Beam], scores: Sequence[float], depth: int) -> list[Share]:
        open_paths = [at for at, beam in enumerate(pool) if not beam.ended]
        weights = softmax([scores[at] for at in open_paths], self.softmax_temperature)
        return shared_out(pool, open_paths, balanced(weights, len(open_paths)))


def balanced(weights: Sequence[float], width: int) -> list[int]:
    """`width` children shared by weight, [weights]: from the greatest down, each its part of what is left, rounded up.

    Of equal weights the first is served first.
    """
    order = sorted(range(len(weights)), key=lambda at: weights[at], reverse=True)
    rest = list(accumulate(weights[at] for at in reversed(order)))
    children = [0] * len(weights)
    left = width
    for at in order:
        if left == 0:
            break
        children[at] = math.ceil(left * weights[at] / rest.pop() - ROUNDING)
        left -= children[at]
    return children
