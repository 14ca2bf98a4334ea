"""Buying one candidate at a time and looking each time: what the best such rule gains and costs.

After i more accepted and j more rejected candidates the chance that the next is accepted is a ratio of moments of the
belief, m(i + 1, j) / m(i, j) with m(i, j) = E[p^i (1 - p)^j]; the objective's value is known at every (i, j). So the
best rule for a price is optimal stopping over these states, solved backwards from a horizon.

Why it is needed: a forecast of buying one at a time, which does not pay for what it turns out not to need; and for
objectives whose gain rises with good news. A pair is worth nothing after its first candidate, and a prompt that is
either hopeless or easy is worth a first try for what it tells of the next ones: the greedy index, the gain of one more
over its cost, does not see that. (The hull over purchases of several sees most of it; the allocator buys by it.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.objectives import Objective

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HORIZON = 48
"""Candidates looked ahead; what is worth more is bought and looked at again."""
ROUNDS = 12
"""Of the index; each squares its error, and six are usually enough."""
CHUNK = 1024
"""Prompts worked on at once; their moments are 10 MB."""


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Expected gain and expected cost of the best rule, each [rows]; both 0 where buying nothing is best."""

    gain: Floats
    cost: Floats


def look_ahead(
    weights: Floats,
    passing: Floats,
    accepted: Ints,
    rejected: Ints,
    objective: Objective,
    cost: Floats,
    price: Floats | float,
    horizon: int = HORIZON,
    first: bool = False,
) -> Lookahead:
    """The best rule for prompts believed to pass at `passing` [POINTS] with `weights` [rows, POINTS].

    `cost` of one candidate and `price` (what a unit of it must earn) are [rows]. `first` buys the first in any case.
    """
    gains, costs = np.zeros(len(weights)), np.zeros(len(weights))
    prices = np.broadcast_to(np.asarray(price, dtype=np.float64), len(weights))
    for begin in range(0, len(weights), CHUNK):
        rows = slice(begin, begin + CHUNK)
        chances = _chances(weights[rows], passing, horizon)
        found = _solve(chances, accepted[rows], rejected[rows], objective, cost[rows], prices[rows], first)
        gains[rows], costs[rows] = found.gain, found.cost
    return Lookahead(gains, costs)


def index(
    weights: Floats,
    passing: Floats,
    accepted: Ints,
    rejected: Ints,
    objective: Objective,
    cost: Floats,
    horizon: int = HORIZON,
) -> Floats:
    """The best expected gain per expected cost that any rule reaches which buys at least one, [rows] (Dinkelbach).

    That is the highest price at which a prompt is still worth buying for: its Gittins index for this arm.
    """
    best = np.zeros(len(weights))
    for begin in range(0, len(weights), CHUNK):
        rows = slice(begin, begin + CHUNK)
        chances = _chances(weights[rows], passing, horizon)
        for _ in range(ROUNDS):
            found = _solve(chances, accepted[rows], rejected[rows], objective, cost[rows], best[rows], first=True)
            ratio = found.gain / found.cost
            if (ratio <= best[rows] * (1.0 + 1e-9)).all():
                break
            best[rows] = np.maximum(ratio, best[rows])
    return best


def _chances(weights: Floats, passing: Floats, horizon: int) -> list[Floats]:
    """For each number t of candidates seen, the chance that the next is accepted after i of t were, [rows, t + 1]."""
    log_yes, log_no = np.log(passing), np.log1p(-passing)
    chances = []
    for t in range(horizon):
        i = np.arange(t + 1)[:, None]
        # Scaled so that the likeliest rate has weight 1: only the ratio matters.
        log = i * log_yes + (t - i) * log_no
        like = np.exp(log - log.max(axis=1, keepdims=True))
        whole = weights @ like.T
        chances.append((weights @ (like * passing).T) / np.maximum(whole, 1e-300))
    return chances


def _solve(
    chances: list[Floats],
    accepted: Ints,
    rejected: Ints,
    objective: Objective,
    cost: Floats,
    price: Floats,
    first: bool,
) -> Lookahead:
    """Backwards from the horizon: gain and cost to come in each state, where going on is worth the price."""
    rows, horizon = len(cost), len(chances)
    gain, spent = np.zeros((rows, horizon + 1)), np.zeros((rows, horizon + 1))
    later = _reached(accepted, rejected, objective, horizon)
    each, toll = cost[:, None], (price * cost)[:, None]
    for t in range(horizon - 1, -1, -1):
        yes, here = chances[t], _reached(accepted, rejected, objective, t)
        rise = yes * (later[:, 1:] + gain[:, 1:]) + (1.0 - yes) * (later[:, :-1] + gain[:, :-1]) - here
        onward = yes * spent[:, 1:] + (1.0 - yes) * spent[:, :-1]
        go = rise > toll + price[:, None] * onward
        if t == 0 and first:
            go[:] = True
        gain, spent = np.where(go, rise, 0.0), np.where(go, each + onward, 0.0)
        later = here
    return Lookahead(gain[:, 0], spent[:, 0])


def _reached(accepted: Ints, rejected: Ints, objective: Objective, t: int) -> Floats:
    """The objective after t more, i of them accepted, [rows, t + 1]."""
    i = np.arange(t + 1)
    return objective.reached(accepted[:, None] + i, rejected[:, None] + t - i)
