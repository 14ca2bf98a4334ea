"""How long vLLM was busy, shared among the requests it ran, by tokens.

The engine is busy while a request is in flight. That time and the tokens the engine has processed (both counted step by
step, as its outputs arrive) wait in one account; a sequence that ends takes the share of its tokens. Invariants: what
is taken adds up to no more than the time the engine was busy, and to all of it once nothing is in flight and nothing
was cancelled. The time of cancelled work leaves with its tokens and is charged to nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class BusyMeter:
    """The account of one engine; used from its event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._in_flight = 0
        self._since = 0.0
        self._seconds = 0.0
        self._tokens = 0

    def begin(self) -> None:
        """A sequence was handed to the engine."""
        self._accrue()
        self._in_flight += 1

    def processed(self, tokens: int) -> None:
        """The engine has processed so many tokens, of prompts or written."""
        self._accrue()
        self._tokens += tokens

    def end(self, tokens: int) -> float:
        """A sequence of so many processed tokens ended; its share of the busy time, in seconds.

        Its last tokens may be reported only after it: the account then goes below zero until they are.
        """
        self._accrue()
        share = self._seconds * min(1.0, tokens / max(self._tokens, tokens, 1))
        self._seconds -= share
        self._tokens -= tokens
        self._leave()
        return share

    def drop(self) -> None:
        """A sequence was cancelled or failed: nobody takes its share."""
        self._accrue()
        self._leave()

    def _accrue(self) -> None:
        now = self._clock()
        if self._in_flight:
            self._seconds += now - self._since
        self._since = now

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._seconds, self._tokens = 0.0, min(0, self._tokens)
