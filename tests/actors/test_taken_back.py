"""Who is asked before lost work is done again, and requests that are taken back, on scripted actors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import ray
from actor_world import conversation, fake
from scripted import REPLY, ScriptedActor, play, system_error

from apportion.actors.pool import ModelPool
from apportion.actors.replica import Outcome
from apportion.errors import ClusterLostError, EngineError, ReplicaDiedError
from apportion.types import Generate, Generated, Request, Sampling


def test_whoever_pays_is_asked_before_lost_work_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if life == 1:
            raise system_error()
        return [REPLY] * len(texts)

    asked: list[tuple[str, int]] = []

    def listener(request: Request, affinity: int, cause: str) -> bool:
        assert "object store" in cause
        asked.append((request.messages[0].content, affinity))
        return request.messages[0].content != "b"

    played = play(monkeypatch, script, ["a", "b", "c"], listener=listener)
    assert asked == [("a", 0), ("b", 1), ("c", 2)]
    assert [type(outcome) for outcome in played.outcomes] == [Generated, EngineError, Generated]
    assert "budget does not cover" in str(played.outcomes[1])


def test_every_attempt_at_a_request_that_kills_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if "bad" in texts:
            raise system_error()
        return [REPLY] * len(texts)

    def listener(request: Request, affinity: int, cause: str) -> bool:
        told.append(request.messages[0].content)
        return True

    played = play(monkeypatch, script, ["a", "bad"], listener=listener)
    assert isinstance(played.outcomes[1], ReplicaDiedError)
    assert told.count("bad") == played.lives - 1


def test_a_cancelled_request_leaves_its_replica_and_a_queued_one_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    actors: list[ScriptedActor] = []
    sent: list[str] = []

    class Silent(ScriptedActor):
        async def _put(self, batch: Sequence[tuple[int, Request]]) -> None:
            sent.extend(request.messages[0].content for _, request in batch)

    class Remote:
        def options(self, **_: Any) -> Remote:
            return self

        def remote(self, _: Any) -> ScriptedActor:
            actors.append(Silent(1, lambda *_: [], lambda _: None))
            return actors[-1]

    monkeypatch.setattr(ray, "remote", lambda _: Remote())
    monkeypatch.setattr(ray, "kill", lambda actor, no_restart: None)

    async def run() -> None:
        models = ModelPool(replace(fake(), max_batch=1), None)
        await models.start()
        requests = [Generate("policy", conversation(text), (1,), Sampling()) for text in "abcd"]
        futures = [models.submit(request, 0) for request in requests]
        await asyncio.sleep(0.01)
        assert sent == ["a", "b"], "a replica holds twice its batch, and the others wait"
        futures[0].cancel()
        futures[2].cancel()
        await asyncio.sleep(0.01)
        assert actors[0].cancelled == [0]
        assert sent == ["a", "b", "d"]
        assert [entry.in_flight for entry in models.health()] == [2]
        models.stop()
        assert isinstance(futures[1].exception(), ClusterLostError)

    asyncio.run(run())
