"""Diverse verifier tree search: N/M independent subtrees, each of which keeps its best step and goes on M ways from it.

Beeching, Tunstall and Rush 2024 (Scaling test-time compute with open models) and Liu et al. 2025 (arXiv 2502.06703):
beam search narrows to a few beginnings, which hurts where N is large; subtrees that do not compete stay diverse.

A subtree is a beam search of M beams of width M (`apportion.policies.beams`), and the subtrees run side by side. Each
gives M finals, the last siblings, where the authors also return M a tree: N finals in all. Since subtrees are
independent, a later purchase goes on growing the same forest: 8 and then 8 more are the same 16 finals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from apportion.policies.beams import Ranking, check_divides, check_settings, search
from apportion.policies.strategy import Lengths, Plan, Task, Workload, sampled_workload


@dataclass(frozen=True, slots=True)
class DiverseTrees:
    """n / `width` subtrees of width `width`, at most `depth` rounds; 4 is the width of both papers.

    `aggregate_search` makes the score a prefix is ranked by out of its step scores; `last` is both papers'.
    """

    name: ClassVar[str] = "dvts"
    needs_verifier: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True

    width: int = 4
    depth: int = 40
    aggregate_search: Ranking = "last"

    def __post_init__(self) -> None:
        check_settings(self.name, self.width, self.depth)

    def plan(self, task: Task) -> Plan:
        """n drafts, tree by tree, best first; where cut off, the last pools, their prefixes with finish LENGTH."""
        return search(task, task.n // self.width, self.width, self.depth, self.aggregate_search)

    def check(self, n: int) -> str | None:
        return check_divides(n, self.width)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Every step is written and scored once: engines and scorers keep what they have read of a prefix."""
        return sampled_workload(n, lengths, verified)
