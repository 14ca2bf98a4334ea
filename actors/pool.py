"""The replicas of one model: they share its requests, are watched, and are started anew when they die.

Invariants: every submitted request is resolved exactly once, or was taken back by whoever cancelled its future; what a
replica had in flight when it died, hung or lagged is sent again, if whoever pays for it agrees (see `work`). Replicas
come and go while the pool runs: what waits is given to whichever is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import count
from typing import Any

from apportion.actors.health import Health
from apportion.actors.line import Line
from apportion.actors.member import Member
from apportion.actors.overseer import Overseer
from apportion.actors.protocols import OnLoss
from apportion.actors.replica import Outcome, Refused
from apportion.actors.rooms import Rooms, actor_options
from apportion.actors.routing import load_of
from apportion.actors.spec import ModelSpec
from apportion.actors.watch import reach_of
from apportion.actors.ways import Ways
from apportion.actors.work import DEATHS_ALONE, Work, accuse
from apportion.errors import ApportionError, ClusterLostError, EngineError, ModelError, ReplicaDiedError
from apportion.types import Reply, Request

DEATHS_IN_A_ROW = 6
# Without one reply in between. One request that kills is found by its fourth death; more means the replica is at fault.

LOADING_AGAIN_S = 2.0
# Between two attempts to load: a node that died takes its replicas with it some time before the cluster knows of it.

ALONE_IN_A_ROW = 2
# Different requests that fail alone on one replica, without one reply in between. Rarely are all of them to blame:
# the model may be broken, so the last one is tried on a new replica before it is held to be.


class ModelPool:
    """The replicas of one model. `now` is a clock that stands still while this process is held up."""

    def __init__(
        self,
        spec: ModelSpec,
        rooms: Rooms | None,
        ask: Callable[[], OnLoss | None] = lambda: None,
        ways: Ways | None = None,
    ) -> None:
        """`rooms` None lets Ray place the replicas. `ask` gives whom to ask about work that was lost, `ways` room."""
        self.now = 0.0
        self._spec = spec
        self._rooms = rooms
        self._ask = ask
        self._ways = ways
        self._numbers = count()
        self._line = Line(spec.max_batch)
        self._deaths_in_a_row = [0] * spec.replicas
        self._failed_alone: list[set[int]] = [set() for _ in range(spec.replicas)]
        self._died_alone: set[int] = set()
        """requests that were alone when a replica died, since the last reply"""
        self._causes: dict[int, str] = {}
        self._lost: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._up: asyncio.Future[None] | None = None
        self._woken = False
        self.members = [Member(index, spec, actor_options(spec, rooms, index), self) for index in range(spec.replicas)]

    async def start(self) -> None:
        """Start every replica; returns when the first is up. Raises what the last one to fail failed with."""
        self._up = asyncio.get_running_loop().create_future()
        self._spawn(Overseer(self, self._spec, self._rooms, self._ways).run())
        for member in self.members:
            self._spawn(self._bring_up(member))
        await self._up

    def submit(self, request: Request, affinity: int) -> asyncio.Future[Reply]:
        """Run a request on one of the replicas. Cancelling the future takes it back."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        reach = reach_of(request, self._spec.max_batch)
        work = Work(next(self._numbers), request, affinity, load_of(request), reach, future)
        future.add_done_callback(partial(self._taken_back, work))
        self._line.join(work)
        self._wake()
        return future

    def health(self) -> list[Health]:
        """One entry a replica."""
        name, causes = self._spec.name, self._causes
        return [
            Health(name, one.index, one.alive, one.restarts, len(one.running), causes.get(one.index))
            for one in self.members
        ]

    def answered(self, member: Member, work: Work, outcome: Outcome) -> None:
        """A reply came, or an error that only this request is to blame for."""
        self._deaths_in_a_row[member.index] = 0
        if isinstance(outcome, Refused):
            work.fail(EngineError(outcome.message).charged(outcome.usage))
        else:
            self._failed_alone[member.index].clear()
            self._died_alone.clear()
            if not work.future.done():
                work.future.set_result(outcome)
        if self._line:
            self._wake()

    def failed(self, member: Member, failures: Sequence[tuple[Work, Refused]]) -> None:
        """The model failed on batches that held these requests."""
        works = [work for work, _ in failures]
        cause = next((outcome.message for _, outcome in failures if outcome.broken), None)
        if cause is not None:
            self.died(member, [*works, *member.retire()], cause)
            return
        alone = {work.number for work, outcome in failures if outcome.alone or work.alone}
        narrowed = accuse(works, apart=True)
        failed_alone = self._failed_alone[member.index]
        failed_alone |= alone
        cause = failures[0][1].message
        if len(failed_alone) >= ALONE_IN_A_ROW:
            cause = f"it failed on {ALONE_IN_A_ROW} requests in a row, each alone: {cause}"
            self._renew(member, [*works, *member.retire()], cause)
        else:
            for work, outcome in failures:
                if work.number in alone and work.deaths >= DEATHS_ALONE:
                    self._condemn(work, EngineError(outcome.message))
            self._again(works, cause)
        self._line.acquit(narrowed)
        self._wake()

    def died(self, member: Member, orphans: list[Work], cause: str) -> None:
        """A replica is gone: send its requests again, and start it anew."""
        narrowed = accuse(orphans, apart=False)
        if len(orphans) == 1 and self._is_guilty(orphans[0]):
            why = f"{DEATHS_ALONE} replicas or more died while they ran it"
            self._condemn(orphans[0], ReplicaDiedError(f"model {self._spec.name!r} lost a request: {why}: {cause}"))
        self._line.acquit(narrowed)
        self._renew(member, orphans, cause)

    def _is_guilty(self, work: Work) -> bool:
        """Whether a request was to blame that was alone at a death: less likely so where others just were, too."""
        others = len(self._died_alone - {work.number})
        if work.deaths >= DEATHS_ALONE:
            self._died_alone.add(work.number)
        return work.deaths >= DEATHS_ALONE + others

    def _condemn(self, work: Work, error: EngineError) -> None:
        """Set a request aside; what was done of it is lost all the same.

        With it go those of its prompt that are suspects, too: they would do as it did, and their prompt has failed.
        """
        listener = self._ask()
        if listener is not None and not work.future.done():
            listener(work.request, work.affinity, str(error))
        for one in (work, *self._line.convict(work.affinity)):
            one.fail(error)

    def _again(self, works: list[Work], cause: str) -> None:
        """Put requests back in line, those that may be done again."""
        listener = self._ask()
        back = []
        for work in works:
            if work.future.done():
                continue
            if listener is not None and not listener(work.request, work.affinity, cause):
                work.fail(EngineError(f"its work was lost, and the budget does not cover doing it again: {cause}"))
            else:
                back.append(work)
        self._line.rejoin(back)

    def _renew(self, member: Member, orphans: list[Work], cause: str) -> None:
        """Start a replica anew, or give it up."""
        self._again(orphans, cause)
        self._deaths_in_a_row[member.index] += 1
        self._failed_alone[member.index].clear()
        self._causes[member.index] = cause
        if self._deaths_in_a_row[member.index] >= DEATHS_IN_A_ROW:
            again = f"it died or did not load {DEATHS_IN_A_ROW} times in a row: {cause}"
            self._give_up(member, ReplicaDiedError(again))
        else:
            member.restarts += 1
            self._spawn(self._bring_up(member))
        self._wake()

    async def _bring_up(self, member: Member) -> None:
        life = member.restarts
        try:
            await member.start()
        except (ReplicaDiedError, ModelError) as error:
            await self._load_again(member, error, life)
        except ApportionError as error:
            self._give_up(member, error)
        except Exception as error:
            # Whatever it is: with the task's end nobody else would look after this replica.
            member.retire()
            self._give_up(member, error)
        else:
            if self._up is not None and not self._up.done():
                self._up.set_result(None)
        self._wake()

    async def _load_again(self, member: Member, error: ApportionError, life: int) -> None:
        """Try once more to load: what was in the way may be gone, as the memory of one that was killed.

        Where no replica of this model was ever up it would most likely end alike, so one is waited for.
        """
        if self._up is not None and not self._up.done():
            self._give_up(member, error)
            await asyncio.wait({self._up})
            if self._up.exception() is not None:
                return
            del self._lost[member.index]
        await asyncio.sleep(LOADING_AGAIN_S)
        # It may have been given up meanwhile, which also kills one that loads, or have left and come back.
        if member.index not in self._lost and member.restarts == life:
            self.died(member, [], str(error))

    def _give_up(self, member: Member, error: Exception) -> None:
        """Go on without a replica; without the last one, everything that waits is lost."""
        ours = isinstance(error, ApportionError)
        cause = str(error) if ours else f"it did not start: {type(error).__name__}: {error}"
        self._lost[member.index] = self._causes[member.index] = cause
        if len(self._lost) == len(self.members) and self._up is not None and not self._up.done():
            self._up.set_exception(error)

    def _wake(self) -> None:
        """Give out what waits, at the end of this tick of the event loop."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._woken = False
        if len(self._lost) == len(self.members):
            gone = f"every replica of model {self._spec.name!r} is gone: {'; '.join(sorted(set(self._lost.values())))}"
            for work in self._line.clear():
                work.fail(ClusterLostError(f"{gone}. Run the same command again to resume"))
        self._line.give_out(self.members)

    def _taken_back(self, work: Work, future: asyncio.Future[Reply]) -> None:
        """Whoever waited for a request has cancelled it: its replica is freed of it."""
        if future.cancelled():
            for member in self.members:
                member.drop(work)
            self._wake()

    def move(self, member: Member, works: list[Work], cause: str) -> None:
        """Take requests that are late from a replica that answers others, for another one to run."""
        for work in works:
            member.drop(work)
            work.overdue += 1
            work.avoid = member.index
            if work.overdue >= DEATHS_ALONE:
                why = f"{work.overdue} replicas answered others and not this one"
                self._condemn(work, ReplicaDiedError(f"model {self._spec.name!r} lost a request: {why}: {cause}"))
        self._again(works, cause)
        self._wake()

    def give_up_all(self, cause: str) -> None:
        """No replica will come back."""
        for member in self.members:
            if member.index not in self._lost:
                member.retire()
                self._give_up(member, ClusterLostError(cause))
        self._wake()

    def leave(self, index: int, cause: str) -> None:
        """One replica ends; its requests go to the others."""
        member = self.members[index]
        self._lost[index] = self._causes[index] = cause
        self._again(member.retire(), cause)
        self._wake()

    def join(self, index: int) -> None:
        """One that left is started where it has room now."""
        member = self.members[index]
        del self._lost[index]
        member.restarts += 1
        member.options = actor_options(self._spec, self._rooms, index)
        self._spawn(self._bring_up(member))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Kill the replicas; what was in flight is lost."""
        closed = f"the backend was closed before model {self._spec.name!r} had answered; run the same command again"
        for task in self._tasks:
            task.cancel()
        waiting = self._line.clear()
        for member in self.members:
            waiting += member.running.values()
            member.stop()
        for work in waiting:
            work.fail(ClusterLostError(closed))
