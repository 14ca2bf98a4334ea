"""What an allocation policy is: it offers each prompt its next purchase, and learns from what came of it.

Pure: no clock, no I/O, no randomness beyond a seed in its settings. The same calls in the same order give the same
offers, so that a journal can be replayed. Prompts are numbered 0..prompts-1; costs and the budget are in the budget's
unit. Implementations are named in `apportion.scheduler.allocations` and chosen by the config's `allocation.policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.objectives import COUNTING, Objective
from apportion.policies.arm import Arm
from apportion.types import Candidate, Purchase

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNBOUNDED = 1 << 30
"""Candidates that an arm can give a prompt which has no limit."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A purchase worth making now. `gain` is in expected objective, `cost` the expected cost."""

    purchase: Purchase
    gain: float
    cost: float

    @property
    def ratio(self) -> float:
        """Expected objective bought per unit of budget."""
        return self.gain / self.cost if self.cost > 0 else float("inf")


class Rest(StrEnum):
    """Why a prompt gets no offer now."""

    WAIT = "wait"
    """its next purchase is not worth the present price, but may be if the price falls"""
    STOP = "stop"
    """no more purchases, whatever happens"""


class CostModel(Protocol):
    """Expected costs, corrected by the job from what purchases really cost."""

    def predict(self, prompts: NDArray[np.int64], arm: str, n: int) -> Floats:
        """Expected cost in the budget's unit of one purchase for each of `prompts`, [prompts]."""
        ...

    def predict_one(self, prompt: int, arm: str, n: int) -> float:
        """`predict` for one prompt, in plain numbers: much quicker than an array of one."""
        ...

    def known(self, arm: str) -> bool:
        """Whether it was seen what an arm costs, or known beforehand."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """What an allocation policy is given at the start of a job.

    `budget` is in the budget's unit. `texts` are the prompts', for a prior from the text. `goal` is the config's
    objective. `limits` says how many candidates each arm can give each prompt in all, [prompts, arms], `UNBOUNDED` for
    any number; None: so for every arm. No offer may go beyond it. `recorded` is whether candidates are dealt from a
    recording, and have the scores that were recorded. `checked` is whether every candidate has a score, which tells
    whether it is accepted.
    `guessed` is the pass@1 that each prompt's hidden state says, [prompts], nan where none is known; None where nobody
    looked. The reference answers are not here, and cannot be.
    """

    texts: Sequence[str]
    arms: tuple[Arm, ...]
    costs: CostModel
    budget: float
    goal: Objective
    seed: int
    limits: Ints | None = None
    checked: bool = False
    guessed: Floats | None = None
    recorded: bool = False

    @property
    def prompts(self) -> int:
        return len(self.texts)

    def most(self, arm: int) -> int:
        """The most candidates that an arm, by its place, can give any prompt."""
        return UNBOUNDED if self.limits is None or not self.prompts else int(self.limits[:, arm].max())

    @property
    def objective(self) -> str:
        """The name of the goal."""
        return self.goal.name

    @property
    def counts(self) -> bool:
        """Whether what a prompt has reached is known by counting: what is sought is accepted candidates, and every
        candidate says whether it is one."""
        return self.goal.name in COUNTING or (self.goal.name == "coverage" and self.checked)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a budget is expected to reach: the mean objective per prompt, with a 90% interval."""

    budget: float
    spent: float
    value: float
    low: float
    high: float


class Allocation(Protocol):
    """An allocation policy."""

    @property
    def price(self) -> float:
        """Expected objective that one unit of budget must earn now; 0 where the policy has no price."""
        ...

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        """The next purchase of a prompt, whose expected cost must be at most `most`.

        Never called while a purchase of the prompt is under way.
        """
        ...

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        """A purchase ended with these new candidates and this real cost. `candidates` may be fewer than bought."""
        ...

    def reprice(self, available: float) -> None:
        """Solve the price again over all prompts that were not told to stop, each as last observed.

        `available` is the budget less what observed purchases have cost. A purchase under way is not observed yet:
        it is part of its prompt's plan, and its cost part of `available`.
        """
        ...

    def difficulty(self, prompt: int) -> float:
        """The present posterior mean of pass@1 of the prompt's cheapest arm, in [0, 1]."""
        ...

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """What each budget, counted from now, is expected to reach; empty where the policy makes no forecast.

        Spends nothing and changes nothing.
        """
        ...


@runtime_checkable
class Closing(Protocol):
    """An allocation policy whose decisions depend on which prompts still buy (see `apportion.scheduler.buyers`)."""

    def close(self, prompt: int) -> None:
        """The prompt is committed and buys nothing more, told to stop or not: it may have failed, or be too dear."""
        ...


@runtime_checkable
class Answering(Protocol):
    """An allocation policy that also knows how to weigh candidates of different arms against each other."""

    def answer(self, prompt: int) -> str | None:
        """The answer of a prompt; None leaves it to the selector of the arm bought last."""
        ...
