"""One price for compute: each prompt buys while its next purchase earns more per unit of budget than the price.

The price is the Lagrange multiplier of the budget: the least at which the plans of all prompts, as they look now, cost
no more than what is left. A prompt's plan is the steps of its options' concave hull that earn more than the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apportion.difficulty.estimator import Start
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.forecasts import forecast_plan
from apportion.scheduler.hull import hull_of, hulls
from apportion.scheduler.knapsack import price_for
from apportion.scheduler.outlook import Outlook
from apportion.types import Candidate, Purchase

SETTLED_GAIN = 1e-4
"""A prompt whose best purchase adds less than this to its expected objective is settled, or hopeless."""


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """`grow` buys all steps that beat the price at once, rather than the best one and then looking again."""

    grow: bool = False


class Price:
    """The price policy; see the module."""

    def __init__(self, settings: PriceSettings, problem: Problem, probe: int, start: Start) -> None:
        if probe < 1:
            raise ConfigError(f"difficulty.probe is {probe}; a probe needs at least 1 sample")
        self._settings = settings
        self._outlook = Outlook(problem, start)
        self._probe = probe
        self._stopped = np.zeros(problem.prompts, dtype=bool)
        self._price = 0.0
        self._available = problem.budget
        self.reprice(problem.budget)

    @property
    def price(self) -> float:
        return self._price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        outlook = self._outlook
        if self._stopped[prompt]:
            return Rest.STOP
        outlook.update_one(prompt)
        gain: list[float] = outlook.gain[prompt].tolist()
        cost: list[float] = outlook.cost[prompt].tolist()
        if max(gain) < SETTLED_GAIN:
            self._stopped[prompt] = True
            return Rest.STOP
        # The step at the margin has exactly the price.
        least = self._price * (1.0 - 1e-9)
        worth = [option for option, run, rise in hull_of(cost, gain, most) if rise >= least * run]
        if not worth:
            return Rest.WAIT
        taken = worth[-1] if self._settings.grow else worth[0]
        if outlook.purchases[prompt] == 0:
            taken = self._first(worth)
        option = outlook.options[taken]
        return Offer(Purchase(option.name, option.n), gain[taken], cost[taken])

    def _first(self, worth: list[int]) -> int:
        """The probe: the largest worthwhile purchase of the best arm that is no larger than it."""
        options = self._outlook.options
        best = worth[0]
        for option in worth[1:]:
            if options[option].arm == options[best].arm and options[option].n <= self._probe:
                best = option
        return best

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        arm = next(at for at, arm in enumerate(self._outlook.problem.arms) if arm.name == purchase.arm)
        self._outlook.observe(prompt, arm, candidates)
        self._available -= cost

    def reprice(self, available: float) -> None:
        self._available = available
        active = np.flatnonzero(~self._stopped)
        self._outlook.update(active)
        steps = hulls(self._outlook.cost[active], self._outlook.gain[active].astype(np.float64))
        self._price = price_for(steps.ratio, steps.cost, max(0.0, available))

    def difficulty(self, prompt: int) -> float:
        return self._outlook.difficulty.pass_rate(prompt)

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        active = np.flatnonzero(~self._stopped)
        return forecast_plan(self._outlook, active, budgets)
