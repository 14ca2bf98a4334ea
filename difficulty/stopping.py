"""When to stop buying: each prompt's optimal stopping problem at a price, solved backwards on a grid.

A prompt on a sequence of purchases stands at (step, strength of the leading answer, strength of the next). At price c
a unit of cost, going on is worth

    V(s) = max( R(s),  E[ V(s') | s ] - c * cost of the next step )

with R(s) the objective if it stopped here. Expectations are averages over walks (`apportion.difficulty.walks`) that
pass through s: regression Monte Carlo with a table as its basis (Longstaff and Schwartz 2001). Because prompts are
coupled by the budget alone, the best policy for the whole dataset is this one at the price that spends the budget.
What is kept of each state: the critical price below which it goes on, and for each price of a grid what it will then
cost and reach. Those make an offer a lookup, and a forecast a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import csr_matrix

from apportion.difficulty.walks import Walks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = 32
"""Prices in the grid, geometric, over the whole range at which any purchase is decided."""
HIGHEST, LOWEST = 0.7, 1e-7
"""Prices per unit of the sequence's cheapest step."""
NEIGHBOURS = 4.0
"""A state's own walks are helped out by those of its neighbours as if by this many prompts."""
TRUNCATE = 2.0
"""Neighbours further away than two cells say nothing."""
MOST_CELLS = 120
"""States along one side of the grid; strengths beyond are clipped."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rounds strengths to cells: `unit` is the strength of a cell; `sides` the number of cells of leader and next."""

    unit: float
    sides: tuple[int, int]

    @staticmethod
    def of(walks: Walks, unit: float) -> Grid:
        """For all states that the walks reach."""
        first, second = (min(MOST_CELLS, round(float(each.max()) / unit) + 2) for each in (walks.first, walks.second))
        return Grid(unit, (first, second))

    def cells(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> Ints:
        """The number of each state's cell within its step, any shape."""
        one = np.minimum(np.rint(first / self.unit), self.sides[0] - 1).astype(np.int64)
        other = np.minimum(np.rint(second / self.unit), self.sides[1] - 1).astype(np.int64)
        return np.asarray(one * self.sides[1] + other, dtype=np.int64)

    def cell(self, first: float, second: float) -> int:
        """As `cells`, of one state."""
        one = min(round(first / self.unit), self.sides[0] - 1)
        return one * self.sides[1] + min(round(second / self.unit), self.sides[1] - 1)


@dataclass(frozen=True, slots=True)
class Tables:
    """What is best at every state; see the module. Prices are per unit of cost, those of `prices` ascending."""

    grid: Grid
    cost: Floats
    """of each step, [steps]"""
    prices: Floats
    critical: NDArray[np.float32]
    """price below which a state goes on, [steps + 1, cells]; 0: never"""
    now: NDArray[np.float32]
    """objective where it stops, [steps + 1, cells]"""
    reach: NDArray[np.float32]
    """objective it will reach, [steps + 1, cells, prices]"""
    spend: NDArray[np.float32]
    """what it will still cost, [steps + 1, cells, prices]"""


def price_grid(cost: Floats) -> Floats:
    """The prices at which a sequence is solved, ascending, [LEVELS]."""
    return np.asarray(np.geomspace(LOWEST, HIGHEST, LEVELS) / float(np.min(cost)))


def solve_stopping(
    walks: Walks,
    cost: Floats,
    grid: Grid,
    plurality: float,
    prices: Floats | None = None,
    rule: Floats | None = None,
) -> Tables:
    """The tables of a sequence whose steps cost `cost`, [steps]; at `prices`, or those of `price_grid`.

    `rule` is the critical price of each step whatever the state, [steps], where it is not to be what is best.
    """
    steps, cells = len(cost), grid.sides[0] * grid.sides[1]
    prices = price_grid(cost) if prices is None else prices
    levels = len(prices)
    code = grid.cells(walks.first, walks.second)
    critical = np.zeros((steps + 1, cells), dtype=np.float32)
    now = np.zeros((steps + 1, cells), dtype=np.float32)
    reach = np.zeros((steps + 1, cells, levels), dtype=np.float32)
    spend = np.zeros_like(reach)
    value = np.zeros((cells, levels))
    for step in range(steps, -1, -1):
        average = _Average(code[:, step], walks.weight, grid)
        mixed = (1.0 - plurality) * walks.right[:, step] + plurality * walks.final[:, step]
        stop, now[step] = average(np.stack([mixed, walks.right[:, step]], axis=1).astype(np.float64)).T.clip(0.0, 1.0)
        if step == steps:
            value[:] = stop[:, None]
            reach[step] = now[step][:, None]
            continue
        after = code[:, step + 1]
        ahead = average(np.concatenate([value[after], reach[step + 1, after], spend[step + 1, after]], axis=1))
        on = ahead[:, :levels] - prices * cost[step]
        if rule is None:
            go = on > stop[:, None] + 1e-9
            critical[step] = _critical(on - stop[:, None], prices)
        else:
            go = np.broadcast_to(prices < rule[step], on.shape)
            critical[step] = rule[step]
        value = np.where(go, on, stop[:, None])
        reach[step] = np.where(go, np.minimum(ahead[:, levels : 2 * levels], 1.0), now[step][:, None])
        spend[step] = np.where(go, ahead[:, 2 * levels :] + cost[step], 0.0)
    return Tables(grid, cost, prices, critical, now, reach, spend)


class _Average:
    """Averages over the walks of each cell of one step, lent to cells with few walks by their neighbours."""

    def __init__(self, code: Ints, weight: Floats, grid: Grid) -> None:
        cells = grid.sides[0] * grid.sides[1]
        self._sides = grid.sides
        self._sum = csr_matrix((weight, (code, np.arange(len(code)))), shape=(cells, len(code)))
        self._count = np.bincount(code, weights=weight, minlength=cells)
        seen = self._count > 0
        self._seen = seen
        self._near = gaussian_filter(self._count.reshape(grid.sides), 1.0, mode="constant", truncate=TRUNCATE).ravel()[
            seen
        ]
        nearest = distance_transform_edt(~seen.reshape(grid.sides), return_distances=False, return_indices=True)
        self._nearest = (nearest[0] * grid.sides[1] + nearest[1]).ravel()

    def __call__(self, values: Floats) -> Floats:
        """Mean of each column of `values`, [walks, columns], in every cell, [cells, columns]."""
        total = self._sum @ values
        spread = gaussian_filter(total.reshape(*self._sides, -1), (1.0, 1.0, 0.0), mode="constant", truncate=TRUNCATE)
        around = spread.reshape(total.shape)[self._seen] / np.maximum(self._near, 1e-12)[:, None]
        count = self._count[self._seen][:, None]
        found = np.zeros_like(total)
        found[self._seen] = (total[self._seen] + NEIGHBOURS * around) / (count + NEIGHBOURS)
        return np.asarray(found[self._nearest], dtype=np.float64)


def _critical(margin: Floats, prices: Floats) -> Floats:
    """The price at which the margin of going on, [cells, prices], turns negative; 0 where it never pays."""
    pays = margin > 1e-9
    last = pays.shape[1] - 1 - np.argmax(pays[:, ::-1], axis=1)
    line = np.arange(len(margin))
    after = np.minimum(last + 1, pays.shape[1] - 1)
    fall = margin[line, last] - margin[line, after]
    share = np.where(fall > 0.0, margin[line, last] / np.maximum(fall, 1e-300), 0.0)
    found = prices[last] + np.clip(share, 0.0, 1.0) * (prices[after] - prices[last])
    return np.where(pays.any(axis=1), found, 0.0)
