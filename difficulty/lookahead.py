"""Buying one candidate at a time and looking each time: what the best such rule gains and costs.

After i more accepted and j more rejected candidates the chance that the next is accepted is a ratio of moments of the
belief, m(i + 1, j) / m(i, j) with m(i, j) = E[p^i (1 - p)^j]; the objective's value is known at every (i, j). So the
best rule for a price is optimal stopping over these states, solved backwards from a horizon. Beyond it what is left is
bought until there is enough, or one of a few amounts is spent, whichever is first: of a prompt that has had that many
candidates hardly more is to be learned, but a rate of one in a hundred is still worth a hundred more.

Why it is needed: a forecast of buying one at a time, which does not pay for what it turns out not to need; and for
objectives whose gain rises with good news. A pair is worth nothing after its first candidate, and a prompt that is
either hopeless or easy is worth a first try for what it tells of the next ones: the gain of one more over its cost does
not see that. (The hull over purchases of several sees most of it; the allocator buys by it.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.objectives import Objective, value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HORIZON = 48
"""Candidates looked ahead one by one."""
BEYOND = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Amounts beyond the horizon. At the least rate the grid knows, one in a thousand, more would be bought by nobody."""
ENDLESS = 1 << 30
"""Candidates of who has no limit."""


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Expected gain and expected cost of the best rule, each [rows]; both 0 where buying nothing is best."""

    gain: Floats
    cost: Floats


class Ahead:
    """What lies ahead of prompts believed to pass at `passing` [POINTS] with `weights` [rows, POINTS].

    They have these accepted and rejected candidates, [rows], and can have `most` more, [rows], where that is limited.
    Memory is about rows x (horizon squared + horizon x POINTS) numbers.
    """

    def __init__(
        self,
        weights: Floats,
        passing: Floats,
        accepted: Ints,
        rejected: Ints,
        objective: Objective,
        most: Ints | None = None,
        horizon: int = HORIZON,
        beyond: Sequence[int] = BEYOND,
    ) -> None:
        self._chances = _chances(weights, passing, horizon)
        self._reached = [_reached(accepted, rejected, objective, t) for t in range(horizon + 1)]
        self._most = np.full(len(weights), ENDLESS) if most is None else most
        i = np.arange(horizon + 1)
        belief = weights[:, None, :] * _likelihood(passing, horizon)
        belief /= np.maximum(belief.sum(axis=2, keepdims=True), 1e-300)
        rows = belief.reshape(-1, len(passing))
        state = objective.state(accepted[:, None] + i, rejected[:, None] + horizon - i).ravel()
        shape = (len(weights), horizon + 1, len(beyond))
        tables = (objective.table(beyond, passing), objective.until(beyond, passing)) if beyond else ()
        after, until = (
            (value(table, state, rows).reshape(shape) for table in tables) if tables else np.zeros((2, *shape))
        )
        within = horizon + np.array(beyond, dtype=np.int64) <= self._most[:, None]
        self._gain = np.where(within[:, None, :], np.maximum(after - self._reached[-1][:, :, None], 0.0), 0.0)
        self._until = until

    def best(self, cost: Floats, price: float) -> Lookahead:
        """The best rule where one candidate costs `cost`, [rows], and a unit of it must earn `price`.

        Backwards from the horizon: gain and cost to come in each state, where going on is worth the price.
        """
        each, toll = cost[:, None], (price * cost)[:, None]
        gain, spent = self._beyond(each, toll)
        for t in range(len(self._chances) - 1, -1, -1):
            yes, here, later = self._chances[t], self._reached[t], self._reached[t + 1]
            rise = yes * (later[:, 1:] + gain[:, 1:]) + (1.0 - yes) * (later[:, :-1] + gain[:, :-1]) - here
            onward = yes * spent[:, 1:] + (1.0 - yes) * spent[:, :-1]
            go = (rise > toll + price * onward) & (self._most > t)[:, None]
            gain, spent = np.where(go, rise, 0.0), np.where(go, each + onward, 0.0)
        return Lookahead(gain[:, 0], spent[:, 0])

    def _beyond(self, each: Floats, toll: Floats) -> tuple[Floats, Floats]:
        """Gain and cost of the best amount beyond the horizon, [rows, horizon + 1]."""
        gain, spent = np.zeros(self._gain.shape[:2]), np.zeros(self._gain.shape[:2])
        for amount in range(self._gain.shape[2]):
            after, until = self._gain[:, :, amount], self._until[:, :, amount]
            better = after - toll * until > gain - toll * spent
            gain, spent = np.where(better, after, gain), np.where(better, until, spent)
        return gain, spent * each


def _likelihood(passing: Floats, t: int) -> Floats:
    """Of i accepted of t candidates at each rate, over that at the likeliest, [t + 1, POINTS]: only ratios matter."""
    i = np.arange(t + 1)[:, None]
    log = i * np.log(passing) + (t - i) * np.log1p(-passing)
    return np.asarray(np.exp(log - log.max(axis=1, keepdims=True)))


def _chances(weights: Floats, passing: Floats, horizon: int) -> list[Floats]:
    """For each number t of candidates seen, the chance that the next is accepted after i of t were, [rows, t + 1]."""
    likes = [_likelihood(passing, t) for t in range(horizon)]
    return [(weights @ (like * passing).T) / np.maximum(weights @ like.T, 1e-300) for like in likes]


def _reached(accepted: Ints, rejected: Ints, objective: Objective, t: int) -> Floats:
    """The objective after t more, i of them accepted, [rows, t + 1]."""
    i = np.arange(t + 1)
    return objective.reached(accepted[:, None] + i, rejected[:, None] + t - i)
