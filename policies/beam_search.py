"""Beam search over steps, guided by a process reward model.

Snell et al. 2024 (arXiv 2408.03314, section 5.2) with the step limits of Liu et al. 2025 (arXiv 2502.06703): sample N
first steps, score the prefixes, keep the best N/M, let each write M next steps, and so on to the end.

What it shares with other searches, finals and ties among it, is in `apportion.policies.beams`. With nothing finished,
selection is the top N/M, M each; what finished beams do not need goes to the next in the ranking, and once all N are
finished nothing changes. A search of 4 is no part of one of 16, so a later purchase is another search, from other
seeds, whose finals join those there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from apportion.policies.beams import Ranking, check_divides, check_settings, search
from apportion.policies.strategy import Lengths, Plan, Task, Workload, sampled_workload


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """N = n beams of width M = `width` (a number, or `sqrt` for the root of N), at most `depth` rounds.

    `aggregate_search` makes the score a prefix is ranked by out of its step scores; `last` is Snell's and Liu's.
    """

    name: ClassVar[str] = "beam_search"
    needs_verifier: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True

    width: int | Literal["sqrt"] = 4
    depth: int = 40
    aggregate_search: Ranking = "last"

    def __post_init__(self) -> None:
        check_settings(self.name, self.width, self.depth)

    def plan(self, task: Task) -> Plan:
        """n drafts, best first; where cut off, the last pool, its prefixes with finish LENGTH."""
        return search(task, 1, self.width_of(task.n), self.depth, self.aggregate_search)

    def check(self, n: int) -> str | None:
        if self.width != "sqrt":
            return check_divides(n, self.width)
        root = math.isqrt(max(0, n))
        if n >= 4 and root * root == n:
            return None
        near = max(2, root)
        return f"n is {n}, and width sqrt needs a square of at least 4; use n: {near**2} or {(near + 1) ** 2}"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Every step is written and scored once: engines and scorers keep what they have read of a prefix."""
        return sampled_workload(n, lengths, verified)

    def width_of(self, n: int) -> int:
        """In how many ways each kept prefix goes on."""
        return max(2, math.isqrt(n)) if self.width == "sqrt" else self.width
