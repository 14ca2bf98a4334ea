"""One price for compute: each prompt buys while its next purchase earns more per unit of budget than the price.

The price is the Lagrange multiplier of the budget: the least at which the plans of all prompts, as they look now, cost
no more than what is left. A prompt's plan is the steps of its options' concave hull that earn more than the price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from apportion.scheduler.allocation import Forecast, Offer, Rest
from apportion.scheduler.buyers import Buyers
from apportion.scheduler.forecasts import interval
from apportion.scheduler.hull import hull_of, hulls
from apportion.scheduler.knapsack import price_for
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.rehearsal import Cohort, rehearse
from apportion.types import Candidate, Purchase

SETTLED_GAIN = 1e-4
"""A prompt whose best purchase adds less than this to its expected objective is settled, or hopeless."""
DEARER = 1.25
"""A part of a purchase may cost this much more a sample than the whole: about what looking again saves."""
PROBE_SHARE = 0.25
"""A probe takes at most this share of what there is for a prompt: the rest is to be spent knowing more."""


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """`stride` is the share of a worthwhile purchase that is bought before looking again: 1 buys it whole."""

    stride: float = 0.25


class Price:
    """The price policy; see the module.

    `begin` gives the outlook that a job with another budget starts from, where that is another.
    """

    def __init__(
        self,
        settings: PriceSettings,
        outlook: Outlook,
        probe: int,
        begin: Callable[[float], Outlook] | None = None,
    ) -> None:
        problem = outlook.problem
        self._settings = settings
        self._outlook = outlook
        self._begin = begin
        self._probe = max(1, probe)
        self._arms = {arm.name: at for at, arm in enumerate(problem.arms)}
        self._buyers = Buyers(problem.prompts)
        self._price = 0.0
        self._probe_cost = 0.0
        self.reprice(problem.budget)
        each = np.array([option.n for option in outlook.options])
        self._cheapest = outlook.options[int(np.argmin(outlook.cost.sum(axis=0) / each))].arm

    @property
    def price(self) -> float:
        return self._price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        outlook = self._outlook
        if self._buyers.out[prompt]:
            return Rest.STOP
        outlook.update_one(prompt)
        gain: list[float] = outlook.gain[prompt].tolist()
        cost: list[float] = outlook.cost[prompt].tolist()
        if max(gain) < SETTLED_GAIN:
            self._buyers.out[prompt] = True
            return Rest.STOP
        # The step at the margin has exactly the price.
        least = self._price * (1.0 - 1e-9)
        worth = [option for option, run, rise in hull_of(cost, gain, most) if rise >= least * run]
        if not worth:
            return Rest.WAIT
        aim = worth[0]
        first = outlook.purchases[prompt] == 0
        taken = self._first(worth, cost) if first else self._stride(aim, cost)
        option = outlook.options[taken]
        return Offer(Purchase(option.name, option.n), gain[aim] / cost[aim] * cost[taken], cost[taken])

    def _stride(self, aim: int, cost: list[float]) -> int:
        """The first part of the purchase aimed at: what it shows may make the rest needless.

        A larger one, up to the whole, where small ones cost much more a sample (each purchase reads the prompt again).
        """
        options = self._outlook.options
        target = options[aim].n * self._settings.stride
        part = aim
        while part > 0 and options[part - 1].arm == options[aim].arm and options[part].n > max(target, 1.0):
            part -= 1
        while part < aim and cost[part] / options[part].n > DEARER * cost[aim] / options[aim].n:
            part += 1
        return part

    def _first(self, worth: list[int], cost: list[float]) -> int:
        """The probe: the largest worthwhile purchase of the best arm that is no larger than it and leaves enough."""
        options = self._outlook.options
        arm = options[worth[0]].arm

        def fits(option: int) -> bool:
            return options[option].n <= self._probe and cost[option] <= self._probe_cost

        best = max((option for option in worth if options[option].arm == arm and fits(option)), default=worth[0])
        while best > 0 and options[best - 1].arm == arm and not fits(best):
            best -= 1
        return best

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._outlook.observe(prompt, self._arms[purchase.arm], candidates, purchase.n)
        self._buyers.bought(prompt, len(candidates))

    def close(self, prompt: int) -> None:
        self._buyers.close(prompt)

    def reprice(self, available: float) -> None:
        active = self._buyers.active
        self._outlook.update(active)
        steps = hulls(self._outlook.cost[active], self._outlook.gain[active].astype(np.float64), available)
        self._price = price_for(steps.ratio, steps.cost, max(0.0, available) * (1 + self._buyers.vain))
        self._probe_cost = PROBE_SHARE * max(0.0, available) / max(1, len(active))

    def difficulty(self, prompt: int) -> float:
        return self._outlook.difficulty.pass_rate(prompt, self._cheapest)

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """Rehearsed on a sample of the prompts: what this policy would do and learn, from here on."""
        active, fresh = self._buyers.active, not self._outlook.purchases.any()
        found, most = {}, 0.0
        for budget in sorted(budgets):
            outlook = self._begin(budget) if fresh and self._begin is not None else self._outlook
            value, spent = outlook.now.copy(), 0.0
            if len(active) and budget > 0.0:
                cohort = Cohort(outlook, active)
                gained, spent = rehearse(Price(self._settings, cohort.outlook, self._probe), cohort, budget)
                # A larger budget never reaches less; where it seems to, that is the rehearsal's noise.
                most = max(most, gained)
                value[active] += most
            found[budget] = interval(outlook, value, budget, spent)
        return tuple(found[budget] for budget in budgets)
