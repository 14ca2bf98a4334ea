"""The vote before a single answer is seen, exactly: k candidates at once, X of them right, the rest in a restaurant.

The largest of the wrong answers among n is the largest block of an Ewens partition, whose distribution is a
coefficient of exp(alpha sum_{j<=m} z^j / j) (Arratia, Barbour and Tavare 2003, Logarithmic Combinatorial Structures).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import binom

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.grid import PASS

Floats = NDArray[np.float64]

MOST_OPENING = 96
"""Beyond this many first samples more change the outcome of a vote by less than the belief about it is worth."""


def largest_block(most: int) -> Floats:
    """P(largest block of n <= m), [m, n, concentrations] for m and n from 0 to `most`."""
    alpha = CONCENTRATIONS
    size = np.arange(most + 1)
    total = np.exp(gammaln(alpha + size[:, None]) - gammaln(alpha) - gammaln(size + 1.0)[:, None])
    found = np.zeros((most + 1, most + 1, len(alpha)))
    for m in range(most + 1):
        coefficient = np.zeros((most + 1, len(alpha)))
        coefficient[0] = 1.0
        running = np.ones(len(alpha))
        for n in range(1, most + 1):
            # n a_n = alpha (a_{n-1} + ... + a_{n-m}): `running` holds the sum.
            coefficient[n] = alpha * running / n if m else 0.0
            running = running + coefficient[n]
            if n >= m:
                running = running - coefficient[n - m]
        found[m] = coefficient / total
    return np.clip(found, 0.0, 1.0)


def opening(amounts: Floats) -> Floats:
    """P(the right answer wins a vote of k first candidates), [amounts, POINTS, concentrations]; ties are halved."""
    whole = np.clip(np.rint(amounts).astype(np.int64), 1, MOST_OPENING)
    most = int(whole.max())
    within = largest_block(most)
    found = np.empty((len(amounts), len(PASS), len(CONCENTRATIONS)))
    for at, k in enumerate(whole.tolist()):
        right = np.arange(1, k + 1)
        chance = binom.pmf(right[None, :], k, PASS[:, None])
        win = 0.5 * (within[right - 1, k - right] + within[right, k - right])
        found[at] = chance @ win
    return found
