"""Blend-ASC: share an arbitrary total among questions, each sample to the one whose vote is least decided.

Feng, Alonso, Odonnat 2025, "Optimal Self-Consistency for Efficient Reasoning with Large Language Models" (arXiv
2511.12309). From descriptions of the paper: it has no threshold and no cap, spends the whole budget, and blends two
measures of how undecided a vote is, Adaptive-Consistency's, which is good early, and that of PPR-1v1 (Jain et al.
2022, arXiv 2109.05047), which is optimal late. Both depend on the two highest counts c1 and c2:

- Adaptive-Consistency: 1 - P(Beta(c1 + 1, c2 + 1) > 1/2);
- PPR-1v1: the density of that Beta at 1/2, the prior-posterior ratio of "the two are equally frequent", at most 1.

The exact blend was not found. Ours: both are chances of error, so the geometric mean, with the second weighing as much
as the share of the budget that is spent; and every question gets one sample before any gets two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import exp, floor, log
from typing import Any

from scipy.special import betaln

from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.asc import ahead
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.one_arm import MOST_SAMPLES, OneArm
from apportion.scheduler.stopping_rule import Rule, StoppingRule

FRESH = 2.0
"""Urgency of a question without samples: above that of any other, which is at most 1."""
LEAST_ERROR = 1e-300
"""A chance of error below this is this one, so that it has a logarithm."""
STEPS = 20
"""The blend changes this often in a job; each change ranks every question again."""
DECAY = 10.0
"""Urgencies fall by exp(-10) over a job, all alike. The second measure is up to 2(n + 1) times the first; falling
faster than that can make them rise, an urgency that was queued before a change is too high, never too low, and so is
looked at again in time."""
TIE = 1e-6
"""What a sample takes off the logarithm of an urgency: of two questions as undecided, the one with fewer goes first."""


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """`arm` defaults to the config's first; `most` to what can be had of a prompt."""

    arm: str | None = None
    most: int | None = None


@cache
def doubts(first: int, second: int) -> tuple[float, float]:
    """Logarithms of the two chances that the first answer is not the more frequent of two."""
    tail = log(max(LEAST_ERROR, ahead(second, first)))
    ratio = -(first + second) * log(2.0) - float(betaln(first + 1.0, second + 1.0))
    # The second is so many times the first at most: also where the first is as small as it may be, and it not yet.
    most = min(0.0, tail + log(2.0 * (first + second + 1)))
    return tail, max(log(LEAST_ERROR), min(most, ratio))


class Blend(Rule):
    """Urgency is the blended chance of error."""

    def __init__(self, prompts: int) -> None:
        super().__init__(prompts)
        self._spent = 0.0

    def urgency(self, prompt: int, bought: int) -> float:
        if bought == 0:
            return FRESH
        early, late = doubts(self.tallies.first[prompt], self.tallies.second[prompt])
        return exp((1.0 - self._spent) * early + self._spent * (late - DECAY) - TIE * bought)

    def progress(self, share: float) -> None:
        self._spent = floor(min(1.0, max(0.0, share)) * STEPS) / STEPS


def blend_asc(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `blend_asc`. Raises ConfigError for a bad setting."""
    given = own_settings(BlendSettings, settings)
    return StoppingRule(problem, OneArm(problem, given.arm, given.most, MOST_SAMPLES), Blend(problem.prompts))
