"""Objectives that count accepted and rejected candidates, in closed form: `coverage`, `quota` and `pairs`.

A candidate is accepted where its score reaches a threshold. Given the chance p that one is, n more bring a binomial
number X of accepted ones, and with a accepted and b rejected so far

    quota     E[min(k, a + X)] / k                     = (1/k) sum_{j=1..k} P(X >= j - a)
    coverage  the quota with k = 1                     = 1 - (1 - p)^n where a = 0
    pairs     E[min(k, a + X, b + n - X)] / k          = (1/k) sum_{j=1..k} P(j - a <= X <= n + b - j)

which are then averaged over what is believed of p. The n-th more candidate adds p P(a + X < k) / k to a quota, which
falls with n: quota and coverage are concave in n. Pairs are not: one candidate of a fresh prompt makes no pair, two
may. What a prompt has counts only up to k, so values are tables over few states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OBJECTIVES = ("accuracy", "coverage", "quota", "pairs")
COUNTING = ("quota", "pairs")
"""Those that count candidates by a threshold on their score, and so need `k` and a verifier."""

FINE, COARSE = 32, 40
"""Up to so many candidates each is counted by itself, beyond them so many points stand for all."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a job is after. `k` candidates or pairs a prompt; a score of at least `accept` is an accepted candidate.

    `accuracy` (one right answer a prompt) is decided by answers and not by counts; it and `coverage` know no `k`.
    """

    name: str = "accuracy"
    k: int = 1
    accept: float = 0.5

    @property
    def enough(self) -> int:
        """How many accepted candidates (or pairs) count; more are worth nothing."""
        return 1 if self.name == "coverage" else self.k

    def reached(self, accepted: Ints | Floats, rejected: Ints | Floats) -> Floats:
        """The objective of prompts with so many accepted and rejected candidates, in [0, 1], of their shape."""
        counted = np.minimum(accepted, rejected) if self.name == "pairs" else np.asarray(accepted)
        return np.asarray(np.minimum(counted, self.enough) / self.enough, dtype=np.float64)

    def state(self, accepted: Ints, rejected: Ints) -> Ints:
        """Which state prompts with these counts are in, [rows]."""
        have = np.minimum(accepted, self.enough)
        if self.name != "pairs":
            return have
        return have * (self.enough + 1) + np.minimum(rejected, self.enough)

    def table(self, amounts: Sequence[int], passing: Floats) -> Floats:
        """Expected objective for each state and amount at each pass rate, [states, amounts, passing]."""
        n = np.asarray(amounts, dtype=np.int64)
        enough, pairs = self.enough, self.name == "pairs"
        # What is still needed of both kinds; of rejected ones only pairs need any.
        need = range(enough + 1)
        chance = {(yes, no): _done(yes, no, n, passing) for yes in need for no in (need if pairs else (0,))}
        total = np.zeros((enough + 1, enough + 1 if pairs else 1, len(n), len(passing)))
        for (a, b), j in product(np.ndindex(total.shape[:2]), range(1, enough + 1)):
            total[a, b] += chance[max(0, j - a), max(0, j - b) if pairs else 0]
        return total.reshape(-1, len(n), len(passing)) / enough

    def until(self, amounts: Sequence[int], passing: Floats) -> Floats:
        """Expected candidates of who buys at most each amount and stops with enough, [states, amounts, passing].

        The sum over t < amount of the chance that t more are not enough; straight between the t of a grid.
        """
        grid = np.unique([*range(FINE), *np.geomspace(FINE, max(FINE, *amounts), COARSE).astype(np.int64), *amounts])
        width = np.diff(grid)[:, None]
        have = range(self.enough + 1)
        states = [(a, b) for a in have for b in have] if self.name == "pairs" else [(a, self.enough) for a in have]
        found = []
        for accepted, rejected in states:
            waits = 1.0 - _done(self.enough - accepted, self.enough - rejected, grid, passing)
            part = 0.5 * (waits[:-1] + waits[1:]) * width + 0.5 * (waits[:-1] - waits[1:])
            spent = np.concatenate([np.zeros((1, len(passing))), np.cumsum(part, axis=0)])
            found.append(spent[np.searchsorted(grid, amounts)])
        return np.stack(found)


def value(table: Floats, state: Ints, weights: Floats) -> Floats:
    """The table's values for prompts in some states, averaged over what is believed of their pass rates.

    `table` is [states, amounts, passing], `state` [rows], `weights` [rows, passing] with rows summing to 1.
    """
    found = np.empty((len(state), table.shape[1]))
    for one in np.unique(state).tolist():
        mine = state == one
        found[mine] = weights[mine] @ table[one].T
    return found


def _done(yes: int, no: int, n: Ints, passing: Floats) -> Floats:
    """P(yes <= X <= n - no) with X ~ Binomial(n, p), [amounts, passing]: enough of both kinds."""
    both = _up_to(n - no, n, passing) - _up_to(np.full(n.shape, yes - 1), n, passing)
    return np.where((n >= yes + no)[:, None], np.maximum(both, 0.0), 0.0)


def _up_to(most: Ints, n: Ints, passing: Floats) -> Floats:
    """P(Binomial(n, p) <= most), [amounts, passing]; 0 below none, 1 from all on."""
    inside = bdtr(np.clip(most, 0, n)[:, None].astype(np.float64), n[:, None], passing)
    return np.where((most < 0)[:, None], 0.0, np.where((most >= n)[:, None], 1.0, inside))
