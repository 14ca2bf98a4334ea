"""What a budget is expected to reach, from the same responses that the allocator buys by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.allocation import Forecast
from apportion.scheduler.hull import hulls
from apportion.scheduler.knapsack import price_for
from apportion.scheduler.outlook import Outlook

Floats = NDArray[np.float64]

NINETY = 1.645
"""Standard deviations on either side that hold 90% of a normal distribution."""
PRIOR_DEVIATION = 0.2
"""How far the mean pass rate of an unknown dataset may be from what is assumed before a sample is drawn."""
LABEL_FREE_DEVIATION = 0.06
"""What agreement alone cannot tell: whether a dataset's favourite answers are its right ones."""


def forecast_plan(outlook: Outlook, active: NDArray[np.int64], budgets: Sequence[float]) -> tuple[Forecast, ...]:
    """The static plan's value at each budget, for the prompts in `active`; the others keep their present value.

    Of the steps at the price itself as large a part is taken as the budget holds, the same part of each.
    """
    steps = hulls(outlook.cost[active], outlook.gain[active].astype(np.float64))
    ratio = steps.ratio
    found = []
    for budget in budgets:
        price = price_for(ratio, steps.cost, max(0.0, budget))
        part = (ratio > price).astype(np.float64)
        spent = float(steps.cost @ part)
        margin = ratio == price
        if margin.any():
            part[margin] = min(1.0, max(0.0, budget - spent) / float(steps.cost[margin].sum()))
        value = outlook.now.copy()
        np.add.at(value, active[steps.prompt], steps.gain * part)
        found.append(interval(outlook, value, budget, float(steps.cost @ part)))
    return tuple(found)


def interval(outlook: Outlook, value: Floats, budget: float, spent: float) -> Forecast:
    """Mean value with a 90% interval: chance over the prompts, and what is not known of the dataset."""
    value = np.clip(value, 0.0, 1.0)
    mean = float(value.mean())
    chance = float((value * (1.0 - value)).sum()) / len(value) ** 2
    seen = int((outlook.purchases > 0).sum())
    unknown = PRIOR_DEVIATION**2 / (1.0 + seen)
    if outlook.difficulty.start.trained:
        unknown = 0.0
    deviation = float(np.sqrt(chance + unknown + LABEL_FREE_DEVIATION**2 * min(1.0, 4.0 * mean * (1.0 - mean))))
    return Forecast(budget, spent, mean, max(0.0, mean - NINETY * deviation), min(1.0, mean + NINETY * deviation))
