"""The backend in this process."""

from __future__ import annotations

import asyncio

import pytest
from actor_world import conversation, fake

from apportion.actors.backends import backend_for
from apportion.actors.conformance import check_engine, check_scorer, over
from apportion.actors.fake import FakeEngine
from apportion.actors.inline import InlineBackend
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import BatchError, ClusterLostError, ConfigError, EngineError, ModelError
from apportion.types import Generate, Generated, Request, Sampling, Score


def test_conformance_through_the_backend(policy: ModelSpec, prm: ModelSpec) -> None:
    async def run() -> None:
        backend = backend_for("inline", [policy, prm])
        await backend.start()
        await check_engine(over(backend), describe(policy))
        await check_scorer(over(backend), describe(prm))
        await backend.close()

    asyncio.run(run())


def test_health_counts_what_is_in_flight() -> None:
    async def run() -> None:
        backend = InlineBackend([fake(hang_on="forever"), fake("prm", Role.SCORER)])
        assert [entry.alive for entry in backend.health()] == [False, False]
        await backend.start()
        task = backend.submit(Generate("policy", conversation("forever"), (1,), Sampling()), 0)
        await asyncio.sleep(0)
        assert [(e.model, e.alive, e.in_flight) for e in backend.health()] == [("policy", True, 1), ("prm", True, 0)]
        await backend.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_errors_are_engine_errors_with_the_cause() -> None:
    async def run() -> None:
        backend = InlineBackend([fake(poison="bad")])
        await backend.start()
        with pytest.raises(EngineError, match="'bad'"):
            await backend.submit(Generate("policy", conversation("bad"), (1,), Sampling()), 0)
        with pytest.raises(EngineError, match="has the role policy and was sent a Score"):
            await backend.submit(Score("policy", conversation("x"), ()), 0)
        with pytest.raises(ConfigError, match="did you mean 'policy'"):
            backend.submit(Generate("polcy", conversation("x"), (1,), Sampling()), 0)
        await backend.close()

    asyncio.run(run())


def test_a_cancelled_request_is_gone() -> None:
    async def run() -> None:
        backend = InlineBackend([fake(hang_on="forever")])
        await backend.start()
        task = asyncio.ensure_future(backend.submit(Generate("policy", conversation("forever"), (1,), Sampling()), 0))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert [entry.in_flight for entry in backend.health()] == [0]
        await backend.close()

    asyncio.run(run())


def test_whoever_pays_decides_whether_a_failed_batch_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    told: list[tuple[str, int]] = []

    async def failing(engine: FakeEngine, request: Generate) -> Generated:
        tries.append(request.messages[0].content)
        raise BatchError("out of memory")

    def listener(request: Request, affinity: int, cause: str) -> bool:
        told.append((request.messages[0].content, affinity))
        return request.messages[0].content == "covered"

    monkeypatch.setattr(FakeEngine, "generate", failing)

    async def run() -> None:
        backend = InlineBackend([fake()])
        backend.tell_losses(listener)
        await backend.start()
        for affinity, text in enumerate(("covered", "too dear")):
            with pytest.raises(BatchError):
                await backend.submit(Generate("policy", conversation(text), (1,), Sampling()), affinity)
        await backend.close()

    asyncio.run(run())
    assert tries == ["covered", "covered", "too dear"]
    assert told == [("covered", 0), ("covered", 0), ("too dear", 1)], "each attempt once"


def test_a_model_that_does_not_load() -> None:
    backend = InlineBackend([fake(broken="the disk is full")])
    with pytest.raises(ModelError, match="does not load with the fake engine: RuntimeError: the disk is full"):
        asyncio.run(backend.start())


def test_a_request_of_a_failed_batch_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = FakeEngine.generate, iter(range(99))

    async def together(engine: FakeEngine, request: Generate) -> Generated:
        call = next(calls)
        await asyncio.sleep(0)
        if call < 3 or "bad" in request.messages[0].content:
            raise BatchError("out of memory", broken="broken" in request.messages[0].content)
        return await whole(engine, request)

    monkeypatch.setattr(FakeEngine, "generate", together)

    async def ask(*texts: str) -> list[type]:
        backend = InlineBackend([fake()])
        await backend.start()
        asked = [backend.submit(Generate("policy", conversation(text), (1,), Sampling()), 0) for text in texts]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await backend.close()
        return [type(outcome) for outcome in outcomes]

    assert asyncio.run(ask("a", "bad", "b")) == [Generated, BatchError, Generated]
    assert asyncio.run(ask("bad and broken")) == [ClusterLostError]
