"""Handing answers from a model's worker thread back to the event loops that wait for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from apportion.errors import EngineError

R = TypeVar("R")


@dataclass(slots=True)
class Waiter(Generic[R]):
    """A future and the loop it belongs to. Made in that loop."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[R]

    @classmethod
    def here(cls) -> Waiter[R]:
        """One for the running loop."""
        loop = asyncio.get_running_loop()
        return cls(loop, loop.create_future())


def accelerator_broke(error: Exception) -> bool:
    """Whether an error of a model ends all work of this process: a CUDA context does not recover from its errors.

    Running out of memory is none of them. Before torch 2.8 they have no class of their own.
    """
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)


@dataclass(slots=True)
class Outbox(Generic[R]):
    """Outcomes gathered by a worker thread; `deliver` wakes each loop once for all of its own."""

    outcomes: list[tuple[Waiter[R], R | EngineError]] = field(default_factory=list)

    def add(self, waiter: Waiter[R], outcome: R | EngineError) -> None:
        """Remember one outcome."""
        self.outcomes.append((waiter, outcome))

    def deliver(self) -> None:
        """Resolve the futures; a loop that has been closed meanwhile has nobody left to tell."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiter[R], R | EngineError]]] = {}
        for waiter, outcome in self.outcomes:
            by_loop.setdefault(waiter.loop, []).append((waiter, outcome))
        self.outcomes = []
        for loop, outcomes in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: list[tuple[Waiter[R], R | EngineError]]) -> None:
    for waiter, outcome in outcomes:
        if waiter.future.done():
            continue
        if isinstance(outcome, EngineError):
            waiter.future.set_exception(outcome)
        else:
            waiter.future.set_result(outcome)
