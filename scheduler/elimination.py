"""Bandit elimination: rounds of a few samples for every prompt that has no good answer yet.

Zuo, Zhu 2025, "Strategic Scaling of Test-Time Compute: A Bandit Learning Approach" (arXiv 2506.12721), the elimination
rule: each round gives K more samples to every active prompt, and drops a prompt once its best score is at least gamma;
K in {1, 2, 4, 8}. A checkable reward scores 1 where an answer is right; a process reward model scores in between.
Nothing is dropped where candidates have no scores: the policy is then uniform. Ours: gamma's default (the score of an
accepted candidate where the objective is to have one), K's default, and that prompts with fewest samples go first where
the budget ends within a round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.one_arm import MOST_SAMPLES, OneArm
from apportion.scheduler.stopping_rule import Rule, StoppingRule
from apportion.types import Candidate

GAMMA = 0.95
"""A verifier that is so sure is hardly made surer by more samples."""


@dataclass(frozen=True, slots=True)
class EliminationSettings:
    """`arm` defaults to the config's first, `most` to what can be had of a prompt; `round` is K.

    `gamma` defaults to the score of an accepted candidate where prompts are to have one, else to `GAMMA`.
    """

    arm: str | None = None
    gamma: float | None = None
    round: int = 1
    most: int | None = None


class Elimination(Rule):
    """A prompt's best score so far against gamma."""

    def __init__(self, prompts: int, gamma: float, size: int) -> None:
        super().__init__(prompts)
        if size < 1:
            raise ConfigError(f"allocation.round is {size}; it must be at least 1")
        if not math.isfinite(gamma):
            raise ConfigError(f"allocation.gamma is {gamma}; it must be a finite number, as scores are")
        self._gamma = gamma
        self._size = size
        self._good = [0] * prompts

    def take(self, prompt: int, candidates: Sequence[Candidate]) -> None:
        super().take(prompt, candidates)
        for candidate in candidates:
            if candidate.score is not None and candidate.score >= self._gamma:
                self._good[prompt] += 1

    def wants(self, prompt: int) -> int:
        return 0 if self._good[prompt] else self._size

    def difficulty(self, prompt: int) -> float:
        """The share of candidates that were good enough."""
        return self._good[prompt] / self.tallies.seen[prompt] if self.tallies.seen[prompt] else 0.0


def elimination(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `elimination`. Raises ConfigError for a bad setting."""
    given = own_settings(EliminationSettings, settings)
    arm = OneArm(problem, given.arm, given.most, MOST_SAMPLES)
    gamma = given.gamma if given.gamma is not None else problem.goal.accept if problem.counts else GAMMA
    return StoppingRule(problem, arm, Elimination(problem.prompts, gamma, given.round))
