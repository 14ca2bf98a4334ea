"""Adaptive-Consistency: stop a prompt once its leading answer is very likely to stay ahead of the second.

Aggarwal, Madaan, Yang, Mausam 2023, "Let's Sample Step by Step" (arXiv 2305.11860), section 3, with the Beta stopping
criterion of the authors' package AdaptiveConsistency: the two highest counts c1, c2, a flat prior between these two
answers, stop when P(Beta(c1 + 1, c2 + 1) > 1/2) >= 0.95; at most 40 samples. Unparsed answers count for no answer.
Ours: the total budget (see `apportion.scheduler.stopping_rule`), and buying at once as many samples as it takes
before the rule could stop, which decides the same and wastes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from scipy.special import betainc

from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.one_arm import OneArm
from apportion.scheduler.stopping_rule import Rule, StoppingRule

MOST = 40
"""The paper's cap, where neither a setting nor the problem gives one."""


@dataclass(frozen=True, slots=True)
class AscSettings:
    """`arm` defaults to the config's first; `most` to what can be had of a prompt, or 40 where that is not known."""

    arm: str | None = None
    threshold: float = 0.95
    most: int | None = None


@cache
def ahead(first: int, second: int) -> float:
    """P(Beta(first + 1, second + 1) > 1/2): how sure it is that the first of two answers is the more frequent."""
    return float(betainc(second + 1.0, first + 1.0, 0.5))


class Asc(Rule):
    """The Beta stopping criterion."""

    def __init__(self, prompts: int, threshold: float) -> None:
        super().__init__(prompts)
        if not 0.5 < threshold < 1.0:
            raise ConfigError(f"allocation.threshold is {threshold}; it must be above 0.5 and below 1")
        self._threshold = threshold
        self._known: dict[tuple[int, int], int] = {}

    def wants(self, prompt: int) -> int:
        counts = (self.tallies.first[prompt], self.tallies.second[prompt])
        found = self._known.get(counts)
        if found is None:
            found = self._known[counts] = self._fewest(*counts)
        return found

    def _fewest(self, first: int, second: int) -> int:
        """Samples until the rule could stop, all of them for the leader; 0 where it stops now."""
        more = 0
        while ahead(first + more, second) < self._threshold:
            more += 1
        return more


def asc(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `asc`. Raises ConfigError for a bad setting."""
    given = own_settings(AscSettings, settings)
    return StoppingRule(problem, OneArm(problem, given.arm, given.most, MOST), Asc(problem.prompts, given.threshold))
