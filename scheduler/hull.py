"""Concave hulls of options, many prompts at once.

An option is a purchase with a cost and a gain. Only the options on the upper concave hull (from "buy nothing" at the
origin) can be optimal at any price; along it, each step costs more per unit of gain than the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hulls:
    """Hull steps of many prompts, flat, prompts ascending and steps in order within each prompt.

    `ratio` is gain over cost of the step alone: positive, and falling within a prompt.
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
        return np.asarray(self.gain / self.cost)


def hulls(cost: Floats, gain: Floats) -> Hulls:
    """The hulls of [prompts, options]; an option with an infinite cost or no gain is never on one. Costs are > 0.

    Gift wrapping: from the last hull point, the next is the option with the steepest slope; of equal slopes the
    farthest. One pass over the arrays for each step of the longest hull.
    """
    count, options = cost.shape
    at_cost, at_gain = np.zeros(count), np.zeros(count)
    rows = np.arange(count)
    found: list[tuple[Ints, Ints, Floats, Floats]] = []
    for _ in range(options):
        if not len(rows):
            break
        run, rise = cost[rows] - at_cost[rows, None], gain[rows] - at_gain[rows, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where((run > 0) & (rise > 0) & np.isfinite(run), rise / run, 0.0)
        best = slope.max(axis=1)
        far = np.where(slope >= best[:, None] * (1.0 - 1e-12), run, -np.inf)
        option = far.argmax(axis=1)
        keep = best > 0
        rows, option = rows[keep], option[keep]
        new_cost, new_gain = cost[rows, option], gain[rows, option]
        found.append((rows, option, new_cost - at_cost[rows], new_gain - at_gain[rows]))
        at_cost[rows], at_gain[rows] = new_cost, new_gain
    if not found:
        nothing, zero = np.zeros(0, dtype=np.int64), np.zeros(0)
        return Hulls(nothing, nothing, zero, zero)
    prompt, option, run, rise = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(prompt, kind="stable")
    return Hulls(prompt[order], option[order], run[order], rise[order])


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
