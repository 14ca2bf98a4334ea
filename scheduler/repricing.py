"""When a job's price is solved again, and when that is reason to look at the prompts that wait for a lower one."""

from __future__ import annotations

REPRICINGS = 48
"""The price is solved again this many times per pass over the prompts: often enough that a price never rests on
evidence much older than 2% of the job, and rarely enough that solving it stays a small part of the driver's work."""
FEWEST_PURCHASES_BETWEEN = 4
REOPENING_FALL = 0.95
"""Parked prompts are looked at again when the price has fallen to this share of its highest since the last look: a
look costs an offer for each of them, and smaller falls are made good at the end of the job."""


class Repricing:
    """Counts purchases and remembers prices."""

    def __init__(self, prompts: int) -> None:
        self._every = max(FEWEST_PURCHASES_BETWEEN, prompts // REPRICINGS)
        self._since = 0
        self._highest = 0.0

    def due(self) -> bool:
        """A purchase ended: whether it is time."""
        self._since += 1
        return self._since >= self._every

    def reopens(self, price: float) -> bool:
        """The price was solved again and is this: whether prompts that wait are to be looked at."""
        self._since = 0
        fell = price < self._highest * REOPENING_FALL
        self._highest = price if fell else max(self._highest, price)
        return fell
