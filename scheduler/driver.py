"""The driver: the one place that awaits. It feeds the machine what the backend answers, journaled first.

On a run directory that has a journal, the journal's events are fed first, so the machine comes back where it was;
then only what has no answer yet is sent. Work that is lost, with a replica that died or with the driver of an earlier
session, is charged before it is sent again, and is sent again only where the budget covers that.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice

from apportion.actors.protocols import Backend, TellsLosses
from apportion.errors import EngineError
from apportion.scheduler.events import Commit, Dispatch, Event, Failed, Granted, Instruction, Lost, Replied, RequestId
from apportion.scheduler.journal import Journal
from apportion.scheduler.looking import Looking
from apportion.scheduler.machine import Machine
from apportion.scheduler.replies import checked
from apportion.scheduler.results import Committed
from apportion.types import Reply, Request

Sink = Callable[[Committed], None]
Watch = Callable[[], None]

EVENTS_A_TURN = 128
"""At most so many events are journaled, handled and carried out at once: enough that a transaction costs little for
each, few enough that no engine waits more than some milliseconds for what it is sent."""
OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Python's collector walks the objects that a job holds, tens for each prompt in flight, and nearly all of them are in
use: at its own pace, after every 700 new ones, that takes a quarter of the driver's time."""
SECONDS_BETWEEN_LOOKS = 1.0
"""The display is told of a job at least this often, so that a stall can be seen to be one."""
STOPPED = "the driver of an earlier session stopped while it was in flight"
UNCOVERED = "its work was lost with the replica that ran it, and the budget does not cover doing it again"


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    before = gc.get_threshold()
    if 0 < before[0] < OBJECTS_BETWEEN_COLLECTIONS:
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Driver:
    """Runs one machine to its end. `sink` is given each committed prompt once, `watch` is called after each turn.

    With `ordered`, replies are handed over in the order in which their requests were sent, so the decisions do not
    depend on timing, nor on where a job was stopped; otherwise as they come.
    """

    def __init__(
        self, machine: Machine | Looking, backend: Backend, journal: Journal, sink: Sink, watch: Watch, ordered: bool
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
        self._noted: set[RequestId] = set()
        """of `_arrived`, those that are in the journal"""
        self._losses: Counter[RequestId] = Counter()
        self._tasks: set[asyncio.Future[Reply]] = set()
        if isinstance(backend, TellsLosses):
            backend.tell_losses(self._lost_by_backend)

    def recover(self) -> list[Dispatch]:
        """Start the machine and feed it the journal. Returns what is to be sent.

        Raises JournalError where the journal does not fit the machine.
        """
        waiting: dict[RequestId, Dispatch] = {}

        def take(instructions: Iterable[Instruction]) -> None:
            for dispatch in self._carry_out(instructions, replaying=True):
                waiting[dispatch.id] = dispatch
                if self._ordered:
                    self._sent.append(dispatch.id)

        take(self._machine.start())
        for event in self._journal.events():
            if isinstance(event, Lost):
                take(self._machine.handle(event))
                self._losses[event.request] = event.attempt
                continue
            # In order, what came too soon when the last session ended waits for its turn, as it did then.
            self._arrived[event.request] = event
            waiting.pop(event.request, None)
            for due in self._take():
                take(self._machine.handle(due))
        self._noted = set(self._arrived)
        return list(waiting.values())

    async def run(self) -> None:
        """Recover, then work until every prompt is committed. Raises what the backend cannot get over."""
        waiting = self.recover()
        if self._machine.done:
            return
        self._watch()
        await self._start()
        self._resume(waiting)
        try:
            with _collecting_rarely():
                await self._work()
        finally:
            for task in list(self._tasks):
                task.cancel()
            # What has arrived is paid for: a job that stops here finds it when it is run again.
            self._note([*self._take(), *self._arrived.values()])
        self._machine.audit()

    async def _start(self) -> None:
        """Start the backend, which may wait for nodes and loads models: the display is told meanwhile."""
        starting = asyncio.ensure_future(self._backend.start())
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=SECONDS_BETWEEN_LOOKS)
                self._watch()
        except BaseException:
            # What it has begun, it undoes.
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            raise
        starting.result()

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
            self._note(events)
            instructions = [instruction for event in events for instruction in self._machine.handle(event)]
            self._send(self._carry_out(instructions, replaying=False))
            self._watch()

    def _note(self, events: Iterable[Event]) -> None:
        """Make events durable that are not yet."""
        self._journal.append([event for event in events if event.request not in self._noted])

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

    def _send(self, dispatches: Iterable[Dispatch], again: bool = False) -> None:
        """Send requests; `again` those that have their place in the order already."""
        for dispatch in dispatches:
            if self._ordered and not again:
                self._sent.append(dispatch.id)
            task = asyncio.ensure_future(self._backend.submit(dispatch.request, dispatch.id.prompt))
            self._tasks.add(task)
            task.add_done_callback(partial(self._arrive, dispatch))

    def _resume(self, waiting: list[Dispatch]) -> None:
        """Send what has no answer; what an earlier session had sent was lost with it."""
        before = self._journal.sending()
        for dispatch in waiting:
            if not before or self._lose(dispatch.id, STOPPED):
                self._send([dispatch], again=True)
            else:
                self._arrived[dispatch.id] = Failed(dispatch.id, UNCOVERED)
        if self._arrived:
            self._news.set()

    def _lost_by_backend(self, request: Request, affinity: int, cause: str) -> bool:
        try:
            return self._lose(self._machine.find(affinity, request), cause)
        except Exception as error:  # ends the job, in `_work`: a backend could do nothing about it
            self._broken = error
            self._news.set()
            return False

    def _lose(self, name: RequestId, cause: str) -> bool:
        """Charge lost work. Whether it may be done again; where not, the request is to fail with `UNCOVERED`."""
        self._losses[name] += 1
        event = Lost(name, self._losses[name], cause)
        self._journal.append([event])
        dispatches = self._carry_out(self._machine.handle(event), replaying=False)
        # Later: a backend that tells of a loss is in the middle of something.
        asyncio.get_running_loop().call_soon(self._send, dispatches)
        return self._machine.flight.pays(name)

    def _arrive(self, dispatch: Dispatch, done: asyncio.Future[Reply]) -> None:
        self._tasks.discard(done)
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
            # What came too soon in an earlier session is handled with the reply it waited for, as when it is replayed.
            while self._sent and self._sent[0] in self._arrived:
                if most is not None and len(events) >= most and self._sent[0] not in self._noted:
                    break
                events.append(self._arrived.pop(self._sent.popleft()))
        else:
            names = list(islice(self._arrived, most))
            events = [self._arrived.pop(name) for name in names]
        self._behind = most is not None and len(events) >= most
        return events
