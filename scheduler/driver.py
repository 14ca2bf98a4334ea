"""The driver: the one place that awaits. It feeds the machine what the backend answers, journaled first.

On a run directory that has a journal, the journal's events are fed first, so the machine comes back where it was;
then only what has no answer yet is sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice

from apportion.actors.protocols import Backend
from apportion.errors import EngineError
from apportion.scheduler.events import Commit, Dispatch, Event, Failed, Granted, Instruction, Replied, RequestId
from apportion.scheduler.journal import Journal
from apportion.scheduler.machine import Machine
from apportion.scheduler.replies import checked
from apportion.scheduler.results import Committed
from apportion.types import Reply

Sink = Callable[[Committed], None]
Watch = Callable[[], None]

EVENTS_A_TURN = 128
"""At most so many events are journaled, handled and carried out at once: enough that a transaction costs little for
each, few enough that no engine waits more than some milliseconds for what it is sent."""
SECONDS_BETWEEN_LOOKS = 1.0
"""The display is told of a job at least this often, so that a stall can be seen to be one."""


class Driver:
    """Runs one machine to its end. `sink` is given each committed prompt once, `watch` is called after each turn.

    With `ordered`, replies are handed over in the order in which their requests were sent, so the decisions do not
    depend on timing; otherwise as they come.
    """

    def __init__(
        self, machine: Machine, backend: Backend, journal: Journal, sink: Sink, watch: Watch, ordered: bool
    ) -> None:
        self._machine = machine
        self._backend = backend
        self._journal = journal
        self._sink = sink
        self._watch = watch
        self._ordered = ordered
        self._sent: deque[RequestId] = deque()
        self._arrived: dict[RequestId, Event] = {}
        self._news = asyncio.Event()
        self._behind = False
        self._broken: BaseException | None = None

    def recover(self) -> list[Dispatch]:
        """Start the machine and feed it the journal. Returns what is to be sent.

        Raises JournalError where the journal does not fit the machine.
        """
        waiting: dict[RequestId, Dispatch] = {}

        def take(instructions: Iterable[Instruction]) -> None:
            for dispatch in self._carry_out(instructions, replaying=True):
                waiting[dispatch.id] = dispatch

        take(self._machine.start())
        for event in self._journal.events():
            take(self._machine.handle(event))
            waiting.pop(event.request, None)
        return list(waiting.values())

    async def run(self) -> None:
        """Recover, then work until every prompt is committed. Raises what the backend cannot get over."""
        waiting = self.recover()
        if self._machine.done:
            return
        self._watch()
        await self._backend.start()
        self._send(waiting)
        try:
            await self._work()
        finally:
            # What has arrived is paid for: a job that stops here finds it when it is run again.
            self._journal.append(self._take())
        self._machine.audit()

    async def _work(self) -> None:
        while not self._machine.done:
            if self._behind:
                # The engines are to be heard all the same.
                await asyncio.sleep(0)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), SECONDS_BETWEEN_LOOKS)
                self._news.clear()
            if self._broken is not None:
                raise self._broken
            events = self._take(EVENTS_A_TURN)
            self._journal.append(events)
            instructions = [instruction for event in events for instruction in self._machine.handle(event)]
            self._send(self._carry_out(instructions, replaying=False))
            self._watch()

    def _carry_out(self, instructions: Iterable[Instruction], replaying: bool) -> list[Dispatch]:
        grants: list[Granted] = []
        dispatches: list[Dispatch] = []
        for instruction in instructions:
            match instruction:
                case Granted():
                    grants.append(instruction)
                case Dispatch():
                    dispatches.append(instruction)
                case Commit(committed=committed):
                    self._sink(committed)
        if replaying:
            self._journal.verify(grants)
        self._journal.record(grants)
        return dispatches

    def _send(self, dispatches: Iterable[Dispatch]) -> None:
        for dispatch in dispatches:
            if self._ordered:
                self._sent.append(dispatch.id)
            task = asyncio.ensure_future(self._backend.submit(dispatch.request, dispatch.id.prompt))
            task.add_done_callback(partial(self._arrive, dispatch))

    def _arrive(self, dispatch: Dispatch, done: asyncio.Future[Reply]) -> None:
        self._news.set()
        try:
            self._arrived[dispatch.id] = Replied(dispatch.id, checked(dispatch.request, done.result()))
        except EngineError as error:
            self._arrived[dispatch.id] = Failed(dispatch.id, str(error), error.usage)
        except (Exception, asyncio.CancelledError) as error:  # ends the job, in `_work`
            self._broken = error

    def _take(self, most: int | None = None) -> list[Event]:
        """What has arrived and may be handled, in order; at most so many, and whether there may be more is kept."""
        events: list[Event] = []
        if self._ordered:
            while self._sent and self._sent[0] in self._arrived and len(events) != most:
                events.append(self._arrived.pop(self._sent.popleft()))
        else:
            names = list(islice(self._arrived, most))
            events = [self._arrived.pop(name) for name in names]
        self._behind = len(events) == most
        return events
