"""The Ray backend: for every model a pool of actors that share its requests and are restarted when they die.

Invariants: every submitted request is resolved exactly once; replicas are placed before the first one loads; what a
replica had in flight when it died is sent again (see `work`); nothing is left on the cluster after `close`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from itertools import count
from typing import Any

from apportion.actors.cluster import connect, disconnect
from apportion.actors.health import Health
from apportion.actors.member import Member
from apportion.actors.placement import Need, release, reserve
from apportion.actors.replica import Loaded, Outcome, Refused
from apportion.actors.routing import choose, load_of
from apportion.actors.spec import ModelSpec
from apportion.actors.work import DEATHS_ALONE, Work, company, fits
from apportion.errors import ApportionError, ClusterLostError, ConfigError, EngineError, ReplicaDiedError, nearest
from apportion.types import Reply, Request

SLACK_SHARE = 4
# A prompt leaves its home replica once that is this part of a batch behind: its prefix is worth less than the wait.

DEATHS_IN_A_ROW = 6
# Without one reply in between. One request that kills is alone by its fourth death; more means the replica is at fault.

ALONE_IN_A_ROW = 2
# Different requests that fail alone on one replica, without one reply in between. Rarely are all of them to blame:
# the model may be broken, so the last one is tried on a new replica before it is held to be.


class ModelPool:
    """The replicas of one model."""

    def __init__(self, spec: ModelSpec, group: Any) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        need = Need.of(spec)
        self._spec = spec
        self._numbers = count()
        self._fresh: deque[Work] = deque()
        self._deaths_in_a_row = [0] * spec.replicas
        self._suspects: list[deque[Work]] = [deque() for _ in range(spec.replicas)]
        self._failed_alone: list[set[int]] = [set() for _ in range(spec.replicas)]
        self._causes: dict[int, str] = {}
        self._lost: dict[int, str] = {}
        self._restarting: set[asyncio.Task[None]] = set()
        self.members = [
            Member(
                index,
                spec,
                {
                    "num_cpus": need.cpus,
                    "num_gpus": need.gpus,
                    "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
                },
                self,
            )
            for index in range(spec.replicas)
        ]

    def submit(self, request: Request, affinity: int) -> asyncio.Future[Reply]:
        """Run a request on one of the replicas."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        work = Work(next(self._numbers), request, affinity, load_of(request), future)
        self._fresh.append(work)
        self._dispatch()
        return future

    def health(self) -> list[Health]:
        """One entry a replica."""
        return [
            Health(
                self._spec.name,
                member.index,
                member.alive,
                member.restarts,
                len(member.running),
                self._causes.get(member.index),
            )
            for member in self.members
        ]

    def answered(self, member: Member, work: Work, outcome: Outcome) -> None:
        """A reply came."""
        if isinstance(outcome, Refused) and outcome.batch:
            self._failed(member, work, outcome)
            return
        self._deaths_in_a_row[member.index] = 0
        if isinstance(outcome, Refused):
            _settle(work, EngineError(outcome.message).charged(outcome.usage))
        else:
            self._failed_alone[member.index].clear()
            if not work.future.done():
                work.future.set_result(outcome)
        if self._fresh or self._suspects[member.index]:
            self._dispatch()

    def _failed(self, member: Member, work: Work, outcome: Refused) -> None:
        """The model failed on a batch that held this request; its replica is still up."""
        if outcome.broken:
            self.died(member, [work, *member.retire()], outcome.message)
            return
        alone = outcome.alone or company(work.deaths) == 1
        work.deaths += 1
        failed_alone = self._failed_alone[member.index]
        if alone:
            failed_alone.add(work.number)
        if len(failed_alone) >= ALONE_IN_A_ROW:
            cause = f"it failed on {ALONE_IN_A_ROW} requests in a row, each alone: {outcome.message}"
            self._renew(member, [work, *member.retire()], cause)
            return
        if alone and work.deaths >= DEATHS_ALONE:
            _settle(work, EngineError(outcome.message))
        else:
            self._again(member, [work])
        self._dispatch()

    def died(self, member: Member, orphans: list[Work], cause: str) -> None:
        """A replica is gone: send its requests again, and start it anew."""
        for work in orphans:
            work.deaths += 1
        if len(orphans) == 1 and orphans[0].deaths >= DEATHS_ALONE:
            why = f"{DEATHS_ALONE} replicas or more died while they ran it"
            _settle(orphans.pop(), ReplicaDiedError(f"model {self._spec.name!r} lost a request: {why}: {cause}"))
        self._renew(member, orphans, cause)

    def _again(self, member: Member, works: list[Work]) -> None:
        """Put requests back in line: suspects wait for their own replica, the others go first."""
        self._suspects[member.index].extend(work for work in works if work.suspect)
        self._fresh.extendleft(reversed([work for work in works if not work.suspect]))

    def _renew(self, member: Member, orphans: list[Work], cause: str) -> None:
        """Start a replica anew, or give it up."""
        self._again(member, orphans)
        self._deaths_in_a_row[member.index] += 1
        self._failed_alone[member.index].clear()
        self._causes[member.index] = cause
        if self._deaths_in_a_row[member.index] >= DEATHS_IN_A_ROW:
            self._give_up(member, f"it died {DEATHS_IN_A_ROW} times in a row: {cause}")
        else:
            task = asyncio.ensure_future(self._restart(member))
            self._restarting.add(task)
            task.add_done_callback(self._restarting.discard)
        self._dispatch()

    async def _restart(self, member: Member) -> None:
        member.restarts += 1
        try:
            await member.start()
        except ReplicaDiedError as error:
            self.died(member, [], str(error))
        except ApportionError as error:
            self._give_up(member, str(error))
        except Exception as error:
            # Whatever it is: with the task's end nobody else would look after this replica's requests.
            member.retire()
            self._give_up(member, f"it did not start again: {type(error).__name__}: {error}")
        self._dispatch()

    def _give_up(self, member: Member, cause: str) -> None:
        """Go on without a replica; without the last one, everything that waits is lost."""
        self._lost[member.index] = self._causes[member.index] = cause
        left = [other.index for other in self.members if other.index not in self._lost]
        suspects = self._suspects[member.index]
        for place, work in enumerate(suspects):
            if left:
                self._suspects[left[place % len(left)]].append(work)
            else:
                _settle(work, self._all_lost())
        suspects.clear()

    def _all_lost(self) -> ClusterLostError:
        causes = "; ".join(sorted(set(self._lost.values())))
        return ClusterLostError(
            f"every replica of model {self._spec.name!r} is gone: {causes}. Run the same command again to resume"
        )

    def _dispatch(self) -> None:
        """Give out what waits, as far as replicas may take it."""
        for member in self.members:
            suspects = self._suspects[member.index]
            while member.alive and suspects and fits(suspects[0], member.running.values()):
                member.give(suspects.popleft())
        if len(self._lost) == len(self.members):
            while self._fresh:
                _settle(self._fresh.popleft(), self._all_lost())
        open_loads = {
            member.index: member.load
            for member in self.members
            if member.alive
            and not self._suspects[member.index]
            and not any(work.suspect for work in member.running.values())
        }
        while self._fresh and open_loads:
            work = self._fresh.popleft()
            chosen = choose(work.affinity, open_loads, self._spec.max_batch // SLACK_SHARE)
            self.members[chosen].give(work)
            open_loads[chosen] += work.size

    def stop(self) -> None:
        """Kill the replicas; what was in flight is lost."""
        closed = f"the backend was closed before model {self._spec.name!r} had answered; run the same command again"
        for task in self._restarting:
            task.cancel()
        for member in self.members:
            waiting = [*member.running.values(), *self._suspects[member.index]]
            member.stop()
            for work in waiting:
                _settle(work, ClusterLostError(closed))
        while self._fresh:
            _settle(self._fresh.popleft(), ClusterLostError(closed))


def _settle(work: Work, error: ApportionError) -> None:
    if not work.future.done():
        work.future.set_exception(error)


class RayBackend:
    """A Backend (see `protocols`) on a Ray cluster."""

    def __init__(self, cluster: str, specs: Sequence[ModelSpec]) -> None:
        self._cluster = cluster
        self._specs = list(specs)
        self._pools: dict[str, ModelPool] = {}
        self._groups: dict[str, Any] = {}
        self._connected = False

    async def start(self) -> None:
        """Connect, reserve room for every replica, then load them all at once."""
        needs = [Need.of(spec) for spec in self._specs]
        self._connected = connect(self._cluster, needs)
        try:
            self._groups = await reserve(needs)
            self._pools = {spec.name: ModelPool(spec, self._groups[spec.name]) for spec in self._specs}
            members = [member for pool in self._pools.values() for member in pool.members]
            await asyncio.gather(*(member.start() for member in members))
        except BaseException as error:
            try:
                await self.close()
            except Exception as second:
                error.add_note(f"nor could the cluster be left in order: {second}")
            raise

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        """Run one request on the model it names."""
        pool = self._pools.get(request.model)
        if pool is None:
            raise ConfigError(
                f"a request names the model {request.model!r}, which is not started; "
                f"{nearest(request.model, self._pools)}"
            )
        return pool.submit(request, affinity)

    def health(self) -> Sequence[Health]:
        """Every replica of every model."""
        return [entry for pool in self._pools.values() for entry in pool.health()]

    def places(self) -> dict[str, list[Loaded | None]]:
        """Where each replica of each model runs; None where it is not up."""
        return {
            name: [member.facts if member.alive else None for member in pool.members]
            for name, pool in self._pools.items()
        }

    async def close(self) -> None:
        """Kill the replicas, free their room, and stop Ray where `start` started it."""
        pools, self._pools = self._pools, {}
        groups, self._groups = self._groups, {}
        connected, self._connected = self._connected, False
        try:
            for pool in pools.values():
                pool.stop()
            release(groups.values())
        finally:
            if connected:
                disconnect()
