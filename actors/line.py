"""The requests of one model that wait for a replica, and which replica each is given to.

Invariants: requests that saw two deaths (suspects, see `work`) run beside no others; the others go to the prompt's
home, or where that is behind to the least loaded replica (see `routing`); a replica holds no more than it needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from apportion.actors.member import Member
from apportion.actors.routing import Homes, choose
from apportion.actors.work import Work, fits

SLACK_SHARE = 4
# A prompt leaves its home replica once that is this part of a batch behind: its prefix is worth less than the wait.

BATCHES_AHEAD = 2
# A replica holds what it runs and as much again, so that it never waits for work; the rest waits here, where a replica
# that joins or is quicker finds it, and where it is not lost with one that dies.


class Line:
    """Requests in the order in which they go; those whose future is done are passed over."""

    def __init__(self, max_batch: int) -> None:
        self._most = BATCHES_AHEAD * max_batch
        self._slack = max_batch // SLACK_SHARE
        self._homes = Homes()
        self._fresh: deque[Work] = deque()
        self._suspects: deque[Work] = deque()
        self._ward: int | None = None
        """a replica that is given nothing, so that suspects will find it empty"""

    def __len__(self) -> int:
        return len(self._fresh) + len(self._suspects)

    def join(self, work: Work) -> None:
        """One more request."""
        self._fresh.append(work)

    def rejoin(self, works: Sequence[Work]) -> None:
        """Requests that were under way: suspects apart, the others go first, in their order."""
        self._suspects.extend(work for work in works if work.suspect)
        self._fresh.extendleft(reversed([work for work in works if not work.suspect]))

    def clear(self) -> list[Work]:
        """Everybody leaves."""
        works = [*self._fresh, *self._suspects]
        self._fresh.clear()
        self._suspects.clear()
        return works

    def give_out(self, members: Sequence[Member]) -> None:
        """Give what waits to replicas that are up, as far as they may take it; members are numbered from 0."""
        up = [member for member in members if member.alive]
        self._give_suspects(members, up)
        loads = {
            member.index: member.load
            for member in up
            if member.load < self._most and not member.suspects and member.index != self._ward
        }
        numbers = tuple([member.index for member in up])
        while self._fresh and loads:
            work = self._fresh.popleft()
            if work.future.done():
                continue
            chosen = choose(self._homes.of(work.affinity, numbers), loads, self._slack, work.avoid)
            members[chosen].give(work)
            loads[chosen] += work.size
            if loads[chosen] >= self._most:
                del loads[chosen]

    def _give_suspects(self, members: Sequence[Member], up: Sequence[Member]) -> None:
        """Give suspects to replicas that run no others; where there is none, let one run empty."""
        for member in up:
            while self._next_suspect() is not None and member.suspects == len(member.running):
                suspect = self._suspects[0]
                if not fits(suspect, member.running.values()):
                    break
                member.give(self._suspects.popleft())
        if not self._suspects:
            self._ward = None
        elif self._ward is None or not members[self._ward].alive:
            self._ward = min(up, key=lambda member: (member.load, member.index)).index if up else None

    def _next_suspect(self) -> Work | None:
        while self._suspects and self._suspects[0].future.done():
            self._suspects.popleft()
        return self._suspects[0] if self._suspects else None
