"""Prices on a playbook's grid, for prompts that cost otherwise than its tables say.

A price is what a unit of the tables' cost must earn. A prompt whose candidates cost `ratio` times what the tables say
is looked up where its own price lies in the grid, as far as the difference is to count (`power`).
"""

from __future__ import annotations

import numpy as np

from apportion.scheduler.allocation import Floats

BISECTIONS = 12
"""Of the price, on the grid's logarithm: far finer than the grid."""
LEAST_PRICE = 1e-300
"""A price of nothing has a logarithm all the same; the grid ends long before."""


class PriceGrid:
    """The prices of some tables, [prices], ascending and evenly spaced in their logarithm.

    A prompt's own cost counts to the power `power`, set against `typical`: the mean ratio as the job began, which stays
    what it was, as offers of different times are compared.
    """

    def __init__(self, prices: Floats, power: float, typical: float) -> None:
        self._prices = prices
        self._lowest, self._step = float(np.log(prices[0])), float(np.log(prices[1] / prices[0]))
        self._power = power
        self._typical = typical

    def eased(self, scale: float) -> float:
        """Table cost by real cost of one prompt, as far as it counts in what the prompt buys: 1 / felt(1 / scale)."""
        return float(scale**self._power * self._typical ** (self._power - 1.0))

    def felt(self, ratio: Floats) -> Floats:
        """Real cost by table cost, [prompts], as far as it counts in what a prompt buys."""
        return np.asarray(ratio**self._power * self._typical ** (1.0 - self._power))

    def read(self, rows: Floats, price: float, ratio: Floats) -> Floats:
        """A table's rows of these prompts, [prompts, prices], at one price: [prompts]."""
        return self._at(rows, np.log(np.maximum(price * self.felt(ratio), LEAST_PRICE)))

    def _at(self, rows: Floats, price: Floats) -> Floats:
        """A table's rows of these prompts at each one's own log price, [prompts]."""
        place = (price - self._lowest) / self._step
        place = np.minimum(np.maximum(place, 0.0), len(self._prices) - 1.0)
        low = np.minimum(place.astype(np.int64), rows.shape[1] - 2)
        at, part = low + np.arange(len(rows)) * rows.shape[1], place - low
        flat = rows.ravel()
        return np.asarray((1.0 - part) * flat[at] + part * flat[at + 1], dtype=np.float64)

    def spending(self, spend: Floats, price: float, ratio: Floats) -> float:
        """What prompts spend together at a price; `spend` is the tables' cost ahead, [prompts, prices]."""
        return _total(self.read(spend, price, ratio), ratio)

    def prices_for(self, ratio: Floats, spend: Floats, available: float) -> tuple[float, float]:
        """The prices at which the expected spending surely exceeds `available`, and surely is within it.

        Many prompts at one state make it jump, anywhere between two prices of the grid. Below the jump they all may
        buy, the best first, as long as there is money; above it what is bought can be bought for all.
        """
        if not len(ratio) or _total(spend[:, 0], ratio) <= available:
            return 0.0, 0.0
        prices = self._prices
        low, high = float(np.log(prices[0])), float(np.log(prices[-1]))
        felt = np.log(self.felt(ratio))
        low, high = low - float(felt.max()), high - float(felt.min())
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            if _total(self._at(spend, middle + felt), ratio) > available:
                low = middle
            else:
                high = middle
        step = float(prices[1] / prices[0])
        return float(np.exp(low)) / step, float(np.exp(high)) * step


def _total(each: Floats, ratio: Floats) -> float:
    """Their inner product, without BLAS, whose threads would take cores from engines for microseconds of work."""
    return float((each * ratio).sum())
