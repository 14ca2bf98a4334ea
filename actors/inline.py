"""The backend that runs every model in this process: no Ray, one instance a model.

Deaths are not isolated, and a hung model is not noticed. A request of a batch that the model failed on is tried once
more, such requests one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from apportion.actors.health import Health
from apportion.actors.host import Host
from apportion.actors.protocols import OnLoss
from apportion.actors.spec import ModelSpec
from apportion.errors import BatchError, ClusterLostError, ConfigError, nearest
from apportion.types import Reply, Request


class InlineBackend:
    """Models in this process, for small runs, tests and debugging."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._hosts: dict[str, Host] = {}
        self._running: dict[str, set[asyncio.Task[Reply]]] = {name: set() for name in self._specs}
        self._again = {name: asyncio.Lock() for name in self._specs}
        self._listener: OnLoss | None = None

    async def start(self) -> None:
        """Load every model, one after the other; ModelError where one does not load."""
        for name, spec in self._specs.items():
            self._hosts[name] = await asyncio.to_thread(Host.load, spec)

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        """Run a request at once; `affinity` has nothing to choose from."""
        host = self._hosts.get(request.model)
        if host is None:
            raise ConfigError(
                f"a request names the model {request.model!r}, which is not started; "
                f"{nearest(request.model, self._hosts)}"
            )
        running = self._running[request.model]
        task = asyncio.ensure_future(self._run(host, request, affinity))
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    def tell_losses(self, listener: OnLoss) -> None:
        """Ask `listener` before a request of a failed batch is tried again."""
        self._listener = listener

    async def _run(self, host: Host, request: Request, affinity: int) -> Reply:
        try:
            return await host.run(request)
        except BatchError as error:
            if not self._lost(request, affinity, error):
                raise
        try:
            async with self._again[request.model]:
                return await host.run(request)
        except BatchError as error:
            self._lost(request, affinity, error)
            raise

    def _lost(self, request: Request, affinity: int, error: BatchError) -> bool:
        """Tell of lost work; whether it may be done again. Raises ClusterLostError where the model is gone."""
        again = self._listener is None or self._listener(request, affinity, str(error))
        if error.broken:
            raise ClusterLostError(
                f"model {request.model!r} is gone: {error}. Run the same command again to resume"
            ) from error
        return again

    def health(self) -> Sequence[Health]:
        """One replica a model; it lives while this process does."""
        return [Health(name, 0, name in self._hosts, 0, len(running)) for name, running in self._running.items()]

    async def close(self) -> None:
        """Cancel what runs and free the models."""
        tasks = [task for running in self._running.values() for task in running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._hosts:
            _, host = self._hosts.popitem()
            await host.close()
