"""How a vote ends: the chance that the right answer is ahead of one rival after k more votes.

Each further candidate gives the right answer with probability p, the rival with (1-p) r, and something else otherwise.
With D the growth of the lead (right votes weigh `right` on average, the rival's `wrong`; 1 and 1 in a majority), the
chance to be ahead is P(lead + D > 0) + P(lead + D = 0) / 2. The distribution of D is exact up to the lattice: the k-th
power of one vote's characteristic function, inverted by FFT. It is tabulated over lead, r, p and k, so that a prompt's
response is a few small matrix products; the rival's share r is uncertain too, and comes as weights on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import PASS, POINTS

Floats = NDArray[np.float64]

SHARE_POINTS = 13
SHARES: Floats = 1.0 / (1.0 + np.exp(-np.linspace(-4.5, 4.5, SHARE_POINTS)))
"""Share of the wrong candidates that a rival gets: 0.011 to 0.989, uniform in logit."""
_LOG_SHARE = np.log(SHARES)
_LOG_REST = np.log1p(-SHARES)

MOST_LEAD = 32.0
"""Leads are clipped to this many votes: beyond, no amount that is ever bought turns a vote."""
NODES_PER_VOTE = 2
"""Lead nodes a vote: votes weighted by scores have leads in between."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What one vote weighs: mean and standard deviation for right and for wrong candidates."""

    right: float = 1.0
    right_sd: float = 0.0
    wrong: float = 1.0
    wrong_sd: float = 0.0

    @property
    def unit(self) -> float:
        """The weight of an ordinary vote, in which leads are measured."""
        return 0.5 * (self.right + self.wrong)


def share_weights(own: Floats, others: Floats) -> Floats:
    """A Beta(own, others) belief over a rival's share, as weights on SHARES, [..., SHARE_POINTS]."""
    log = own[..., None] * _LOG_SHARE + others[..., None] * _LOG_REST
    weight = np.exp(log - log.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


class Race:
    """The table for some amounts. `amounts` are effective samples, may be fractional, and are [amounts]."""

    def __init__(self, amounts: Floats, weights: Weights) -> None:
        self.amounts = amounts
        self.weights = weights
        nodes = int(2 * MOST_LEAD * NODES_PER_VOTE) + 1
        self._middle = nodes // 2
        self._table = np.empty((nodes, SHARE_POINTS * POINTS, len(amounts)), dtype=np.float32)
        whole = {float(k) for k in np.floor(amounts)} | {float(k) for k in np.ceil(amounts)}
        ahead = {k: self._ahead(int(k), nodes) for k in sorted(whole)}
        for at, k in enumerate(amounts):
            low, part = float(np.floor(k)), float(k - np.floor(k))
            mixed = ahead[low] if part == 0.0 else (1.0 - part) * ahead[low] + part * ahead[float(np.ceil(k))]
            self._table[:, :, at] = mixed

    def _ahead(self, k: int, nodes: int) -> Floats:
        """P(ahead after k more), [lead nodes, shares * POINTS]."""
        weights, unit = self.weights, self.weights.unit
        per_vote = 2 if weights.right_sd == 0.0 else 4
        # Enough lattice that the tail of D, 6 sigma and more, does not wrap around onto itself.
        size = 1 << int(np.ceil(np.log2(2 * per_vote * (min(k, 40 + 12 * np.sqrt(k)) * 1.5 + 2 * MOST_LEAD))))
        size = max(size, 1 << int(np.ceil(np.log2(2.5 * per_vote * k + 4)))) if weights.right_sd == 0.0 else size * 2
        t = 2.0 * np.pi * np.arange(size // 2 + 1) / size
        right = np.exp(1j * t * per_vote * weights.right / unit - 0.5 * (t * per_vote * weights.right_sd / unit) ** 2)
        wrong = np.exp(-1j * t * per_vote * weights.wrong / unit - 0.5 * (t * per_vote * weights.wrong_sd / unit) ** 2)
        to_rival = ((1.0 - PASS)[None, :] * SHARES[:, None]).reshape(-1, 1)
        to_right = np.broadcast_to(PASS, (SHARE_POINTS, POINTS)).reshape(-1, 1)
        one = to_right * right + to_rival * wrong + (1.0 - to_right - to_rival)
        mass = np.fft.irfft(np.conj(one**k), n=size, axis=1)
        mass = np.fft.fftshift(np.clip(mass, 0.0, None), axes=1)
        mass /= mass.sum(axis=1, keepdims=True)
        zero = size // 2
        above = np.concatenate([np.cumsum(mass[:, ::-1], axis=1)[:, ::-1], np.zeros((len(mass), 1))], axis=1)
        step = per_vote / NODES_PER_VOTE
        target = zero - (np.arange(nodes) - nodes // 2) * step
        whole = np.rint(target).astype(np.int64)
        inside = np.clip(whole, 0, size - 1)
        win = above[:, inside + 1] + 0.5 * mass[:, inside]
        win = np.where(whole < 0, 1.0, np.where(whole > size - 1, 0.0, win))
        return np.asarray(win.T)

    def win(self, lead: Floats, share: Floats, passing: Floats) -> Floats:
        """Chance that the right answer beats one rival, [pairs, amounts].

        `lead` in votes [pairs], `share` weights of the rival's share [pairs, SHARE_POINTS], `passing` weights of p
        [pairs, POINTS] summing to 1.
        """
        node = np.clip(lead, -MOST_LEAD, MOST_LEAD) * NODES_PER_VOTE + self._middle
        low = np.minimum(np.floor(node + 1e-6).astype(np.int64), len(self._table) - 2)
        part = np.clip(node - low, 0.0, 1.0)
        part[part < 1e-5] = 0.0
        belief = (share[:, :, None] * passing[:, None, :]).reshape(len(lead), SHARE_POINTS * POINTS)
        belief = belief.astype(np.float32)
        out = np.zeros((len(lead), len(self.amounts)))
        # Pairs with the same lead share a slice of the table: one matrix product each, and no gathering of slices.
        for value in np.unique(low):
            at = np.flatnonzero(low == value)
            out[at] += (1.0 - part[at])[:, None] * (belief[at] @ self._table[value])
            if part[at].any():
                out[at] += part[at][:, None] * (belief[at] @ self._table[value + 1])
        return out
