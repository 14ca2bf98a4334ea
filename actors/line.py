"""The requests of one model that wait for a replica, and which replica each is given to.

Invariants: a replica runs only so many suspects (see `work`) as their suspicion allows, and nothing beside those that
are to be apart; all others go to the prompt's home, or where that is behind to the least loaded replica (see
`routing`); a replica holds no more than it needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from apportion.actors.member import Member
from apportion.actors.routing import Homes, choose
from apportion.actors.work import Suspicion, Work, fits

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
        self._apart: deque[Work] = deque()
        self._ward: int | None = None
        """a replica that is given nothing else, so that those to be apart will find it empty"""

    def __len__(self) -> int:
        return len(self._fresh) + len(self._suspects) + len(self._apart)

    def join(self, work: Work) -> None:
        """One more request."""
        self._fresh.append(work)

    def rejoin(self, works: Sequence[Work]) -> None:
        """Requests that were under way: those that are no suspects go before all others, in their order."""
        self._apart.extend(work for work in works if work.apart)
        self._suspects.extend(work for work in works if work.suspicion is not None and not work.apart)
        self._fresh.extendleft(reversed([work for work in works if work.suspicion is None]))

    def acquit(self, suspicions: Collection[Suspicion]) -> None:
        """Those who share one of these and wait here are no suspects any more."""
        cleared = self._take_suspects(lambda work: work.suspicion in suspicions)
        for work in cleared:
            work.clear()
        self.rejoin(cleared)

    def convict(self, affinity: int) -> list[Work]:
        """Suspects of one prompt that wait here leave."""
        return self._take_suspects(lambda work: work.affinity == affinity)

    def _take_suspects(self, which: Callable[[Work], bool]) -> list[Work]:
        taken: list[Work] = []
        for queue in (self._suspects, self._apart):
            waiting = list(queue)
            queue.clear()
            for work in waiting:
                (taken if which(work) else queue).append(work)
        return taken

    def clear(self) -> list[Work]:
        """Everybody leaves."""
        works = [*self._fresh, *self._suspects, *self._apart]
        for queue in (self._fresh, self._suspects, self._apart):
            queue.clear()
        return works

    def give_out(self, members: Sequence[Member]) -> None:
        """Give what waits to replicas that are up, as far as they may take it; members are numbered from 0."""
        up = [member for member in members if member.alive]
        self._give_apart(members, up)
        loads = {
            member.index: member.load
            for member in up
            if member.load < self._most and not member.apart and member.index != self._ward
        }
        numbers = tuple([member.index for member in up])
        while loads and (work := _first(self._suspects)) is not None:
            company = work.suspicion.company if work.suspicion is not None else 1
            able = {index: load for index, load in loads.items() if members[index].suspects < company}
            if not able:
                break
            self._hand(self._suspects.popleft(), members, able, loads, numbers)
        while loads and self._fresh:
            work = self._fresh.popleft()
            if not work.future.done():
                self._hand(work, members, loads, loads, numbers)

    def _hand(
        self, work: Work, members: Sequence[Member], able: dict[int, int], loads: dict[int, int], up: tuple[int, ...]
    ) -> None:
        """Give a request to one of the `able`; one of `loads` that is full then is left out of them."""
        chosen = choose(self._homes.of(work.affinity, up), able, self._slack, work.avoid)
        members[chosen].give(work)
        loads[chosen] += work.size
        if loads[chosen] >= self._most:
            del loads[chosen]

    def _give_apart(self, members: Sequence[Member], up: Sequence[Member]) -> None:
        """Give those to be apart to one replica, the ward, as soon as it runs no others; the rest go on meanwhile."""
        if _first(self._apart) is None:
            self._ward = None
            return
        if not up:
            self._ward = None
            return
        if self._ward is None or not members[self._ward].alive or not members[self._ward].apart:
            self._ward = min(up, key=lambda member: (member.load, member.index)).index
        ward = members[self._ward]
        while (work := _first(self._apart)) is not None and fits(work, ward.running.values()):
            ward.give(self._apart.popleft())


def _first(queue: deque[Work]) -> Work | None:
    """The first that somebody still waits for; those before it leave."""
    while queue and queue[0].future.done():
        queue.popleft()
    return queue[0] if queue else None
