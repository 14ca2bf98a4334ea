"""The Ray backend: a pool of actors for every model of a job, on a cluster.

Invariants: room is asked for before the first model loads; a job begins once one replica of every model is up, and the
others join when they are; nothing is left on the cluster after `close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import ExitStack

from apportion.actors.cluster import connect, disconnect
from apportion.actors.health import Health
from apportion.actors.placement import Need
from apportion.actors.pool import ModelPool
from apportion.actors.protocols import OnLoss
from apportion.actors.replica import Loaded
from apportion.actors.rooms import Rooms, reserve
from apportion.actors.spec import ModelSpec
from apportion.actors.ways import Ways
from apportion.errors import ConfigError, nearest
from apportion.types import Reply, Request


class RayBackend:
    """A Backend that TellsLosses and TellsWaiting (see `protocols`) on a Ray cluster."""

    def __init__(self, cluster: str, specs: Sequence[ModelSpec], wait_s: float = 0.0) -> None:
        self._cluster = cluster
        self._specs = list(specs)
        self._wait_s = wait_s
        self._pools: dict[str, ModelPool] = {}
        self._rooms: Rooms | None = None
        self._connected = False
        self._listener: OnLoss | None = None
        self._waits_for = ""

    @property
    def waits_for(self) -> str:
        """The room that is waited for, while `start` does."""
        return self._waits_for

    def _waiting(self, what: str) -> None:
        self._waits_for = what

    def tell_losses(self, listener: OnLoss) -> None:
        """Ask `listener` before work that was lost is done again."""
        self._listener = listener

    async def start(self) -> None:
        """Connect, ask for room for every replica, and load models until one replica of each is up."""
        needs = [Need.of(spec) for spec in self._specs]
        self._connected = connect(self._cluster, needs)
        try:
            self._rooms = rooms = await reserve(needs, self._wait_s, self._waiting)
            ways = Ways(rooms, {need.model: need for need in needs}, self._pools)
            for spec in self._specs:
                self._pools[spec.name] = ModelPool(spec, rooms, lambda: self._listener, ways)
            await asyncio.gather(*(pool.start() for pool in self._pools.values()))
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
        rooms, self._rooms = self._rooms, None
        connected, self._connected = self._connected, False
        # One that fails keeps none of the others from being done.
        with ExitStack() as steps:
            if connected:
                steps.callback(disconnect)
            if rooms is not None:
                steps.callback(rooms.release)
            for pool in pools.values():
                steps.callback(pool.stop)
