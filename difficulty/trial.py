"""A playbook on trial: what it costs and reaches on prompts that its tables were not made from.

Two halves of the prompts take turns: tables of one, walks of the other. The figures decide between playbooks and are
the forecast of a fitted policy; those of the tables themselves are too good to be true, as any maximum over noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.playbook import Orders, Playbook
from apportion.difficulty.stopping import Grid, Tables, solve_stopping
from apportion.difficulty.walks import Walks

Floats = NDArray[np.float64]

HALVES = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean cost and objective a prompt at each price, [prices], prices ascending; over `prompts` prompts.

    `doubt` is by how much it must be better than another to be taken instead.
    """

    prices: Floats
    cost: Floats
    value: Floats
    prompts: int
    doubt: float = 0.0

    def at(self, cost: float) -> float:
        """The objective reached for a mean cost a prompt, interpolated along the best that the trial saw."""
        order = np.argsort(self.cost, kind="stable")
        known, best = self.cost[order], np.maximum.accumulate(self.value[order])
        # A prompt that buys nothing gets no answer, and below the cheapest purchase a part of the prompts does so.
        return float(np.interp(cost, np.concatenate([[0.0], known]), np.concatenate([[0.0], best])))

    def worth(self, cost: float) -> float:
        """What it is taken for beside others."""
        return self.at(cost) - self.doubt


def try_out(book: Playbook, orders: Orders, cost: Sequence[float], prices: Floats) -> Trial:
    """The trial of a fitted playbook whose steps cost `cost`, [steps]."""
    walks = orders.walks(book)
    grid = Grid.of(walks, book.unit)
    half = orders.prompts % HALVES
    parts = []
    for one in range(HALVES):
        tables = solve_stopping(walks.some(half != one), np.asarray(cost), grid, book.plurality, prices)
        parts.append(_watch(walks.some(half == one), tables))
    spent, value = np.sum(parts, axis=0) / float(walks.weight.sum())
    return Trial(prices, spent, value, len(orders.pool.ids))


def watch(book: Playbook, tables: Tables, orders: Orders, unit_cost: float) -> Trial:
    """The trial of a playbook whose tables owe nothing to the pool; a unit of table cost costs `unit_cost`.

    As many of its steps as the pool has candidates for.
    """
    drawn: dict[str, int] = dict.fromkeys(book.arms, 0)
    steps = 0
    for arm, n in book.steps:
        drawn[arm] += n
        if drawn[arm] > orders.most(arm):
            break
        steps += 1
    walks = orders.walks(replace(book, steps=book.steps[:steps]))
    spent, value = _watch(walks, replace(tables, cost=tables.cost[:steps])) / float(walks.weight.sum())
    return Trial(tables.prices, spent * unit_cost, value, len(orders.pool.ids))


def _watch(walks: Walks, tables: Tables) -> Floats:
    """Cost and objective of all walks together that stop where the tables say, [2, prices]."""
    paid = np.concatenate([[0.0], np.cumsum(tables.cost)])
    code = tables.grid.cells(walks.first, walks.second)
    limit = tables.critical[np.arange(len(paid)), code]
    limit[:, -1] = 0.0
    line = np.arange(len(code))
    stops = [np.argmax(limit <= price, axis=1) for price in tables.prices]
    spent = [walks.weight @ paid[stop] for stop in stops]
    value = [walks.weight @ walks.right[line, stop] for stop in stops]
    return np.array([spent, value])


def quick_value(walks: Walks, half: NDArray[np.int64], cost: Floats, book: Playbook, price: float) -> float:
    """What `try_out` finds at one price, objective less price times cost, without its care for rare states.

    A search asks this of hundreds of sequences. `half` is the half each walk's prompt is in, [walks].
    """
    grid = Grid.of(walks, book.unit)
    code = grid.cells(walks.first, walks.second)
    cells = grid.sides[0] * grid.sides[1]
    reward = (1.0 - book.plurality) * walks.right + book.plurality * walks.final
    paid = np.concatenate([[0.0], np.cumsum(cost)])
    total = 0.0
    for one in range(HALVES):
        own, other = np.flatnonzero(half != one), np.flatnonzero(half == one)
        value = np.zeros(cells)
        stop = np.full(len(other), len(cost))
        for step in range(len(cost), -1, -1):
            at, weight = code[own, step], walks.weight[own]
            count = np.maximum(np.bincount(at, weights=weight, minlength=cells), 1e-12)
            now = np.bincount(at, weights=weight * reward[own, step], minlength=cells) / count
            if step == len(cost):
                value = now
                continue
            ahead = np.bincount(at, weights=weight * value[code[own, step + 1]], minlength=cells) / count
            on = ahead - price * cost[step]
            value = np.maximum(now, on)
            stop = np.where(on[code[other, step]] > now[code[other, step]], stop, step)
        total += float(walks.weight[other] @ (walks.right[other, stop] - price * paid[stop]))
    return total / float(walks.weight.sum())
