"""The Ray actor that holds one replica of a model.

Requests come and replies go in batches: `put` hands over what the driver has, `take` waits until something is ready
and returns all of it. Calls then cost once a batch in each direction, while every reply leaves as soon as it is ready.
`cancel` takes requests back; the engine is freed of them, and they are not answered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from apportion.actors.host import Host
from apportion.actors.spec import ModelSpec
from apportion.errors import ApportionError, BatchError, ConfigError, EngineError
from apportion.types import Reply, Request, Usage


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where a replica runs."""

    pid: int
    node: str
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """An error that crosses back as its message; `config` says that the config is to blame, not the model.

    `batch`, `alone` and `broken` are those of a BatchError; `usage` is what the failed work cost all the same.
    """

    message: str
    config: bool = False
    batch: bool = False
    alone: bool = False
    broken: bool = False
    usage: Usage | None = None


Outcome = Reply | Refused


class Replica:
    """One model in one actor process; all methods run in its event loop."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._host: Host | None = None
        self._ready: list[tuple[int, Outcome]] = []
        self._any = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def up(self) -> None:
        """Answers as soon as the actor's process runs, which may wait for room."""

    async def load(self) -> Loaded | Refused:
        """Load the model. Called once, before anything else."""
        import ray

        try:
            self._host = await asyncio.to_thread(Host.load, self._spec)
        except ApportionError as error:
            return Refused(str(error), isinstance(error, ConfigError))
        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids().get("GPU", [])
        return Loaded(os.getpid(), context.get_node_id(), tuple(map(str, gpus)))

    async def put(self, batch: Sequence[tuple[int, Request]]) -> None:
        """Begin requests; each number comes back once from `take`, unless it is cancelled."""
        for number, request in batch:
            task = asyncio.ensure_future(self._run(number, request))
            self._tasks[number] = task
            task.add_done_callback(partial(self._forget, number))

    async def cancel(self, numbers: Sequence[int]) -> None:
        """Stop working on requests; those that are answered already are left."""
        for number in numbers:
            task = self._tasks.get(number)
            if task is not None:
                task.cancel()

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(number) is task:
            del self._tasks[number]

    async def take(self) -> list[tuple[int, Outcome]]:
        """All outcomes that are ready, at least one."""
        await self._any.wait()
        self._any.clear()
        ready, self._ready = self._ready, []
        return ready

    async def _run(self, number: int, request: Request) -> None:
        outcome: Outcome
        try:
            if self._host is None:
                raise EngineError(f"model {self._spec.name!r} was asked before it had loaded")
            outcome = await self._host.run(request)
        except BatchError as error:
            outcome = Refused(str(error), batch=True, alone=error.alone, broken=error.broken)
        except EngineError as error:
            outcome = Refused(str(error), usage=error.usage)
        self._ready.append((number, outcome))
        self._any.set()
