"""What the allocator believes of every prompt's options: value now, gain and cost of each purchase.

Kept as arrays over prompts and brought up to date where something changed: a prompt after its own candidates, all
prompts after the dataset's beliefs were fitted again. Prompts with nothing to tell them apart are worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.arms import ArmResponses
from apportion.difficulty.estimator import Difficulty, Start
from apportion.difficulty.standing import Scene
from apportion.scheduler.allocation import CostModel, Problem
from apportion.types import Candidate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REFRESH_GROWTH = 1.25
"""The dataset's beliefs are fitted again when a quarter more candidates have been seen."""
CHUNK = 2048
"""Prompts worked on at once: their arrays stay within the processor's cache and a few megabytes."""
MOST_KNOWN = 20_000
"""Kinds of evidence remembered between two fits of the dataset's beliefs; a few megabytes."""


@dataclass(frozen=True, slots=True)
class Option:
    """One purchase that an arm offers."""

    arm: int
    name: str
    n: int


def options_of(problem: Problem) -> tuple[Option, ...]:
    """All purchases of all arms, arms in the config's order and amounts ascending."""
    return tuple(Option(at, arm.name, n) for at, arm in enumerate(problem.arms) for n in sorted(set(arm.amounts)))


@dataclass(frozen=True, slots=True)
class _PartCosts:
    """The costs of some prompts, numbered from 0."""

    whole: CostModel
    prompts: Ints

    def predict(self, prompts: Ints, arm: str, n: int) -> Floats:
        return self.whole.predict(self.prompts[prompts], arm, n)

    def predict_one(self, prompt: int, arm: str, n: int) -> float:
        return self.whole.predict_one(int(self.prompts[prompt]), arm, n)

    def known(self, arm: str) -> bool:
        return self.whole.known(arm)


class Outlook:
    """Value, gains and costs of all prompts of a job."""

    def __init__(self, problem: Problem, difficulty: Difficulty) -> None:
        self.problem = problem
        self.options = options_of(problem)
        self.difficulty = difficulty
        self.now = np.zeros(problem.prompts)
        self.gain = np.zeros((problem.prompts, len(self.options)), dtype=np.float32)
        self.cost = np.zeros((problem.prompts, len(self.options)), dtype=np.float64)
        self.purchases = np.zeros(problem.prompts, dtype=np.int32)
        self._arm = np.array([option.arm for option in self.options], dtype=np.int64)
        self._n = np.array([option.n for option in self.options], dtype=np.int64)
        self._left = None if problem.limits is None else problem.limits.copy()
        self._fresh = np.zeros(problem.prompts, dtype=bool)
        self._last = np.zeros(problem.prompts, dtype=np.int16)
        self._responses = ArmResponses(problem.arms, problem.objective)
        self._scored = difficulty.scored
        self._known: dict[bytes, tuple[float, NDArray[np.float32]]] = {}
        self._make_responses()

    @classmethod
    def begin(cls, problem: Problem, start: Start) -> Outlook:
        """Before any evidence."""
        return cls(problem, Difficulty(problem.prompts, problem.arms, start))

    def part(self, prompts: Ints) -> Outlook:
        """A copy for some prompts, that can be played with."""
        texts, costs = [self.problem.texts[at] for at in prompts.tolist()], _PartCosts(self.costs, prompts)
        limits = None if self._left is None else self._left[prompts]
        found = Outlook(replace(self.problem, texts=texts, costs=costs, limits=limits), self.difficulty.part(prompts))
        found.purchases = self.purchases[prompts].copy()
        found._last = self._last[prompts].copy()
        return found

    @property
    def costs(self) -> CostModel:
        return self.problem.costs

    def observe(self, prompt: int, arm: int, candidates: Sequence[Candidate], bought: int) -> None:
        """Take in the candidates of one purchase of `bought`."""
        self.difficulty.observe(prompt, arm, candidates)
        if self._left is not None:
            self._left[prompt, arm] -= bought
        if self.difficulty.scored and not self._scored:
            # From the first score on, votes are weighed by scores.
            self._scored = True
            self._make_responses()
        self.purchases[prompt] += 1
        self._last[prompt] = arm
        self._fresh[prompt] = False

    def update_one(self, prompt: int) -> None:
        """Bring one prompt up to date, costs included."""
        if self._fresh[prompt]:
            return
        self._work_out_one(prompt)
        self._keep_to_limits(np.array([prompt]))
        for at, option in enumerate(self.options):
            self.cost[prompt, at] = self.costs.predict_one(prompt, option.name, option.n)
        self._fresh[prompt] = True

    def update(self, prompts: Ints) -> None:
        """Bring many prompts up to date; fit the dataset's beliefs again where enough has been seen."""
        if self.difficulty.stale(REFRESH_GROWTH):
            self.difficulty.refresh()
            self._make_responses()
        due = prompts[~self._fresh[prompts]]
        if len(due):
            first, group = self._alike(due)
            for begin in range(0, len(first), CHUNK):
                self._work_out(due[first[begin : begin + CHUNK]])
            if len(first) < len(due):
                self.now[due], self.gain[due] = self.now[due[first]][group], self.gain[due[first]][group]
        self._keep_to_limits(prompts)
        for at, option in enumerate(self.options):
            self.cost[prompts, at] = self.costs.predict(prompts, option.name, option.n)
        self._fresh[prompts] = True

    def _keep_to_limits(self, prompts: Ints) -> None:
        """A purchase of more than an arm has left for a prompt gains nothing."""
        if self._left is not None:
            self.gain[prompts] *= self._n <= self._left[prompts][:, self._arm]

    def _alike(self, prompts: Ints) -> tuple[Ints, Ints]:
        """Positions of the first prompt of each kind, and the kind of each prompt: alike ones are worked out once."""
        if self._scored or self.difficulty.start.text is not None:
            return np.arange(len(prompts)), np.arange(len(prompts))
        signatures = self.difficulty.evidence.signatures(prompts)
        rows = np.ascontiguousarray(signatures).view(
            np.dtype((np.void, signatures.dtype.itemsize * signatures.shape[1]))
        )
        _, first, group = np.unique(rows[:, 0], return_index=True, return_inverse=True)
        return first, group

    def _work_out_one(self, prompt: int) -> None:
        """As `_work_out`, remembering what was worked out for evidence of the same kind."""
        one = slice(prompt, prompt + 1)
        if self._scored or self.difficulty.start.text is not None:
            self._work_out(one)
            return
        key = self.difficulty.evidence.signatures(one).tobytes()
        known = self._known.get(key)
        if known is None:
            self._work_out(one)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = (float(self.now[prompt]), self.gain[prompt].copy())
        else:
            self.now[prompt], self.gain[prompt] = known

    def _work_out(self, prompts: Ints | slice) -> None:
        rows, belief = self.difficulty.belief(prompts)
        scene = Scene(rows, belief, self.difficulty.world.prior)
        now = self._responses.present(scene, self._last[prompts])
        self.now[prompts] = now
        self.gain[prompts] = self._responses.value(scene) - now[:, None]

    def _make_responses(self) -> None:
        """Again from the present beliefs about the dataset; what was worked out before does not hold."""
        beliefs = self.difficulty
        self._responses.make(self._scored, beliefs.world.lifts, beliefs.worth, beliefs.weights)
        self._fresh[:] = False
        self._known.clear()
