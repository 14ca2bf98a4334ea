"""vLLM in Ray actors: the suites, and deaths of the engine's process and of the actor's."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apportion.actors.conformance import ask, check_engine, check_scorer, over
from apportion.actors.ray_backend import RayBackend
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec

psutil = pytest.importorskip("psutil", reason="it comes with vLLM, which is not installed")

Run = Callable[[Any], Any]

SPAWNED = "--multiprocessing-fork"
"""What Python starts a process of its own with; vLLM gives its own another title, where it can."""
ENOUGH = 60.0
"""Seconds until processes are gone."""


@pytest.fixture(scope="module")
def backend(run: Run, policy_spec: ModelSpec, prm_spec: ModelSpec) -> Iterator[RayBackend]:
    backend = RayBackend("local", [policy_spec, prm_spec])
    run(backend.start())
    yield backend
    run(backend.close())


def engine_of(backend: RayBackend) -> tuple[int, list[Any]]:
    """The policy's actor process, and vLLM's processes below it."""
    place = backend.places()["policy"][0]
    assert place is not None
    below = psutil.Process(place.pid).children(recursive=True)
    return place.pid, [process for process in below if "VLLM" in process.name() or SPAWNED in process.cmdline()]


def all_gone(processes: list[Any]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=ENOUGH)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_both_conform(run: Run, backend: RayBackend, policy_spec: ModelSpec, prm_spec: ModelSpec) -> None:
    run(check_engine(over(backend), describe(policy_spec)))
    run(check_scorer(over(backend), describe(prm_spec)))


def test_a_dead_engine_is_replaced_and_its_work_done_again(run: Run, backend: RayBackend) -> None:
    expected = run(over(backend).generate(ask("policy", range(3))))
    _, processes = engine_of(backend)
    assert processes

    async def killed() -> Any:
        waiting = [asyncio.ensure_future(backend.submit(ask("policy", range(64), tokens=300), 0)) for _ in range(2)]
        await asyncio.sleep(0.2)
        for process in processes:
            process.kill()
        return await asyncio.gather(*waiting)

    first, second = run(killed())
    assert len(first.completions) == 64
    assert first.completions == second.completions
    assert all_gone(processes)
    policy = next(health for health in backend.health() if health.model == "policy")
    assert policy.restarts == 1
    assert "died" in str(policy.cause)
    assert run(over(backend).generate(ask("policy", range(3)))).completions == expected.completions


def test_a_killed_actor_takes_its_engine_along(run: Run, backend: RayBackend) -> None:
    pid, processes = engine_of(backend)
    assert processes
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    assert all_gone(processes)
    assert time.monotonic() - began < ENOUGH
    assert len(run(over(backend).generate(ask("policy"))).completions) == 3
