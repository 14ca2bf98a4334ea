"""Concave hulls of options, many prompts at once.

An option is a purchase with a cost and a gain. Only the options on the upper concave hull (from "buy nothing" at the
origin) can be optimal at any price; along it, each step costs more per unit of gain than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.floating[Any]]
"""Inputs may be of single precision; what is made of them never is."""

CHUNK = 1 << 12
"""Prompts whose options are worked on at once: a table of 32 is a megabyte, which the processor holds near."""


@dataclass(frozen=True, slots=True)
class Hulls:
    """Hull steps of many prompts, flat, prompts ascending and steps in order within each prompt.

    `ratio` is gain over cost of the step alone: positive, and falling within a prompt; infinite where it costs nothing.
    """

    prompt: Ints
    option: Ints
    """the option that is bought when this step is the last one taken"""
    cost: Floats
    """cost of the step alone"""
    gain: Floats
    """gain of the step alone"""

    @property
    def ratio(self) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(self.gain / self.cost)


def hulls(cost: Numbers, gain: Numbers, most: float = np.inf) -> Hulls:
    """The hulls of [prompts, options]; an option with no gain, or a cost that is infinite or more than `most`, is never
    on one. Costs are > 0.

    A point under the chord of its neighbours is on no hull, whatever else is dropped with it: all such points go at
    once, until none is left. Each pass halves what is far from concave, so that few are needed.
    """

    def part(begin: int) -> Hulls:
        rows = slice(begin, begin + CHUNK)
        return _hulls_of_chunk(cost[rows].astype(np.float64), gain[rows].astype(np.float64), begin, most)

    return joined([part(begin) for begin in range(0, len(cost), CHUNK)])


def joined(parts: Sequence[Hulls]) -> Hulls:
    """One after the other."""
    if not parts:
        nothing, zero = np.zeros(0, dtype=np.int64), np.zeros(0)
        return Hulls(nothing, nothing, zero, zero)
    return Hulls(
        np.concatenate([part.prompt for part in parts]),
        np.concatenate([part.option for part in parts]),
        np.concatenate([part.cost for part in parts]),
        np.concatenate([part.gain for part in parts]),
    )


def _hulls_of_chunk(cost: Floats, gain: Floats, begin: int, most: float) -> Hulls:
    """The hulls of some prompts, the first of which is number `begin`."""
    cost, gain, option = _by_cost(cost, gain)
    # Worth a look are finite options that gain more than every cheaper one, and the origin of each prompt.
    best = np.maximum.accumulate(np.maximum(gain, 0.0), axis=1)
    rises = np.ones(gain.shape, dtype=bool)
    rises[:, 1:] = gain[:, 1:] > best[:, :-1]
    keep = rises & (gain > 0.0) & np.isfinite(cost) & (cost <= most)
    flags = np.concatenate([np.ones((len(cost), 1), dtype=bool), keep], axis=1)
    row, column = np.nonzero(flags)
    origin = column == 0
    at = np.maximum(column - 1, 0)
    x = np.where(origin, 0.0, cost[row, at])
    y = np.where(origin, 0.0, gain[row, at])
    which = np.where(origin, -1, option[row, at] if option.ndim == 2 else option[at])
    while len(x) > 2:
        inner = ~origin[1:-1] & ~origin[2:]
        left, up = x[1:-1] - x[:-2], y[1:-1] - y[:-2]
        right, on = x[2:] - x[1:-1], y[2:] - y[1:-1]
        under = inner & (up * right <= on * left * (1.0 + 1e-12))
        if not under.any():
            break
        stay = np.concatenate([[True], ~under, [True]])
        x, y, which, row, origin = x[stay], y[stay], which[stay], row[stay], origin[stay]
    step = np.flatnonzero(~origin)
    return Hulls(row[step] + begin, which[step], x[step] - x[step - 1], y[step] - y[step - 1])


def _by_cost(cost: Floats, gain: Floats) -> tuple[Floats, Floats, Ints]:
    """Options in order of cost, of equal costs the best last; and which they were, [options] or [prompts, options]."""
    order = np.lexsort((gain[0], cost[0]))
    one, other = cost[:, order], gain[:, order]
    with np.errstate(invalid="ignore"):
        # Two infinite costs have no difference, and then each prompt is put in its own order.
        up, level = np.diff(one, axis=1), np.diff(other, axis=1)
    # Mostly what is dearer for one prompt is dearer for all, and one order serves.
    if bool(((up > 0) | ((up == 0) & (level >= 0))).all()):
        return one, other, order.astype(np.int64)
    every = np.lexsort((gain, cost), axis=1)
    return np.take_along_axis(cost, every, axis=1), np.take_along_axis(gain, every, axis=1), every.astype(np.int64)


def hull_of(cost: list[float], gain: list[float], most: float) -> list[tuple[int, float, float]]:
    """The hull of one prompt's options that cost at most `most`: steps of (option, cost, gain), ratios falling.

    The same as `hulls`, without its arrays, which cost more than the work for a single prompt.
    """
    steps: list[tuple[int, float, float]] = []
    at_cost = at_gain = 0.0
    open_options = [at for at, one in enumerate(cost) if one <= most and gain[at] > 0.0]
    while open_options:
        best, best_slope, further = -1, 0.0, []
        for at in open_options:
            run, rise = cost[at] - at_cost, gain[at] - at_gain
            if run <= 0.0 or rise <= 0.0:
                continue
            further.append(at)
            slope = rise / run
            level = best >= 0 and slope >= best_slope * (1.0 - 1e-12)
            if slope > best_slope * (1.0 + 1e-12) or (level and cost[at] > cost[best]):
                best, best_slope = at, max(slope, best_slope)
        if best < 0:
            break
        steps.append((best, cost[best] - at_cost, gain[best] - at_gain))
        at_cost, at_gain = cost[best], gain[best]
        open_options = further
    return steps
