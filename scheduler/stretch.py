"""The hulls of very many prompts between two prices: all that a search for the price between them needs.

Nothing is sorted and nothing of full size is held. At a price a prompt's best option is a maximum over gain - price x
cost; between the best at a high price and the best at a low one lie its hull's steps, and whatever lies above the chord
of two neighbours splits it. A narrow stretch costs two maxima a prompt, whatever the number of its options.
Invariants: the same input gives the same steps, whatever the number of threads; memory is that of what is returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.hull import Floats, Hulls, Ints, Numbers, joined

Source = Callable[[int, int], tuple[Numbers, Numbers]]
"""Cost and gain of the prompts begin..end-1, each [prompts, options], or [1, options] where all are alike.

Called from several threads at once, for any range, and possibly more than once for one, with the same answer."""

CHUNK = 1 << 13
"""Prompts worked on at once: a table of 32 options is two megabytes, about what the processor holds near."""
MOST_THREADS = 8
"""Beyond, threads wait for memory and for the interpreter."""
ABOVE = 1e-12
"""A point this little above a chord, as a share of the gains it joins, lies on it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The hulls between two prices: what is bought at the high one, and the steps from there to the low one."""

    options: NDArray[np.int16]
    """what each prompt buys at the high price, -1: nothing, [prompts]"""
    cost: float
    """of all prompts together, at the high price"""
    gain: float
    steps: Hulls


def stretch(source: Source, prompts: int, low: float, high: float) -> Stretch:
    """The hulls of all prompts between two prices, 0 <= low < high; an infinite price buys nothing.

    Steps whose ratio is one of the two prices may or may not be among them.
    """

    def part(begin: int) -> Stretch:
        end = min(begin + CHUNK, prompts)
        cost, gain = (
            np.ascontiguousarray(np.broadcast_to(table, (end - begin, table.shape[1])), dtype=np.float64)
            for table in source(begin, end)
        )
        return _stretch_of_chunk(cost, gain, low, high, begin)

    parts: list[Hulls] = []
    options = np.full(prompts, -1, dtype=np.int16)
    spent, gained = 0.0, 0.0
    for begin, found in zip(range(0, prompts, CHUNK), _in_order(part, range(0, prompts, CHUNK)), strict=True):
        options[begin : begin + len(found.options)] = found.options
        spent, gained = spent + found.cost, gained + found.gain
        parts.append(found.steps)
    return Stretch(options, spent, gained, joined(parts))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(work: Callable[[int], Stretch], begins: range) -> Iterator[Stretch]:
    """The results in order, from as many threads as there are processors; numpy lets them run side by side."""
    threads = min(MOST_THREADS, processors(), len(begins))
    if threads < 2:
        yield from map(work, begins)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, begins)


def _stretch_of_chunk(cost: Floats, gain: Floats, low: float, high: float, begin: int) -> Stretch:
    """The stretch of some prompts, the first of which is number `begin`."""
    score = np.empty_like(cost)
    first = np.full(len(cost), -1) if np.isinf(high) else _best_at(cost, gain, high, score)
    last = _best_at(cost, gain, low, score)
    taken = np.flatnonzero(first >= 0)
    spent, gained = float(cost[taken, first[taken]].sum()), float(gain[taken, first[taken]].sum())
    row = np.flatnonzero(first != last)
    left, right = first[row], last[row]
    done: list[tuple[Ints, Ints, Floats, Floats, Floats]] = []
    while len(row):
        x, y = _at(cost, row, left), _at(gain, row, left)
        run, rise = _at(cost, row, right) - x, _at(gain, row, right) - y
        real = (run > 0.0) & (rise > 0.0)
        if not real.all():
            row, left, right = row[real], left[real], right[real]
            x, y, run, rise = x[real], y[real], run[real], rise[real]
        slope = rise / run
        height = score[: len(row)] if len(row) <= len(score) else np.empty((len(row), cost.shape[1]))
        mine = cost[row]
        np.multiply(mine, slope[:, None], out=height)
        np.subtract(gain[row], height, out=height)
        at = height.argmax(axis=1)
        over = height[np.arange(len(row)), at] - (y - slope * x)
        between = _at(cost, row, at) - x
        above = (over > ABOVE * (np.abs(y) + rise)) & (between > 0.0) & (between < run)
        final = ~above
        done.append((row[final], right[final], x[final], run[final], rise[final]))
        row, left, at, right = row[above], left[above], at[above], right[above]
        row, left, right = np.concatenate([row, row]), np.concatenate([left, at]), np.concatenate([at, right])
    return Stretch(first.astype(np.int16), spent, gained, _steps(done, begin))


def _steps(done: list[tuple[Ints, Ints, Floats, Floats, Floats]], begin: int) -> Hulls:
    """Steps in the order of prompts, and of each prompt's costs."""
    if not done:
        return joined([])
    row, option, x, run, rise = (np.concatenate(column) for column in zip(*done, strict=True))
    order = np.lexsort((x, row))
    return Hulls(row[order] + begin, option[order].astype(np.int16), run[order], rise[order])


def _best_at(cost: Floats, gain: Floats, price: float, score: Floats) -> Ints:
    """The option with the greatest gain less its cost at a price, -1 where none is positive, [prompts].

    At no price that is the greatest gain of what can be had at all. `score` is room to work in.
    """
    if price > 0.0:
        np.multiply(cost, price, out=score)
        np.subtract(gain, score, out=score)
    else:
        np.copyto(score, gain)
        score[~np.isfinite(cost)] = -np.inf
    at = score.argmax(axis=1)
    return np.where(score[np.arange(len(at)), at] > 0.0, at, -1)


def _at(table: Floats, row: Ints, option: Ints) -> Floats:
    """The entries at some options, 0 where the option is "nothing"."""
    return np.where(option >= 0, table[row, option], 0.0)
