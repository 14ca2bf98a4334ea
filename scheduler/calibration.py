"""Every arm for every prompt, prompt after prompt: how labelled prompts are recorded as a pool.

Independent samples can be dealt from one large purchase, so an arm that draws them buys `samples` once, or in parts
where the budget does not cover the worst case of them all. A search of one size cannot be dealt from another (a beam of
4 is no part of a beam of 16), so a search buys each amount it is configured with, each as if it were the first
(`apportion.scheduler.machine.Settings`): a chain of 16 does not go on from one of 4. A prompt begins only after those
before it have begun, and only if the budget is expected to hold all its purchases beside those that begun prompts still
need: where it ends, a prefix of the prompts is complete on all arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apportion.difficulty.estimator import Difficulty
from apportion.errors import BudgetError, ConfigError
from apportion.policies.arm import Arm
from apportion.policies.strategy import draws_independently
from apportion.scheduler.allocation import Allocation, Forecast, Ints, Offer, Problem, Rest
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.one_arm import OneArm
from apportion.types import Candidate, Purchase

SAMPLES = 16
"""Candidates of each independent arm unless given: enough to see a vote settle, and to fit a prior on 200 prompts."""


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """`samples` of every arm that draws independently."""

    samples: int = SAMPLES


def independent(arm: Arm) -> bool:
    """Whether any number of an arm's candidates can be dealt from more of them."""
    return draws_independently(arm.strategy)


def script(arms: Sequence[Arm], samples: int, most: Sequence[int]) -> tuple[Purchase, ...]:
    """What each prompt buys, in this order; of an arm that draws independently no more than `most`, [arms]."""
    return tuple(
        Purchase(arm.name, n)
        for arm, cap in zip(arms, most, strict=True)
        for n in ((min(samples, cap),) if independent(arm) else arm.amounts)
    )


def calibration(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy by the config's settings. Raises ConfigError, or BudgetError where no prompt can be completed."""
    chosen = own_settings(CalibrationSettings, settings)
    if chosen.samples < 1:
        raise ConfigError(f"allocation.samples is {chosen.samples}, but must be at least 1")
    return Calibration(chosen, problem, Difficulty(problem.prompts, problem.arms, known.start))


class Calibration:
    """The calibration policy; see the module. Prompts are taken in order of number."""

    def __init__(self, settings: CalibrationSettings, problem: Problem, difficulty: Difficulty) -> None:
        self._problem = problem
        self._difficulty = difficulty
        self._place = {arm.name: at for at, arm in enumerate(problem.arms)}
        most = [problem.most(at) for at in range(len(problem.arms))]
        self._script = script(problem.arms, settings.samples, most)
        self._dealt = {
            arm.name: OneArm(problem, arm.name, None, settings.samples) for arm in problem.arms if independent(arm)
        }
        """arms of which a part can be bought"""
        self._step = np.zeros(problem.prompts, dtype=np.int64)
        self._bought = np.zeros((problem.prompts, len(problem.arms)), dtype=np.int64)
        self._begun = 0
        self._unfinished: set[int] = set()
        whole = self._costs(np.arange(problem.prompts), 0)
        if float(whole.min()) > problem.budget:
            raise BudgetError(
                f"the budget of {problem.budget:g} is less than all arms are expected to cost one prompt "
                f"({float(whole.min()):g}); raise it, record fewer samples, or leave arms out (arms.NAME=null)"
            )

    @property
    def price(self) -> float:
        return 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        purchase = self._next(prompt)
        if purchase is None:
            return Rest.STOP
        if prompt > self._begun:
            return Rest.WAIT
        cost = self._problem.costs.predict_one(prompt, purchase.arm, purchase.n)
        if prompt == self._begun:
            if float(self._costs(np.array([prompt]), 0)[0]) + self._promised() > most:
                return Rest.WAIT
            self._begun += 1
            self._unfinished.add(prompt)
        elif cost > most:
            dealt, bought = self._dealt.get(purchase.arm), int(self._bought[prompt, self._place[purchase.arm]])
            part = None if dealt is None else dealt.purchase(prompt, purchase.n, bought, most)
            if part is None:
                return Rest.WAIT
            purchase, cost = part
        # The ratio of gain to cost is what the queue goes by: the first prompt first.
        return Offer(purchase, cost * (self._problem.prompts - prompt), cost)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        at = self._place[purchase.arm]
        self._difficulty.observe(prompt, at, candidates)
        self._bought[prompt, at] += purchase.n
        # A request failed or was cut off: the prompt may buy no more. A search may end with fewer than it began with.
        dealt = purchase.arm in self._dealt
        lost = len(candidates) < purchase.n if dealt else not candidates
        if lost or not dealt or self._bought[prompt, at] >= self._script[int(self._step[prompt])].n:
            self._step[prompt] += 1
        if lost or self._step[prompt] == len(self._script):
            self._unfinished.discard(prompt)

    def close(self, prompt: int) -> None:
        """A prompt that failed buys nothing more, however many candidates it has."""
        self._unfinished.discard(prompt)

    def reprice(self, available: float) -> None:
        """Nothing has a price."""

    def difficulty(self, prompt: int) -> float:
        return self._difficulty.pass_rate(prompt)

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """None: nothing is chosen, so nothing is reached."""
        return ()

    def _next(self, prompt: int) -> Purchase | None:
        """The next purchase of a prompt, within what its arm can give; None after the last."""
        limits = self._problem.limits
        while self._step[prompt] < len(self._script):
            purchase = self._script[int(self._step[prompt])]
            at = self._place[purchase.arm]
            bought, dealt = int(self._bought[prompt, at]), purchase.arm in self._dealt
            lacks = purchase.n - bought if dealt else purchase.n
            left = lacks if limits is None else int(limits[prompt, at]) - bought
            n = min(lacks, left) if dealt else lacks
            if 0 < n <= left:
                return Purchase(purchase.arm, n)
            self._step[prompt] += 1
        return None

    def _promised(self) -> float:
        """What the prompts that have begun are still expected to buy.

        What is under way counts here and is no longer available: prompts that could begin may wait until it is over,
        when all that is left is shared out at once. An offer need not have been taken, so the policy cannot tell.
        """
        begun = np.array(sorted(self._unfinished), dtype=np.int64)
        steps = self._step[begun]
        return float(sum(self._costs(begun[steps == step], step).sum() for step in np.unique(steps)))

    def _costs(self, prompts: Ints, step: int) -> np.ndarray:
        """Expected cost of the purchases from this one on, [prompts]."""
        cost = np.zeros(len(prompts))
        for purchase in self._script[step:]:
            cost += self._problem.costs.predict(prompts, purchase.arm, purchase.n)
        return cost
