"""Looks after the replicas of a pool: notices those that hang, lag, or have no room any more (rules in `watch`)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import takewhile
from typing import Protocol

from apportion.actors.member import Member
from apportion.actors.rooms import Rooms
from apportion.actors.spec import ModelSpec
from apportion.actors.watch import TICK_S, Usual
from apportion.actors.ways import Ways
from apportion.actors.work import Work

ROOM_S = 30.0
# A model without a replica looks for room so often. Where a node has room, Ray places a group anew within seconds.


class Watched(Protocol):
    """The pool. Its clock `now` is moved on here."""

    now: float
    members: list[Member]

    def died(self, member: Member, orphans: list[Work], cause: str) -> None: ...

    def move(self, member: Member, works: list[Work], cause: str) -> None: ...

    def give_up_all(self, cause: str) -> None: ...


class Overseer:
    """Runs beside one pool, in its event loop. `rooms` None: its replicas have no room that could be lost.

    `ways`, if any, is asked for room where there is none.
    """

    def __init__(self, pool: Watched, spec: ModelSpec, rooms: Rooms | None, ways: Ways | None = None) -> None:
        self._pool = pool
        self._spec = spec
        self._rooms = rooms
        self._ways = ways
        self._dark = 0.0
        """for how long no replica was up"""
        self._looked = 0.0
        """`_dark` when room was looked for last"""

    async def run(self) -> None:
        """Look every TICK_S, until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            passed, last = min(now - last, 2 * TICK_S), now
            self._pool.now += passed
            self._look()
            if any(member.alive for member in self._pool.members):
                self._dark = self._looked = 0.0
                self._settle()
            else:
                self._dark += passed
            if self._rooms is not None and self._dark - self._looked > min(ROOM_S, self._rooms.patience_s):
                await self._look_for_room(self._rooms)

    def _settle(self) -> None:
        """Say that the model needs no other's room."""
        import ray

        if self._ways is not None:
            # A cluster that does not answer is asked again at the next tick.
            with suppress(ray.exceptions.RayError):
                self._ways.settle(self._spec.name)

    def _look(self) -> None:
        """Look at the replicas that are up, each beside the others."""
        up = [member for member in self._pool.members if member.alive]
        usual = Usual({member.index: member.pace() for member in up}, self._spec.timeout_s)
        for member in up:
            self._judge(member, usual)

    def _judge(self, member: Member, usual: Usual) -> None:
        """Replace a replica that answers nothing in time; take from one that answers others what is late there."""
        now = self._pool.now
        # Nothing is late before the shortest would be. Those given first stand first.
        soonest = usual.limit(member.index, 1)
        old = takewhile(lambda work: now - work.since > soonest, member.running.values())
        limits = ((work, usual.limit(member.index, work.reach)) for work in old)
        late = [(work, most) for work, most in limits if now - work.since > most]
        if not late:
            return
        most = min(most for _, most in late)
        silent = now - max(member.heard, late[0][0].since)
        if silent > most:
            cause = f"it had not answered for {silent:.0f} s, and at most {most:.0f} s are usual: it hangs or lags"
            self._pool.died(member, member.retire(), cause)
        else:
            self._pool.move(member, [work for work, _ in late], f"no answer for {most:.0f} s")

    async def _look_for_room(self, rooms: Rooms) -> None:
        """No replica was up for long: wait on where one has room and loads, get room, or give the model up."""
        import ray

        try:
            placed = await rooms.placed()
            loads = any((self._spec.name, member.index) in placed for member in self._pool.members)
            if loads or (self._ways is not None and await self._ways.make(self._spec.name)):
                self._dark = self._looked = 0.0
                return
        except ray.exceptions.RayError:
            # Nothing is known of the rooms while the cluster does not answer: `run` looks again at its next tick.
            return
        self._looked = self._dark
        if self._dark > rooms.patience_s:
            self._pool.give_up_all(f"no node had room for a replica within {rooms.patience_s:.0f} s")
