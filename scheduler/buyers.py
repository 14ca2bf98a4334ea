"""Which prompts a price policy still sells to, and how many it has lost since it last sold."""

from __future__ import annotations

import numpy as np

from apportion.scheduler.allocation import Ints

MOST_FRUITLESS = 2
"""A prompt is given up after this many purchases in a row without a candidate: they teach nothing, and would go on."""


class Buyers:
    """`out` are the prompts that buy nothing more, [prompts]; `vain` how many were closed since the last purchase.

    What is left at a job's end may cover nobody's worst case. Offered to as many prompts more as were closed in vain,
    it is soon refused by all; at two prompts a time all would be looked at for each of them.
    """

    def __init__(self, prompts: int) -> None:
        self.out = np.zeros(prompts, dtype=bool)
        self.vain = 0
        self._fruitless = [0] * prompts

    @property
    def active(self) -> Ints:
        """The prompts that may buy."""
        return np.flatnonzero(~self.out)

    def bought(self, prompt: int, candidates: int) -> None:
        """A purchase ended, with so many candidates."""
        self.vain = 0
        self._fruitless[prompt] = 0 if candidates else self._fruitless[prompt] + 1
        if self._fruitless[prompt] >= MOST_FRUITLESS:
            self.out[prompt] = True

    def close(self, prompt: int) -> None:
        """The prompt is committed."""
        self.out[prompt] = True
        self.vain += 1
