"""Actors that do as a script says, and a pool of one that is played to the end: no Ray runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import ray
from actor_world import conversation, fake

from apportion.actors import pool
from apportion.actors.pool import ModelPool
from apportion.actors.protocols import OnLoss
from apportion.actors.replica import Loaded, Outcome, Refused
from apportion.types import Generate, Generated, Request, Sampling, Usage

REPLY = Generated((), Usage())
Script = Callable[[int, Sequence[str]], list[Outcome]]
"""from which life of the replica it is and the texts of what it was sent, to outcomes; or it raises"""
Loading = Callable[[int], Awaitable[None] | None]
"""what happens while that life of the replica loads; it may raise, or take its time"""


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class ScriptedActor:
    """Answers each batch as the script says."""

    def __init__(self, life: int, script: Script, load: Loading) -> None:
        self.life, self.script, self.loading = life, script, load
        self.ready: asyncio.Queue[Any] = asyncio.Queue()
        self.up, self.load = Method(self._up), Method(self._load)
        self.put, self.take = Method(self._put), Method(self._take)
        self.cancel = Method(self._cancel)
        self.cancelled: list[int] = []

    async def _up(self) -> None:
        pass

    async def _load(self) -> Loaded:
        slowly = self.loading(self.life)
        if slowly is not None:
            await slowly
        return Loaded(self.life, "node", ())

    async def _put(self, batch: Sequence[tuple[int, Request]]) -> None:
        try:
            outcomes = self.script(self.life, [request.messages[0].content for _, request in batch])
        except ray.exceptions.RayError as error:
            self.ready.put_nowait(error)
        else:
            self.ready.put_nowait([(number, out) for (number, _), out in zip(batch, outcomes, strict=True)])

    async def _cancel(self, numbers: Sequence[int]) -> None:
        self.cancelled += numbers

    async def _take(self) -> Any:
        found = await self.ready.get()
        if isinstance(found, Exception):
            raise found
        return found


class Played:
    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.lives = 0
        self.killed: list[int] = []
        self.causes: list[str | None] = []
        self.alive: list[bool] = []


def play(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    texts: Sequence[str],
    load: Loading = lambda _: None,
    listener: OnLoss | None = None,
    replicas: int = 1,
    until: Callable[[ModelPool], bool] = lambda _: True,
    prompt_of: Callable[[int], int] = lambda number: number,
    **row: Any,
) -> Played:
    """Send requests to a pool of scripted replicas, and wait `until`; what each request was answered or raised."""
    played = Played()

    class Remote:
        def options(self, **_: Any) -> Remote:
            return self

        def remote(self, _: Any) -> ScriptedActor:
            played.lives += 1
            return ScriptedActor(played.lives, script, load)

    monkeypatch.setattr(ray, "remote", lambda _: Remote())
    monkeypatch.setattr(pool, "LOADING_AGAIN_S", 0.0)
    monkeypatch.setattr(ray, "kill", lambda actor, no_restart: played.killed.append(actor.life))

    async def run() -> None:
        models = ModelPool(replace(fake(replicas=replicas), **row), None, lambda: listener)
        await models.start()
        futures = [
            models.submit(Generate("policy", conversation(text), (1,), Sampling()), prompt_of(number))
            for number, text in enumerate(texts)
        ]
        async with asyncio.timeout(10):
            played.outcomes = list(await asyncio.gather(*futures, return_exceptions=True))
            while not until(models):
                await asyncio.sleep(0.001)
        played.causes = [entry.cause for entry in models.health()]
        played.alive = [entry.alive for entry in models.health()]
        models.stop()

    asyncio.run(run())
    return played


def failed_batch(texts: Sequence[str], broken: bool = False) -> list[Outcome]:
    return [Refused("out of memory", batch=True, alone=len(texts) == 1, broken=broken)] * len(texts)


def system_error() -> Exception:
    return ray.exceptions.RaySystemError("the object store is gone")
