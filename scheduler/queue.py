"""Which prompt buys next: the best ratio of gain to cost first, prompts not yet seen in order, parked ones aside.

Offers are asked for lazily (a fresh prompt is looked at only when its turn may have come) and asked for again when
the price has changed since. Ties go to the lower prompt number, so the order is the same in every replay.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from apportion.scheduler.allocation import Offer, Rest

Ask = Callable[[int], Offer | Rest]


class OfferQueue:
    """Prompts that may buy. `ask` gives a prompt's present offer."""

    def __init__(self, prompts: int, ask: Ask) -> None:
        self._ask = ask
        self._prompts = prompts
        self._fresh = 0
        self._heap: list[tuple[float, int, int, Offer]] = []
        self._parked: list[int] = []
        self._epoch = 0
        self._reopened: deque[int] = deque()
        self._peeked: int | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing but parked prompts is left."""
        return not self._heap and not self._reopened and self._fresh >= self._prompts

    def push(self, prompt: int, offer: Offer) -> None:
        """Queue a prompt with its present offer."""
        heapq.heappush(self._heap, (-offer.ratio, prompt, self._epoch, offer))

    def park(self, prompt: int) -> None:
        """Set a prompt aside until the price falls."""
        self._parked.append(prompt)

    def take_parked(self) -> list[int]:
        """All parked prompts, and those that are to be looked at again, in order of number; they are so no longer."""
        parked, self._parked = sorted([*self._parked, *self._reopened]), []
        self._reopened.clear()
        return parked

    def outdate(self, reopen: bool) -> None:
        """The price has changed: offers are asked for again when their turn comes; `reopen` looks at parked ones."""
        self._epoch += 1
        if reopen:
            self._reopened.extend(self.take_parked())

    def pop(self) -> tuple[int, Offer | Rest] | None:
        """The prompt whose turn it is, with its present offer, or with why it rests; None where there is none."""
        while True:
            if self._reopened:
                prompt = self._reopened.popleft()
            elif self._peeked is None and self._fresh < self._prompts:
                # One fresh prompt competes with the queued ones at any time; the others are like it, or later.
                prompt = self._peeked = self._fresh
                self._fresh += 1
            elif self._heap:
                _, prompt, epoch, queued = heapq.heappop(self._heap)
                if epoch == self._epoch:
                    self._leave(prompt)
                    return prompt, queued
            else:
                return None
            offer = self._ask(prompt)
            if not isinstance(offer, Offer):
                self._leave(prompt)
                return prompt, offer
            self.push(prompt, offer)

    def _leave(self, prompt: int) -> None:
        if prompt == self._peeked:
            self._peeked = None
