"""The vLLM embedder on the lab's policy model: the suite, and against the embedded engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from vllm_world import story

from apportion.actors.conformance import check_embedder
from apportion.actors.host import Host
from apportion.actors.registry import build_embedder, describe
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import EngineError
from apportion.lab import lab_path
from apportion.types import Embed, Generate, Sampling

Run = Callable[[Any], Any]
SPEC = ModelSpec("probe", "vllm", Role.EMBEDDER, str(lab_path("lab:small")))
STORIES = range(10, 40)


@pytest.fixture(scope="module")
def probe(run: Run) -> Iterator[Any]:
    embedder = build_embedder(SPEC)
    yield embedder
    run(embedder.close())


def test_conformance(run: Run, probe: Any) -> None:
    run(check_embedder(probe, describe(SPEC), "probe"))


def test_states_are_those_of_the_embedded_engine(run: Run, probe: Any) -> None:
    """So a policy file that was fitted on one's serves the other."""
    embedded = build_embedder(replace(SPEC, engine="embedded"))

    async def states(embedder: Any) -> np.ndarray[Any, Any]:
        replies = await asyncio.gather(*(embedder.embed(Embed("probe", story(number))) for number in STORIES))
        return np.array([reply.vector for reply in replies])

    ours, theirs = run(states(probe)), run(states(embedded))
    run(embedded.close())
    spread = theirs.std(axis=0).max()
    assert np.abs(ours - theirs).max() < 0.01 * spread
    assert np.abs(np.diff(theirs, axis=0)).max() > 0.1 * spread, "all states are alike"


def test_what_is_cached_is_not_read_again(run: Run, probe: Any) -> None:
    long = (replace(story(77)[0], content=story(77)[0].content * 6),)
    first, again = (run(probe.embed(Embed("probe", long))) for _ in range(2))
    assert first.usage.prompt_tokens + first.usage.cached_tokens == describe(SPEC).count_prompt(long)
    assert again.usage.prompt_tokens < 0.5 * first.usage.prompt_tokens
    assert again.usage.cached_tokens > first.usage.cached_tokens
    assert np.allclose(again.vector, first.vector, atol=1e-2)


def test_it_writes_nothing(run: Run, probe: Any) -> None:
    with pytest.raises(EngineError, match="has the role embedder and was sent a Generate"):
        run(Host(SPEC, probe).run(Generate("probe", story(12), (1,), Sampling())))
