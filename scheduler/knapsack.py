"""The static plan: a multiple-choice knapsack over all prompts, solved on its dual.

Each prompt takes at most one option. At a price, each takes the hull steps whose ratio exceeds it; the price is the
smallest at which these fit the budget. What is left is filled with the next best steps that fit. By weak duality
the plan is within `gap` of the optimum, whatever the instance.

Few prompts: all steps of all hulls. Many: a sample tells two prices that the price very probably lies between, and only
the steps between those are made; that it does lie there is seen from what all prompts spend at the two, and where it
does not, the search goes on on the side that is left. The result is exact either way, and so is the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.hull import Hulls, Numbers, hulls
from apportion.scheduler.stretch import Source, Stretch, stretch

Floats = NDArray[np.float64]

MOST_FILLS = 10_000
"""Steps tried when filling what is left; each costs a Python step, and the gain of the last is tiny."""
MOST_AT_ONCE = 1 << 17
"""Prompts whose whole hulls are held: a third of a second and a hundred megabytes."""
BLOCKS, BLOCK = 512, 64
"""The sample: blocks of prompts, one at random from each equal part of them. 32,768 place the spending within 1%."""
SAFE_ERRORS = 6.0
"""Standard errors of the sampled spending to either side: a second look costs more than a wider one."""
LEAST_MARGIN = 0.002
"""Least width to either side, as a share of the spending: where all prompts are alike the sample has no error."""
WIDER = 4.0
"""What the margin grows by when the price lay outside."""
MOST_LOOKS = 8
"""By then the margin is 16,384 times what it was; a dataset that still hides its price is looked at whole."""
SAMPLE_SEED = 0


@dataclass(frozen=True, slots=True)
class StaticPlan:
    """One option a prompt (-1: none), the price, and a certificate: optimum <= value + gap."""

    options: NDArray[np.int16]
    price: float
    cost: float
    value: float
    gap: float

    @property
    def shortfall(self) -> float:
        """The most that can be missing, as a share of the best value there can be, in [0, 1]."""
        best = self.value + self.gap
        return self.gap / best if best > 0.0 else 0.0


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


def plan(cost: Numbers, gain: Numbers, budget: float) -> StaticPlan:
    """The best single purchase for every prompt, [prompts, options], at a total cost of at most `budget`.

    Costs are > 0; an infinite one is never bought. Single precision will do for the tables: sums are in double.
    """
    if len(cost) > MOST_AT_ONCE:
        return plan_from(lambda begin, end: (cost[begin:end], gain[begin:end]), len(cost), budget)
    nothing = np.full(len(cost), -1, dtype=np.int16)
    return _settled(Stretch(nothing, 0.0, 0.0, hulls(cost, gain)), max(0.0, budget))


def plan_from(source: Source, prompts: int, budget: float) -> StaticPlan:
    """The same, from tables made or read part by part: nothing of the size prompts x options is held."""
    if prompts <= MOST_AT_ONCE:
        return _settled(stretch(source, prompts, 0.0, np.inf), max(0.0, budget))
    sample, budget = _Sample(source, prompts), max(0.0, budget)
    least, most, margin = 0.0, np.inf, sample.margin(budget)
    for _ in range(MOST_LOOKS):
        low, high = sample.prices(budget, margin)
        low, high = max(low, least), min(high, most)
        found = stretch(source, prompts, low, high)
        if found.cost > budget:
            least = high
        elif low > 0.0 and found.cost + float(found.steps.cost.sum()) <= budget:
            most = low
        else:
            return _settled(found, budget)
        margin *= WIDER
    return _settled(stretch(source, prompts, 0.0, np.inf), budget)


class _Sample:
    """The hull steps of a sample of the prompts, to guess prices from. The same prompts every time."""

    def __init__(self, source: Source, prompts: int) -> None:
        edges = np.linspace(0, prompts, BLOCKS + 1).astype(np.int64)
        room = np.maximum(np.diff(edges) - BLOCK, 0)
        begins = edges[:-1] + (np.random.default_rng(SAMPLE_SEED).random(BLOCKS) * (room + 1)).astype(np.int64)
        tables = [
            tuple(np.broadcast_to(table, (BLOCK, table.shape[1])) for table in source(begin, begin + BLOCK))
            for begin in begins.tolist()
        ]
        steps = hulls(np.concatenate([cost for cost, _ in tables]), np.concatenate([gain for _, gain in tables]))
        self._block = steps.prompt // BLOCK
        self._ratio, self._cost = steps.ratio, steps.cost
        self._share = BLOCKS * BLOCK / prompts

    def margin(self, budget: float) -> float:
        """How far the sample's spending may be from its share of all spending, at the price of the budget."""
        price = price_for(self._ratio, self._cost, budget * self._share)
        taken = self._ratio >= price
        spent = np.bincount(self._block[taken], self._cost[taken], minlength=BLOCKS)
        # Neighbouring blocks differ by their noise and not by what changes slowly along the dataset.
        error = float(np.sqrt(0.5 * np.square(np.diff(spent)).sum()))
        return max(SAFE_ERRORS * error, LEAST_MARGIN * float(spent.sum()))

    def prices(self, budget: float, margin: float) -> tuple[float, float]:
        """Two prices, the first the lower, at which the sample spends `margin` more and less than its share."""
        aim = budget * self._share
        low = price_for(self._ratio, self._cost, aim + margin)
        if aim <= margin or not len(self._ratio):
            return low * (1.0 - 1e-9), np.inf
        # Where everything fits any price will do that is below all ratios, or as good as below.
        high = price_for(self._ratio, self._cost, aim - margin) or float(self._ratio.min())
        # Ties at the price lie inside.
        return low * (1.0 - 1e-9), high * (1.0 + 1e-9)


def _settled(found: Stretch, budget: float) -> StaticPlan:
    """The plan, given all steps around its price: what is bought above them fits the budget, and with them it may not.

    Weak duality holds at any price, so the certificate does not rest on the price being the right one.
    """
    steps, ratio, left = found.steps, found.steps.ratio, budget - found.cost
    price = price_for(ratio, steps.cost, left)
    taken = ratio > price
    gain, cost = float(steps.gain[taken].sum()), float(steps.cost[taken].sum())
    bound = found.gain + gain + (price * (left - cost) if price > 0.0 else 0.0)
    taken = _fill(steps, ratio, price, taken, left - cost)
    options = found.options.copy()
    # Steps of a prompt are in order, so the last one written wins.
    options[steps.prompt[taken]] = steps.option[taken]
    value = found.gain + float(steps.gain[taken].sum())
    return StaticPlan(options, price, found.cost + float(steps.cost[taken].sum()), value, max(0.0, bound - value))


def _fill(steps: Hulls, ratio: Floats, price: float, taken: NDArray[np.bool_], left: float) -> NDArray[np.bool_]:
    """Take further steps, best ratio first, each only where its prompt took all steps before it."""
    taken = taken.copy()
    # Where prompts are alike very many steps have the price itself: as many as fit, in the order of prompts.
    level = np.flatnonzero(ratio == price)
    spent = np.cumsum(steps.cost[level])
    fitting = int(np.searchsorted(spent, left, side="right"))
    if fitting:
        taken[level[:fitting]] = True
        left -= float(spent[fitting - 1])
    open_steps = np.flatnonzero(~taken & (steps.cost <= left))
    if len(open_steps) > MOST_FILLS:
        best = np.argpartition(-ratio[open_steps], MOST_FILLS)[:MOST_FILLS]
        open_steps = open_steps[np.sort(best)]
    first = np.ones(len(taken), dtype=bool)
    first[1:] = steps.prompt[1:] != steps.prompt[:-1]
    for at in open_steps[np.argsort(-ratio[open_steps], kind="stable")]:
        if steps.cost[at] <= left and (first[at] or taken[at - 1]):
            taken[at] = True
            left -= float(steps.cost[at])
    return taken
