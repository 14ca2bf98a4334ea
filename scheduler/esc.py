"""Early-stopping self-consistency: sample in windows, and stop a prompt once one window is unanimous.

Li, Yuan, Feng, Pan, Wang, Sun, Wang, Li 2024, "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step
Reasoning" (arXiv 2401.10480), section 3: windows of 5, at most 40 samples, the vote over all of them. An unparsed
answer agrees with nothing, so a window that holds one is not unanimous. Ours: the total budget (see
`apportion.scheduler.stopping_rule`). Where it is too short for another window of every prompt that wants one, windows
are filled sample by sample in turn, so that no prompt goes without while another has a whole window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.one_arm import OneArm
from apportion.scheduler.stopping_rule import Rule, StoppingRule
from apportion.types import Candidate

MOST = 40
"""The paper's cap, where neither a setting nor the problem gives one."""


@dataclass(frozen=True, slots=True)
class EscSettings:
    """`arm` defaults to the config's first; `most` to what can be had of a prompt, or 40 where that is not known."""

    arm: str | None = None
    window: int = 5
    most: int | None = None


class Esc(Rule):
    """Windows of candidates, in the order they come."""

    def __init__(self, prompts: int, window: int) -> None:
        super().__init__(prompts)
        if window < 1:
            raise ConfigError(f"allocation.window is {window}; it must be at least 1")
        self._window = window
        self._filled = [0] * prompts
        self._split = bytearray(prompts)
        self._answer: list[str | None] = [None] * prompts
        self._stopped = bytearray(prompts)

    def take(self, prompt: int, candidates: Sequence[Candidate]) -> None:
        super().take(prompt, candidates)
        for candidate in candidates:
            if self._filled[prompt] == 0:
                self._answer[prompt], self._split[prompt] = candidate.answer, candidate.answer is None
            elif candidate.answer != self._answer[prompt]:
                self._split[prompt] = True
            self._filled[prompt] += 1
            if self._filled[prompt] == self._window:
                self._filled[prompt] = 0
                if not self._split[prompt]:
                    self._stopped[prompt] = True

    def wants(self, prompt: int) -> int:
        return 0 if self._stopped[prompt] else self._window - self._filled[prompt]


def esc(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `esc`. Raises ConfigError for a bad setting."""
    given = own_settings(EscSettings, settings)
    return StoppingRule(problem, OneArm(problem, given.arm, given.most, MOST), Esc(problem.prompts, given.window))
