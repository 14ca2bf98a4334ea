"""Replicas on several nodes with logical GPUs: where they go, what is refused, nodes that come late, what hangs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from actor_world import conversation, fake
from books import audit
from failures import run_job
from workers import Workers

from apportion.actors import overseer
from apportion.actors.ray_backend import RayBackend
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import CapacityError, ReplicaDiedError
from apportion.types import Generate, Generated, Sampling

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def asked(number: int, text: str = "") -> Generate:
    return Generate("policy", conversation(f"How many boxes in {number}? {text}"), (1, 2), Sampling())


def using(address: str, specs: Sequence[ModelSpec], work: Callable[[RayBackend], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        backend = RayBackend(address, specs)
        await backend.start()
        try:
            return await work(backend)
        finally:
            await backend.close()

    return asyncio.run(run())


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(0.05)


def up(backend: RayBackend, model: str = "policy") -> int:
    return sum(entry.alive for entry in backend.health() if entry.model == model)


def test_shares_of_a_gpu_split_models_and_tensor_parallel_replicas(workers: Workers) -> None:
    specs = [
        replace(fake("large"), gpus=2.0, tensor_parallel=2),
        replace(fake(replicas=3), gpus=0.6),
        replace(fake("prm", Role.SCORER, replicas=3), gpus=0.4),
    ]

    async def work(backend: RayBackend) -> dict[str, Any]:
        await until(lambda: all(entry.alive for entry in backend.health()))
        return backend.places()

    places = using(workers.address, specs, work)
    (large,) = places["large"]
    assert len(large.gpus) == 2, "both on one node"
    for policy, prm in zip(places["policy"], places["prm"], strict=True):
        assert (policy.node, policy.gpus) == (prm.node, prm.gpus), "a policy and its verifier see the same device"
        assert policy.pid != prm.pid
    homes = [(place.node, place.gpus) for place in places["policy"]]
    assert len(set(homes)) == 3
    assert len({node for node, _ in homes}) == 2, "spread over the nodes that the large one left"
    assert large.node not in {node for node, _ in homes}


def test_what_the_nodes_can_never_hold_is_refused_with_what_they_have(workers: Workers) -> None:
    specs = [replace(fake(), gpus=4.0, tensor_parallel=4)]
    with pytest.raises(CapacityError, match=r"1 of policy\. Asked: policy: 1 x \(1 CPUs, 4 GPUs\).*4 CPUs, 2 GPUs"):
        using(workers.address, specs, lambda backend: backend.submit(asked(1), 1))


def test_nodes_that_come_late_are_waited_for_and_used_by_a_running_job(workers: Workers) -> None:
    # No node has eight CPUs yet: an autoscaler would add some for the room that is asked for.
    spec = replace(fake(latency=0.5), cpus=8.0, replicas=2, least_replicas=1)
    added: list[Any] = []

    async def run() -> None:
        backend = RayBackend(workers.address, [spec], wait_s=120.0)
        starting = asyncio.ensure_future(backend.start())
        await asyncio.sleep(2.0)
        assert not starting.done(), "it waits, and is not refused"
        added.append(workers.cluster.add_node(num_cpus=8))
        await starting
        try:
            assert up(backend) == 1
            futures = [asyncio.ensure_future(backend.submit(asked(n), n)) for n in range(30)]
            added.append(workers.cluster.add_node(num_cpus=8))
            await asyncio.gather(*futures)
            await until(lambda: up(backend) == 2)
            nodes = {place.node for place in backend.places()["policy"] if place is not None}
            assert nodes == {node.node_id for node in added}
            # It shrinks again: the one that is left answers alone.
            workers.cluster.remove_node(added.pop(), allow_graceful=False)
            assert len(await asyncio.gather(*(backend.submit(asked(n), n) for n in range(30)))) == 30
        finally:
            await backend.close()

    try:
        asyncio.run(run())
    finally:
        for node in added:
            workers.cluster.remove_node(node, allow_graceful=False)


def test_a_model_that_lost_its_node_gets_room_of_another_which_comes_back_with_the_next_node(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overseer, "ROOM_S", 2.0)
    # Each replica takes a whole node, and there are three.
    specs = [
        replace(fake(replicas=2, latency=0.2), gpus=2.0, tensor_parallel=2),
        replace(fake("prm", Role.SCORER), gpus=2.0, tensor_parallel=2),
    ]

    async def work(backend: RayBackend) -> list[Any]:
        await until(lambda: (up(backend), up(backend, "prm")) == (2, 1))
        (place,) = backend.places()["prm"]
        (node,) = [node for node in workers.cluster.worker_nodes if place and node.node_id == place.node]
        workers.cluster.remove_node(node, allow_graceful=False)
        futures = [asyncio.ensure_future(backend.submit(asked(n), n)) for n in range(200)]
        try:
            await until(lambda: not up(backend, "prm"))
            await until(lambda: (up(backend), up(backend, "prm")) == (1, 1))
            assert "its room was needed for model 'prm'" in str([entry.cause for entry in backend.health()])
        finally:
            workers.add()
        await until(lambda: (up(backend), up(backend, "prm")) == (2, 1))
        return list(await asyncio.gather(*futures))

    replies = using(workers.address, specs, work)
    assert [type(reply) for reply in replies] == [Generated] * 200


def test_a_frozen_replica_is_noticed_and_replaced_and_its_work_is_answered_elsewhere(workers: Workers) -> None:
    spec = replace(fake(replicas=2, latency=0.2), timeout_s=4.0)

    async def work(backend: RayBackend) -> tuple[list[Any], list[Any]]:
        await until(lambda: up(backend) == 2)
        pid = backend.places()["policy"][0].pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        replies = await asyncio.gather(*(backend.submit(asked(n), n) for n in range(40)))
        await until(lambda: up(backend) == 2)
        assert backend.places()["policy"][0].pid != pid  # type: ignore[union-attr]
        return list(replies), list(backend.health())

    replies, health = using(workers.address, [spec], work)
    assert [type(reply) for reply in replies] == [Generated] * 40
    assert [(entry.restarts, "hangs" in str(entry.cause)) for entry in health] == [(1, True), (0, False)]


def test_a_request_that_hangs_every_engine_is_set_aside_after_two_and_the_others_go_on(workers: Workers) -> None:
    spec = replace(fake(replicas=2, hang_on="forever"), timeout_s=2.0)

    async def work(backend: RayBackend) -> list[Any]:
        hung = asyncio.ensure_future(backend.submit(asked(0, "forever"), 0))
        others = []
        while not hung.done():
            others.append(await backend.submit(asked(len(others)), len(others)))
            await asyncio.sleep(0.05)
        return [*(await asyncio.gather(hung, return_exceptions=True)), others, list(backend.health())]

    outcome, others, health = using(workers.address, [spec], work)
    assert isinstance(outcome, ReplicaDiedError)
    assert "2 replicas" in str(outcome)
    assert others
    assert all(isinstance(reply, Generated) for reply in others)
    assert sum(entry.restarts for entry in health) <= 2


def test_a_poison_prompt_is_set_aside_with_its_reason_and_the_job_goes_on(workers: Workers, tmp_path: Path) -> None:
    prompts = 12
    rows = [{"id": f"q{n}", "q": f"How many boxes in {n}? p=0.5{' poison' * (n == 7)}"} for n in range(prompts)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "dataset": {"path": str(tmp_path / "data.jsonl"), "prompt": "q", "id": "id"},
        "output": str(tmp_path / "run"),
        "budget": {"amount": 1_000_000, "unit": "tokens"},
        "models": {"small": {"engine": "fake", "model": "x", "replicas": 2, "engine_args": {"die_on": "poison"}}},
        "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 4], "max_tokens": 64}},
        "allocation": {"policy": "esc"},
        "cluster": {"address": workers.address},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config))
    run_job(tmp_path / "job.yaml", [], lambda: False)
    summary, faults = audit(tmp_path, prompts)
    assert (summary["answered"], summary["failed"]) == (prompts - 1, 1)
    assert "replicas or more died while they ran it" in summary["first_error"]
    assert len(faults) == 1, faults
    assert summary["lost"]["tokens"] > 0
