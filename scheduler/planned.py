"""Policies that know a curve of each prompt: the static plan, carried out, and made good where costs differ.

A curve is the expected objective after n samples of one arm, whatever was bought of others. The plan is the
multiple-choice knapsack of `apportion.scheduler.knapsack` over what each prompt can still buy: an amount of one arm,
of which it holds some already, or of another. It is solved again when costs have drifted from what was expected, and
when all that was planned is bought, so that what is left goes to the next best steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.allocation import Floats, Forecast, Ints, Offer, Problem, Rest
from apportion.scheduler.forecasts import around
from apportion.scheduler.knapsack import plan
from apportion.types import Candidate, Purchase

DRIFT = 0.02
"""The plan is solved again when purchases have cost more or less than expected by this share of what is left."""
WORTH = 1e-9
"""A step that gains less gains nothing."""
LEAST_COST = 1e-12
"""A purchase that costs nothing costs this, so that it has a ratio."""


class Planned:
    """What each prompt holds, is to buy next, and could buy."""

    def __init__(
        self,
        problem: Problem,
        amounts: Mapping[str, Sequence[int]],
        each: Mapping[str, Floats] | None = None,
        switching: bool = False,
    ) -> None:
        """`amounts` are those of the curves, by arm name; arms without any are not used. `each` are costs of single
        samples, [prompts], for arms where they are known better than the problem's. `switching`: a prompt that holds
        samples of one arm may go on with another, whose curve then counts alone."""
        self.problem = problem
        self.arms = [arm.name for arm in problem.arms]
        self.options = [(at, n) for at, name in enumerate(self.arms) for n in amounts.get(name, ())]
        self.value = np.full((problem.prompts, len(self.options)), np.nan)
        """expected objective of each option, [prompts, options]; nan where it cannot be had"""
        self.price = 0.0
        self._each = each or {}
        self._switching = switching
        self._option_arm = np.array([at for at, _ in self.options], dtype=np.int64)
        self._option_n = np.array([n for _, n in self.options], dtype=np.int64)
        self._held_arm = np.full(problem.prompts, -1, dtype=np.int64)
        self._held_n = np.zeros(problem.prompts, dtype=np.int64)
        self._bought = np.zeros((problem.prompts, len(self.arms)), dtype=np.int64)
        self._granted: dict[int, float] = {}
        self._cost = np.full(self.value.shape, np.inf)
        self._gain = np.zeros(self.value.shape)
        self._target = [-1] * problem.prompts
        self._hopeless = bytearray(problem.prompts)
        self._closed = np.zeros(problem.prompts, dtype=bool)
        self._planned = 0
        self._drift = 0.0
        self._solved = False

    def know(self, prompts: Ints, arm: int, value: Floats) -> None:
        """The curve of an arm for some prompts, [prompts, amounts]."""
        self.value[np.ix_(prompts, np.flatnonzero(self._option_arm == arm))] = value
        self._solved = False

    def hold(self, prompt: int, arm: int, n: int) -> None:
        """A prompt has `n` more samples of an arm."""
        self._held_n[prompt] = n + (self._held_n[prompt] if self._held_arm[prompt] == arm else 0)
        self._held_arm[prompt] = arm
        self._bought[prompt, arm] += n

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        """What the plan has for the prompt; a cheaper step towards it where it costs more than `most`."""
        if self._hopeless[prompt]:
            return Rest.STOP
        target = self._target[prompt]
        if target < 0:
            return Rest.WAIT
        cost = float(self._cost[prompt, target])
        if cost > most:
            gains = np.where(self._cost[prompt] <= most, self._gain[prompt], 0.0)
            target = int(gains.argmax())
            if gains[target] <= WORTH:
                return Rest.WAIT
            cost = float(self._cost[prompt, target])
        at, n = self.options[target]
        self._granted[prompt] = cost
        n -= int(self._held_n[prompt]) if self._held_arm[prompt] == at else 0
        return Offer(Purchase(self.arms[at], n), float(self._gain[prompt, target]), cost)

    def observe(self, prompt: int, purchase: Purchase, cost: float) -> None:
        """A purchase ended."""
        self.hold(prompt, self.arms.index(purchase.arm), purchase.n)
        self._drift += cost - self._granted.pop(prompt, cost)
        if self._target[prompt] >= 0:
            self._planned -= 1
            self._target[prompt] = -1

    def close(self, prompt: int) -> None:
        """A prompt buys nothing more: what was planned for it goes to others."""
        self._closed[prompt] = True
        if self._target[prompt] >= 0:
            self._drift -= float(self._cost[prompt, self._target[prompt]])
            self._planned -= 1
            self._target[prompt] = -1

    def reprice(self, available: float) -> None:
        """Solve the plan again where it is due."""
        if self._solved and self._planned > 0 and abs(self._drift) <= DRIFT * available:
            return
        self._work_out()
        found = plan(self._cost, self._gain, available)
        self.price = found.price
        self._target = found.options.tolist()
        self._planned = int((found.options >= 0).sum())
        self._drift, self._solved = 0.0, True

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """What the plan for each budget is worth by the curves; the interval is chance over the prompts alone."""
        self._work_out()
        now = self._now()
        found = []
        for budget in budgets:
            best = plan(self._cost, self._gain, budget)
            bought = np.flatnonzero(best.options >= 0)
            value = now.copy()
            value[bought] += self._gain[bought, best.options[bought]]
            value = np.clip(value, 0.0, 1.0)
            mean = float(value.mean())
            deviation = float(np.sqrt((value * (1.0 - value)).sum())) / len(value)
            found.append(Forecast(budget, best.cost, mean, *around(mean, deviation)))
        return tuple(found)

    def _now(self) -> Floats:
        """The value of what each prompt holds, [prompts]: that of the largest amount on its curve up to it."""
        if not self.options:
            return np.zeros(self.problem.prompts)
        same = (self._option_arm[None] == self._held_arm[:, None]) & (self._option_n[None] <= self._held_n[:, None])
        same &= np.isfinite(self.value)
        last = np.where(same, self._option_n[None], 0).argmax(axis=1)
        return np.where(same.any(axis=1), self.value[np.arange(len(last)), last], 0.0)

    def _work_out(self) -> None:
        """Gain and cost of every option of every prompt from what it holds, [prompts, options]."""
        gain = np.nan_to_num(self.value, nan=-1.0) - self._now()[:, None]
        self._cost.fill(np.inf)
        limits = self.problem.limits
        for held in np.unique(np.stack([self._held_arm, self._held_n]), axis=1).T.tolist():
            prompts = np.flatnonzero((self._held_arm == held[0]) & (self._held_n == held[1]))
            for column, (at, n) in enumerate(self.options):
                more = n - held[1] if at == held[0] else n
                closed = held[0] >= 0 and at != held[0] and not self._switching
                if more < 1 or closed or self.problem.arms[at].strategy.check(more) is not None:
                    continue
                cost = self._costs(prompts, at, more)
                if limits is not None:
                    cost = np.where(self._bought[prompts, at] + more <= limits[prompts, at], cost, np.inf)
                self._cost[prompts, column] = cost
        self._cost[self._closed] = np.inf
        worth: NDArray[np.bool_] = (gain > WORTH) & np.isfinite(self._cost)
        self._gain = np.where(worth, gain, 0.0)
        self._cost[~worth] = np.inf
        self._hopeless = bytearray((~worth.any(axis=1)).tobytes())

    def _costs(self, prompts: Ints, arm: int, n: int) -> Floats:
        each = self._each.get(self.arms[arm])
        cost = self.problem.costs.predict(prompts, self.arms[arm], n) if each is None else each[prompts] * n
        return np.maximum(cost, LEAST_COST)


class FixedPlan:
    """An allocation policy whose curves are known beforehand: it plans, and learns nothing but costs.

    `pass_rate` is what it takes each prompt's difficulty to be, [prompts].
    """

    def __init__(self, planned: Planned, pass_rate: Floats) -> None:
        self._planned = planned
        self._pass_rate = pass_rate

    @property
    def price(self) -> float:
        return self._planned.price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        return self._planned.offer(prompt, most)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._planned.observe(prompt, purchase, cost)

    def close(self, prompt: int) -> None:
        self._planned.close(prompt)

    def reprice(self, available: float) -> None:
        self._planned.reprice(available)

    def difficulty(self, prompt: int) -> float:
        return float(self._pass_rate[prompt])

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """The plan's value by the curves; the interval is chance alone, not what the curves have wrong."""
        return self._planned.forecast(budgets)
