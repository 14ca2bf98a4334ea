"""A playbook on trial: what it costs and reaches on prompts that its tables were not made from.

Two halves of the prompts take turns: tables of one, walks of the other. The figures decide between playbooks and are
the forecast of a fitted policy; those of the tables themselves are too good to be true, as any maximum over noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.playbook import Orders, Playbook
from apportion.difficulty.stopping import Grid, solve_stopping
from apportion.difficulty.walks import Walks

Floats = NDArray[np.float64]

HALVES = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean cost and objective a prompt at each price, [prices], prices ascending; over `prompts` prompts."""

    prices: Floats
    cost: Floats
    value: Floats
    prompts: int

    def at(self, cost: float) -> float:
        """The objective reached for a mean cost a prompt, interpolated along the best that the trial saw."""
        order = np.argsort(self.cost, kind="stable")
        known, best = self.cost[order], np.maximum.accumulate(self.value[order])
        # A prompt that buys nothing gets no answer, and below the cheapest purchase a part of the prompts does so.
        return float(np.interp(cost, np.concatenate([[0.0], known]), np.concatenate([[0.0], best])))


def try_out(book: Playbook, orders: Orders, cost: Sequence[float], prices: Floats) -> Trial:
    """The trial of a playbook whose steps cost `cost`, [steps]."""
    walks = orders.walks(book)
    grid = Grid.of(walks, book.unit)
    code = grid.cells(walks.first, walks.second)
    paid = np.concatenate([[0.0], np.cumsum(cost)])
    half = orders.prompts % HALVES
    spent, value = np.zeros(len(prices)), np.zeros(len(prices))
    for one in range(HALVES):
        own, other = half != one, half == one
        critical = solve_stopping(_some(walks, own), np.asarray(cost), grid, book.plurality, prices).critical
        limit = critical[np.arange(len(paid)), code[other]]
        weight = walks.weight[other]
        for at, price in enumerate(prices):
            stop = np.argmax(limit <= price, axis=1)
            spent[at] += weight @ paid[stop]
            value[at] += weight @ walks.right[other][np.arange(len(stop)), stop]
    total = float(walks.weight.sum())
    return Trial(prices, spent / total, value / total, len(orders.pool.ids))


def _some(walks: Walks, some: NDArray[np.bool_]) -> Walks:
    return Walks(*(part[some] for part in (walks.first, walks.second, walks.right, walks.final)), walks.weight[some])
