"""Looks after the replicas of a pool: notices those that hang, lag, or have no room any more (rules in `watch`)."""

from __future__ import annotations

import asyncio
from typing import Protocol

from apportion.actors.member import Member
from apportion.actors.rooms import Rooms
from apportion.actors.spec import ModelSpec
from apportion.actors.watch import TICK_S, limit
from apportion.actors.work import Work


class Watched(Protocol):
    """The pool. Its clock `now` is moved on here."""

    now: float
    members: list[Member]

    def died(self, member: Member, orphans: list[Work], cause: str) -> None: ...

    def move(self, member: Member, works: list[Work], cause: str) -> None: ...

    def give_up_all(self, cause: str) -> None: ...


class Overseer:
    """Runs beside one pool, in its event loop. `rooms` None: its replicas have no room that could be lost."""

    def __init__(self, pool: Watched, spec: ModelSpec, rooms: Rooms | None) -> None:
        self._pool = pool
        self._spec = spec
        self._rooms = rooms
        self._dark = 0.0
        """for how long no replica was up"""

    async def run(self) -> None:
        """Look every TICK_S, until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            passed, last = min(now - last, 2 * TICK_S), now
            self._pool.now += passed
            for member in self._pool.members:
                if member.alive:
                    self._look(member)
            self._dark = 0.0 if any(member.alive for member in self._pool.members) else self._dark + passed
            if self._rooms is not None and self._dark > self._rooms.patience_s:
                await self._look_for_room(self._rooms)

    def _look(self, member: Member) -> None:
        """Replace a replica that answers nothing in time; take from one that answers others what is late there."""
        others = [other.pace() for other in self._pool.members if other.alive and other is not member]
        most = limit(others, self._spec.timeout_s)
        late = [work for work in member.running.values() if self._pool.now - work.since > most]
        if not late:
            return
        silent = self._pool.now - max(member.heard, late[0].since)
        if silent > most:
            cause = f"it had not answered for {silent:.0f} s, and at most {most:.0f} s are usual: it hangs or lags"
            self._pool.died(member, member.retire(), cause)
        else:
            self._pool.move(member, late, f"no answer for {most:.0f} s")

    async def _look_for_room(self, rooms: Rooms) -> None:
        """No replica was up for long: wait on where one has room and loads, else give the model up."""
        import ray

        try:
            placed = await rooms.placed()
        except ray.exceptions.RayError:
            # Nothing is known of the rooms while the cluster does not answer: `run` looks again at its next tick.
            return
        self._dark = 0.0
        if not any((self._spec.name, member.index) in placed for member in self._pool.members):
            self._pool.give_up_all(f"no node had room for a replica within {rooms.patience_s:.0f} s")
