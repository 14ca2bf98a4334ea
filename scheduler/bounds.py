"""The worst case of requests that are sent together, as the budget has to cover it.

Tokens are counted exactly only where that decides, and nothing is worked out twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from apportion.scheduler.ledger import Ledger
from apportion.scheduler.meter import Meter
from apportion.types import Request


class Bounds:
    """What each of some requests may cost at most, in the budget's unit."""

    __slots__ = ("_amounts", "_exact", "_requests")

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._amounts: tuple[float, ...] | None = None
        self._exact = False

    def covered(self, ledger: Ledger, meter: Meter) -> tuple[float, ...] | None:
        """The worst case of each request, where the budget covers them all, else None."""
        for exact in (False, True):
            if self._amounts is None or (exact and not self._exact):
                self._amounts = tuple([meter.bound(one, exact).of(ledger.unit) for one in self._requests])
                self._exact = exact
            if ledger.covers(sum(self._amounts)):
                return self._amounts
        return None
