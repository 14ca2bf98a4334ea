"""The static plan of a job as a forecast: one purchase a prompt, chosen before anything is seen, with its certificate.

It is a yardstick for the forecast of a policy that looks at what it gets: such a policy should reach more. It is worked
out from the responses that a policy which models them starts from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apportion.difficulty.registry import estimate
from apportion.scheduler.allocation import CostModel
from apportion.scheduler.assemble import Prepared, problem_of
from apportion.scheduler.counted import Counted
from apportion.scheduler.knapsack import plan
from apportion.scheduler.outlook import Outlook


@dataclass(frozen=True, slots=True)
class StaticForecast:
    """What one purchase a prompt is expected to reach. `value` is the mean objective per prompt, `spent` of all.

    `price` is what a unit of budget must earn; `shortfall` the most by which `value`, as a share of the best that one
    purchase a prompt can gain, can fall short.
    """

    value: float
    spent: float
    price: float
    shortfall: float


def static_forecast(outlook: Outlook | Counted, budget: float) -> StaticForecast:
    """The static plan of what is believed of every prompt's options, which must be up to date."""
    found = plan(outlook.cost, outlook.gain, budget)
    value = float(outlook.now.mean()) + found.value / len(outlook.now)
    return StaticForecast(value, found.cost, found.price, found.shortfall)


def forecast_of_job(prepared: Prepared, costs: CostModel) -> StaticForecast:
    """The static plan of a job before it starts. Raises ConfigError as its responses do."""
    spec, problem = prepared.spec, problem_of(prepared, costs)
    start = estimate(spec.arms, problem.texts, prepared.fitted)
    if problem.counts:
        return static_forecast(Counted(problem, start), spec.budget)
    outlook = Outlook.begin(problem, start)
    outlook.update(np.arange(problem.prompts, dtype=np.int64))
    return static_forecast(outlook, spec.budget)
