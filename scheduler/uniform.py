"""The same number of samples of one arm for every prompt: the baseline that adaptive spending has to beat.

Each prompt buys once. n is fixed by a setting, or the largest whose expected total cost fits the budget; what is left
then gives some prompts one more. Purchases are worked out again as real costs come in, for prompts not yet served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from apportion.difficulty.estimator import Start
from apportion.errors import ConfigError, nearest
from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.forecasts import interval
from apportion.scheduler.outlook import Outlook
from apportion.types import Candidate, Purchase

MOST_SAMPLES = 4096
"""No prompt is given more, however large the budget."""
FORECAST_AMOUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Amounts whose response is worked out; between them the forecast is interpolated."""


@dataclass(frozen=True, slots=True)
class UniformSettings:
    """`arm` defaults to the config's first; `n` to what the budget holds."""

    arm: str | None = None
    n: int | None = None


class Uniform:
    """The uniform policy; see the module."""

    def __init__(self, settings: UniformSettings, problem: Problem, start: Start) -> None:
        names = [arm.name for arm in problem.arms]
        name = names[0] if settings.arm is None else settings.arm
        if name not in names:
            raise ConfigError(f"allocation.arm is {name!r}, which is no arm of this job: {nearest(name, names)}")
        self._at = names.index(name)
        self._arm = problem.arms[self._at]
        if settings.n is not None:
            self._refuse(settings.n)
        self._fixed = settings.n
        self._problem = problem
        view = replace(problem, arms=tuple(replace(arm, amounts=FORECAST_AMOUNTS) for arm in problem.arms))
        self._outlook = Outlook.begin(view, start)
        self._served = np.zeros(problem.prompts, dtype=bool)
        self._under_way = np.zeros(problem.prompts, dtype=bool)
        self._granted_cost = np.zeros(problem.prompts)
        self._amounts = np.zeros(problem.prompts, dtype=np.int64)
        self.reprice(problem.budget)

    @property
    def price(self) -> float:
        return 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._served[prompt]:
            return Rest.STOP
        one = np.array([prompt])
        n = int(self._amounts[prompt])
        while n >= 1:
            cost = float(self._problem.costs.predict(one, self._arm.name, n)[0])
            if cost <= most:
                break
            n = self._allowed(n - 1)
        if n < 1:
            return Rest.WAIT
        self._under_way[prompt] = True
        self._granted_cost[prompt] = cost
        return Offer(Purchase(self._arm.name, n), self._gain(prompt, n), cost)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._outlook.observe(prompt, self._at, candidates)
        self._served[prompt] = True
        self._under_way[prompt] = False

    def reprice(self, available: float) -> None:
        """Share `available` evenly among the prompts that have not been served."""
        self._outlook.update(np.arange(self._problem.prompts))
        waiting = np.flatnonzero(~self._served & ~self._under_way)
        if not len(waiting):
            return
        if self._fixed is not None:
            self._amounts[waiting] = self._fixed
            return
        left = available - float(self._granted_cost[self._under_way].sum())
        n = self._largest(waiting, left)
        self._amounts[waiting] = n
        more = self._next(n)
        if more is not None:
            base = self._costs(waiting, n)
            extra = np.cumsum(self._costs(waiting, more) - base)
            self._amounts[waiting[extra <= left - float(base.sum())]] = more

    def difficulty(self, prompt: int) -> float:
        return self._outlook.difficulty.pass_rate(prompt, self._at)

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """The value of as many samples each as a budget holds, interpolated between amounts."""
        waiting = np.flatnonzero(~self._served)
        found = []
        for budget in budgets:
            value, spent = self._outlook.now.copy(), 0.0
            n = self._fixed if self._fixed is not None else self._largest(waiting, budget) if len(waiting) else 0
            if len(waiting) and n >= 1:
                value[waiting] += self._gains(waiting, n)
                spent = float(self._costs(waiting, n).sum())
            found.append(interval(self._outlook, value, budget, spent))
        return tuple(found)

    def _costs(self, prompts: np.ndarray, n: int) -> np.ndarray:
        return self._problem.costs.predict(prompts, self._arm.name, n) if n else np.zeros(len(prompts))

    def _gain(self, prompt: int, n: int) -> float:
        return float(self._gains(np.array([prompt]), n)[0])

    def _gains(self, prompts: np.ndarray, n: int) -> np.ndarray:
        """Expected gain of n samples, [prompts], linear in log n between the amounts worked out."""
        columns = [at for at, option in enumerate(self._outlook.options) if option.arm == self._at]
        place = float(np.interp(np.log(n), np.log(FORECAST_AMOUNTS), np.arange(len(FORECAST_AMOUNTS))))
        low = int(place)
        high = min(low + 1, len(columns) - 1)
        left = self._outlook.gain[prompts, columns[low]].astype(np.float64)
        right = self._outlook.gain[prompts, columns[high]].astype(np.float64)
        return np.asarray(left + (place - low) * (right - left))

    def _largest(self, prompts: np.ndarray, available: float) -> int:
        """The largest allowed n whose expected cost for all these prompts fits; 0 where none does."""
        low, high = 0, 1
        while high <= MOST_SAMPLES and float(self._costs(prompts, high).sum()) <= available:
            low, high = high, high * 2
        high = min(high, MOST_SAMPLES + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if float(self._costs(prompts, middle).sum()) <= available:
                low = middle
            else:
                high = middle
        return self._allowed(low)

    def _allowed(self, n: int) -> int:
        """The largest amount up to n that the strategy takes; 0 where none is."""
        while n >= 1 and self._arm.strategy.check(n) is not None:
            n -= 1
        return max(0, n)

    def _next(self, n: int) -> int | None:
        """The next amount above n that the strategy takes, at most twice as large."""
        return next(
            (m for m in range(n + 1, min(2 * n + 64, MOST_SAMPLES) + 1) if not self._arm.strategy.check(m)), None
        )

    def _refuse(self, n: int) -> None:
        why = f"n is {n}; it must be at least 1" if n < 1 else self._arm.strategy.check(n)
        if why is not None:
            raise ConfigError(f"allocation.n: {why}")
