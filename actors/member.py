"""The driver's side of one replica: starts its actor, sends it requests, takes its replies, and notices its death.

Invariants: a request given to `give` is either answered through `Owner.answered`, handed back through `Owner.failed` or
`Owner.died`, or was taken back by `drop` or `retire`, once; requests of one tick of the event loop travel in one call.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from apportion.actors.replica import Loaded, Outcome, Refused, Replica
from apportion.actors.spec import ModelSpec
from apportion.actors.watch import Pace, length_of
from apportion.actors.work import Work
from apportion.errors import ConfigError, ModelError, ReplicaDiedError

NAME_DIGITS = 12
# Of a random number in an actor's name: none comes twice in all the lives of all the jobs of a program.


class Owner(Protocol):
    """Who is told what becomes of the requests. `now` is the pool's clock, in seconds."""

    @property
    def now(self) -> float: ...

    def answered(self, member: Member, work: Work, outcome: Outcome) -> None: ...

    def failed(self, member: Member, failures: Sequence[tuple[Work, Refused]]) -> None: ...

    def died(self, member: Member, orphans: list[Work], cause: str) -> None: ...


class Member:
    """One replica of a pool."""

    def __init__(self, index: int, spec: ModelSpec, options: Mapping[str, Any], owner: Owner) -> None:
        self.index = index
        self.restarts = 0
        self.alive = False
        self.facts: Loaded | None = None
        self.running: dict[int, Work] = {}
        self.load = 0
        self.suspects = 0
        """how many of `running` are"""
        self.apart = 0
        """of these, those that must have nothing else beside them"""
        self.heard = 0.0
        """when it answered last"""
        self.longest = 0.0
        """the most that any request took from `give` to its answer, in this life of the replica"""
        self.length = 1
        """the longest request it answered (see `watch`)"""
        self._spec = spec
        self.options = options
        self._owner = owner
        self._actor: Any = None
        self._outgoing: list[Work] = []
        self._withdrawn: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the actor and load the model; ModelError, ConfigError or ReplicaDiedError where that fails."""
        import ray

        # Seen in Ray's dashboard. A name is free again only some time after its actor's death, and other jobs of the
        # same program have models of this name: each life has its own.
        name = f"{self._spec.name}/{self.index}.{uuid.uuid4().hex[:NAME_DIGITS]}"
        actor = self._actor = ray.remote(Replica).options(name=name, **self.options).remote(self._spec)
        try:
            await actor.up.remote()
            async with asyncio.timeout(self._spec.load_timeout_s):
                facts = await actor.load.remote()
        except TimeoutError as error:
            self._kill(actor)
            raise ReplicaDiedError(
                f"replica {self.index} of model {self._spec.name!r} had not loaded {self._spec.path!r} after "
                f"{self._spec.load_timeout_s:g} s, and was stopped. Look for what it waits for (a network, a disk, "
                f"memory); where it needs longer, raise models.{self._spec.name}.load_timeout_s"
            ) from error
        except ray.exceptions.RayError as error:
            self._kill(actor)
            raise ReplicaDiedError(
                f"replica {self.index} of model {self._spec.name!r} died while it loaded {self._spec.path!r}: {error}. "
                "Often memory ran out: lower replicas or max_batch, or give it more"
            ) from error
        if isinstance(facts, Refused):
            self._kill(actor)
            raise ConfigError(facts.message) if facts.config else ModelError(facts.message)
        if actor is not self._actor:
            raise ReplicaDiedError(f"replica {self.index} of model {self._spec.name!r} was given up while it loaded")
        self.facts = facts
        self.alive = True
        self.heard, self.longest, self.length = self._owner.now, 0.0, 1
        self._spawn(self._receive(actor))

    def give(self, work: Work) -> None:
        """Send a request at the end of this tick of the event loop."""
        work.since = self._owner.now
        self.running[work.number] = work
        self.load += work.size
        self.suspects += work.suspicion is not None
        self.apart += work.apart
        self._outgoing.append(work)
        self._flush_soon()

    def drop(self, work: Work) -> None:
        """Take a request back, and free the replica of it. Nothing is done where it is not here."""
        if self._remove(work.number) is None:
            return
        if work in self._outgoing:
            self._outgoing.remove(work)
        else:
            self._withdrawn.append(work.number)
            self._flush_soon()

    def oldest(self) -> Work | None:
        """The request that has been here longest."""
        return next(iter(self.running.values()), None)

    def pace(self) -> Pace:
        """What it takes at present."""
        oldest = self.oldest()
        return Pace(self.longest, self.length, 0.0 if oldest is None else self._owner.now - oldest.since)

    def hear(self, work: Work, outcome: Outcome) -> None:
        """Note how long an answer took."""
        self.heard = self._owner.now
        self.longest = max(self.longest, self.heard - work.since)
        if not isinstance(outcome, Refused):
            self.length = max(self.length, length_of(work.request, work.reach, outcome, self._spec.max_batch))

    def stop(self) -> None:
        """Kill the actor and forget it."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
        self._kill(self._actor)

    def retire(self) -> list[Work]:
        """Kill the actor; what was in flight, in the order in which it was given."""
        self.alive = False
        orphans = list(self.running.values())
        self.running.clear()
        self._outgoing.clear()
        self._withdrawn.clear()
        self.load = self.suspects = self.apart = 0
        self._kill(self._actor)
        return orphans

    def _kill(self, actor: Any) -> None:
        """An actor that one call says is gone may only be out of reach, and would keep its GPU.

        Of a life that is over this may come to be known when the next one has begun, which is left alone.
        """
        import ray

        if actor is self._actor:
            self._actor = None
        if actor is not None:
            # Where Ray cannot even kill it, it is out of reach: nothing is left to be done about it from here.
            with suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _remove(self, number: int) -> Work | None:
        work = self.running.pop(number, None)
        if work is not None:
            self.load -= work.size
            self.suspects -= work.suspicion is not None
            self.apart -= work.apart
        return work

    def _flush_soon(self) -> None:
        if len(self._outgoing) + len(self._withdrawn) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        batch, self._outgoing = self._outgoing, []
        withdrawn, self._withdrawn = self._withdrawn, []
        if not self.alive:
            return
        actor = self._actor
        if withdrawn:
            self._spawn(self._send(actor, actor.cancel, withdrawn))
        if batch:
            self._spawn(self._send(actor, actor.put, [(work.number, work.request) for work in batch]))

    async def _send(self, actor: Any, method: Any, batch: list[Any]) -> None:
        import ray

        try:
            await method.remote(batch)
        except ray.exceptions.RayError as error:
            self._bury(actor, error)

    async def _receive(self, actor: Any) -> None:
        import ray

        while True:
            try:
                outcomes = await actor.take.remote()
            except ray.exceptions.RayError as error:
                self._bury(actor, error)
                return
            failures: list[tuple[Work, Refused]] = []
            for number, outcome in outcomes:
                work = self._remove(number)
                if work is None:
                    # Taken back while its answer was on the way.
                    continue
                self.hear(work, outcome)
                if isinstance(outcome, Refused) and outcome.batch:
                    failures.append((work, outcome))
                else:
                    self._owner.answered(self, work, outcome)
            if failures:
                self._owner.failed(self, failures)
            if actor is not self._actor:
                return

    def _bury(self, actor: Any, error: Exception) -> None:
        """Hand back what was in flight. Sender and receiver both notice a death; the first one gets here."""
        if actor is not self._actor:
            return
        self._owner.died(self, self.retire(), " ".join(str(error).split()))
