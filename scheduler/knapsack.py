"""The static plan: a multiple-choice knapsack over all prompts, solved on its dual.

Each prompt takes at most one option. At a price, each takes the hull steps whose ratio exceeds it; the price is the
smallest at which these fit the budget. What is left is filled with the next best steps that fit. By weak duality
the plan is within `gap` of the optimum, whatever the instance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.hull import Hulls, hulls

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_FILLS = 10_000
"""Steps tried when filling what is left; each costs a Python step, and the gain of the last is tiny."""


@dataclass(frozen=True, slots=True)
class StaticPlan:
    """One option a prompt (-1: none), the price, and a certificate: optimum <= value + gap."""

    options: Ints
    price: float
    cost: float
    value: float
    gap: float


def price_for(ratio: Floats, cost: Floats, available: float) -> float:
    """The smallest price at which the steps with a higher ratio cost at most `available`; 0 where all fit.

    The answer is one of the ratios. Bisection on the ratios that are still open, halving them each time.
    """
    if float(cost.sum()) <= available:
        return 0.0
    low_cost = 0.0  # of steps known to be above the answer
    while len(ratio) > 1:
        pivot = float(np.partition(ratio, len(ratio) // 2)[len(ratio) // 2])
        above = ratio > pivot
        spent = low_cost + float(cost[above].sum())
        if spent > available:
            ratio, cost = ratio[above], cost[above]
            continue
        level = ratio == pivot
        if spent + float(cost[level].sum()) > available:
            return pivot
        below = ~(above | level)
        low_cost = spent + float(cost[level].sum())
        ratio, cost = ratio[below], cost[below]
    return float(ratio[0]) if len(ratio) else 0.0


def plan(cost: Floats, gain: Floats, budget: float) -> StaticPlan:
    """The best single purchase for every prompt, [prompts, options], at a total cost of at most `budget`."""
    steps = hulls(cost, gain)
    ratio = steps.ratio
    price = price_for(ratio, steps.cost, budget)
    taken = ratio > price
    spent = float(steps.cost[taken].sum())
    bound = float((steps.gain - price * steps.cost)[taken].sum()) + price * budget if len(ratio) else 0.0
    taken = _fill(steps, ratio, taken, budget - spent)
    options = np.full(len(cost), -1, dtype=np.int64)
    # Steps of a prompt are in order, so the last one written wins.
    options[steps.prompt[taken]] = steps.option[taken]
    value = float(steps.gain[taken].sum())
    return StaticPlan(options, price, float(steps.cost[taken].sum()), value, max(0.0, bound - value))


def _fill(steps: Hulls, ratio: Floats, taken: NDArray[np.bool_], left: float) -> NDArray[np.bool_]:
    """Take further steps, best ratio first, each only where its prompt took all steps before it."""
    open_steps = np.flatnonzero(~taken & (steps.cost <= left))
    order = open_steps[np.argsort(-ratio[open_steps], kind="stable")][:MOST_FILLS]
    taken = taken.copy()
    first = np.ones(len(taken), dtype=bool)
    first[1:] = steps.prompt[1:] != steps.prompt[:-1]
    for at in order:
        if steps.cost[at] <= left and (first[at] or taken[at - 1]):
            taken[at] = True
            left -= float(steps.cost[at])
    return taken
