"""An endpoint's spec over the test server, and asking its engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from endpoint_server import KEY, MODEL, EndpointServer

from apportion.actors.endpoint import EndpointEngine, build_engine
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import EngineError
from apportion.types import Generate, Generated

SHAPES = {
    "chat": {"tokenizer": "lab:small", "server": "vllm"},
    "completions": {"tokenizer": "lab:small", "api": "completions"},
    "plain": {},
}
T = TypeVar("T")


def endpoint(server: EndpointServer, shape: str = "plain", **changes: Any) -> ModelSpec:
    args = {"base_url": server.url, "api_key_env": "TEST_KEY", "backoff_s": 0.001, **SHAPES[shape], **changes}
    prices = {"dollars_per_million_input": 2.0, "dollars_per_million_output": 8.0}
    return ModelSpec("policy", "openai", Role.POLICY, MODEL, max_batch=16, engine_args=args, **prices)


def with_engine(spec: ModelSpec, work: Callable[[EndpointEngine], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = await asyncio.to_thread(build_engine, spec)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def draw(spec: ModelSpec, request: Generate) -> Generated:
    return with_engine(spec, lambda engine: engine.generate(request))


def failure(spec: ModelSpec, request: Generate) -> EngineError:
    with pytest.raises(EngineError) as caught:
        draw(spec, request)
    assert KEY not in repr(caught.value)
    context: BaseException | None = caught.value
    while context is not None:
        assert KEY not in f"{context!r}{context.__dict__}"
        context = context.__context__ or context.__cause__
    return caught.value
