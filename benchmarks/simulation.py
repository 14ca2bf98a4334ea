"""Engines that take simulated time, and the clock they take it from.

The clock runs with this process's CPU time, and where the event loop would sleep it jumps: what a job takes by it is
what it would take on a core of its own, however busy the machine is and however slow the engines are said to be.
Replies are made beforehand, so an engine's own work is a few microseconds a request.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apportion.actors.health import Health
from apportion.actors.routing import load_of
from apportion.types import Reply, Request

Answer = Callable[[Request], Reply]
Seconds = Callable[[Request, Reply], float]
Waiting = tuple[Request, int, asyncio.Future[Reply]]


class _Jump(selectors.SelectSelector):
    """A selector that never sleeps: it tells the clock how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout is not None and timeout > 0.0:
            self.slept += timeout
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on the simulated clock. Nothing outside of the process may be waited for in it."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """CPU seconds of this process and seconds jumped over."""
        return time.process_time() + self._jump.slept


class SimulatedBackend:
    """A Backend (see `apportion.actors.protocols`) of simulated replicas for each model.

    A replica runs as many sequences at a time as `slots` says for its model; a request takes one a seed (or response),
    and waits in line until they are free. `answer` makes a request's reply, `seconds` how long it takes once it runs; 0
    answers at once. Requests go to the least loaded replica. `busy` is the history of the slots taken on all replicas
    of a model: (seconds, slots) at each change.
    """

    def __init__(self, slots: Mapping[str, int], replicas: int, answer: Answer, seconds: Seconds) -> None:
        self._answer = answer
        self._seconds = seconds
        self._slots = dict(slots)
        self._loads = {model: [0] * replicas for model in slots}
        self._taken = {model: [0] * replicas for model in slots}
        self._waiting: dict[str, list[deque[Waiting]]] = {model: [deque() for _ in range(replicas)] for model in slots}
        self.busy: dict[str, list[tuple[float, int]]] = {model: [(0.0, 0)] for model in slots}
        self.in_flight = self.most_in_flight = self.answered = 0

    async def start(self) -> None:
        """Nothing to load."""

    def submit(self, request: Request, affinity: int) -> asyncio.Future[Reply]:
        """Give a request to the least loaded replica of its model."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        loads = self._loads[request.model]
        at, size = loads.index(min(loads)), load_of(request)
        loads[at] += size
        self._waiting[request.model][at].append((request, size, future))
        self._begin(loop, request.model, at)
        return future

    def _begin(self, loop: asyncio.AbstractEventLoop, model: str, at: int) -> None:
        waiting, taken, slots = self._waiting[model][at], self._taken[model], self._slots[model]
        while waiting and taken[at] + min(waiting[0][1], slots) <= slots:
            request, size, future = waiting.popleft()
            reply = self._answer(request)
            seconds = self._seconds(request, reply)
            width = min(size, slots) if seconds > 0.0 else 0
            if width:
                taken[at] += width
                self._note(loop, model, width)
                loop.call_later(seconds, self._end, loop, model, at, (size, width), future, reply)
            else:
                loop.call_soon(self._end, loop, model, at, (size, 0), future, reply)

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        model: str,
        at: int,
        held: tuple[int, int],
        future: asyncio.Future[Reply],
        reply: Reply,
    ) -> None:
        size, width = held
        self._loads[model][at] -= size
        self.in_flight -= 1
        self.answered += 1
        if not future.done():
            future.set_result(reply)
        if width:
            self._taken[model][at] -= width
            self._note(loop, model, -width)
            self._begin(loop, model, at)

    def _note(self, loop: asyncio.AbstractEventLoop, model: str, change: int) -> None:
        history = self.busy[model]
        history.append((loop.time(), history[-1][1] + change))

    def health(self) -> Sequence[Health]:
        """Simulated replicas do not die."""
        return ()

    async def close(self) -> None:
        """Nothing to free."""


class SimulatedScorer:
    """A scorer that reads everything that waits in one pass, and the next when that is done. `seconds` is of a pass."""

    def __init__(self, answer: Answer, seconds: Callable[[Sequence[Reply]], float]) -> None:
        self._answer = answer
        self._seconds = seconds
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._reading = False

    def submit(self, request: Request) -> asyncio.Future[Reply]:
        """Queue a request for the next pass."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((request, future))
        if not self._reading:
            # At the end of this tick, so that what comes together is read together.
            self._reading = True
            loop.call_soon(self._read, loop)
        return future

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting, []
        replies = [self._answer(request) for request, _ in batch]
        loop.call_later(self._seconds(replies), self._end, loop, batch, replies)

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Request, asyncio.Future[Reply]]],
        replies: list[Reply],
    ) -> None:
        for (_, future), reply in zip(batch, replies, strict=True):
            future.set_result(reply)
        self._reading = bool(self._waiting)
        if self._reading:
            self._read(loop)


def run_simulated(work: Any) -> Any:
    """Run a coroutine on the simulated clock."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
