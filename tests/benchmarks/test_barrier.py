"""What search_barrier.py compares is the same work, and the clock it simulates with is a clock."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import barrier
import pytest
import simulation

from apportion.actors.inline import InlineBackend
from apportion.configs.build import load_job
from apportion.scheduler.assemble import prepare
from apportion.types import Generate, Generated, Message, Reply, Request, Sampling, Usage

ASKED = (Message("user", "q"),)


def write_job(tmp_path: Path) -> Any:
    model = {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.002, "jitter": 3.0}}
    arm = {"strategy": "beam_search", "policy": "small", "verifier": "prm", "select": "weighted", "width": 2, "n": [4]}
    config = {
        "dataset": {"prompt": "q", "reference": "a"},
        "output": str(tmp_path / "run"),
        "budget": {"amount": 1e15, "unit": "tokens"},
        "models": {"small": {**model, "step_separator": "\n"}, "prm": {**model, "role": "scorer"}},
        "arms": {"beam": {**arm, "max_tokens": 64}},
        "answer": {"kind": "number"},
        "allocation": {"policy": "uniform", "n": 4},
        "cluster": {"address": "inline"},
    }
    rows = [{"q": f"question {at} p=0.{at}", "a": "7"} for at in range(1, 10)]
    return prepare(load_job(config, [], True), rows)


def test_both_ways_write_and_answer_the_same(tmp_path: Path) -> None:
    prepared = write_job(tmp_path)

    async def run(mode: Any) -> Any:
        backend = InlineBackend(list(prepared.spec.models.values()))
        try:
            await backend.start()
            return await mode(prepared, backend)
        finally:
            await backend.close()

    ours, theirs = asyncio.run(run(barrier.unbarred)), asyncio.run(run(barrier.stepwise))
    assert ours.tokens == theirs.tokens > 0
    assert ours.accuracy == theirs.accuracy
    assert theirs.steps >= 2
    assert 0.0 < theirs.straggling < 1.0


def test_gaps_are_the_time_with_nothing_and_with_less_than_half_of_the_most() -> None:
    # Seconds 0-4: four at once; 4-6: one; 6-8: none; 8-10: two.
    spans = [(0.0, 4.0)] * 3 + [(0.0, 6.0)] + [(8.0, 10.0)] * 2
    idle, half = barrier._gaps(spans, 10.0)
    assert idle == pytest.approx(0.2)
    assert half == pytest.approx(0.4)


def test_simulated_time_passes_without_waiting() -> None:
    async def sleep() -> float:
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200))
        return asyncio.get_running_loop().time() - begun

    begun = time.monotonic()
    slept = simulation.run_simulated(sleep())
    assert 7200.0 <= slept < 7300.0
    assert time.monotonic() - begun < 600.0


def test_a_simulated_replica_never_runs_more_than_its_slots_and_answers_everything() -> None:
    def answer(request: Request) -> Reply:
        return Generated((), Usage(1, len(request.seeds) if isinstance(request, Generate) else 0))

    async def work() -> Any:
        backend = simulation.SimulatedBackend({"small": 6}, 2, answer, lambda request, reply: 1.0)
        requests = [Generate("small", ASKED, tuple(range(size)), Sampling()) for size in (4, 1, 3, 9, 2, 6, 5) * 3]
        replies = await asyncio.gather(*(backend.submit(one, 0) for one in requests))
        return backend, [reply.usage.completion_tokens for reply in replies]

    backend, sizes = simulation.run_simulated(work())
    assert sizes == [4, 1, 3, 9, 2, 6, 5] * 3
    taken = [count for _, count in backend.busy["small"]]
    assert 0 < max(taken) <= 12
    assert taken[-1] == 0
