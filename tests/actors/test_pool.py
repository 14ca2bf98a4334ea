"""The Ray backend on a real local Ray with eight logical GPUs: placement, pinning, deaths, refusals."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from actor_world import conversation, fake

from apportion.actors.backends import backend_for
from apportion.actors.cluster import connect
from apportion.actors.conformance import check_engine, check_scorer, over
from apportion.actors.fake import FakeEngine
from apportion.actors.ray_backend import RayBackend
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import (
    CapacityError,
    ClusterLostError,
    ConfigError,
    EngineError,
    ModelError,
    ReplicaDiedError,
)
from apportion.types import Generate, Generated, Sampling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=8, num_gpus=8, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def using(specs: Sequence[ModelSpec], work: Callable[[RayBackend], Awaitable[Any]]) -> Any:
    """Run `work` on a backend of its own; nothing of it is left afterwards."""
    import ray

    async def run() -> Any:
        backend = backend_for("local", specs)
        assert isinstance(backend, RayBackend)
        await backend.start()
        while not all(entry.alive for entry in backend.health()):
            await asyncio.sleep(0.02)
        try:
            return await work(backend)
        finally:
            await backend.close()

    result = asyncio.run(run())
    assert ray.is_initialized(), "a Ray that was there before stays"
    return result


def asked(number: int, text: str = "", seeds: int = 3) -> Generate:
    return Generate("policy", conversation(f"How many boxes in {number}? {text}"), tuple(range(seeds)), Sampling())


def expected(requests: Sequence[Generate]) -> list[Any]:
    """What the requests are answered where nothing goes wrong."""
    engine = FakeEngine(fake())

    async def run() -> list[Any]:
        return [(await engine.generate(request)).completions for request in requests]

    return asyncio.run(run())


def test_conformance_of_fakes_and_of_embedded_models(policy: ModelSpec, prm: ModelSpec) -> None:
    specs = [replace(fake(), name="fake"), replace(fake("fake-prm"), role=Role.SCORER), replace(policy, cpus=0.5), prm]

    async def work(backend: RayBackend) -> None:
        await check_engine(over(backend), describe(specs[0]), "fake")
        await check_scorer(over(backend), describe(specs[1]), "fake-prm")
        await check_engine(over(backend), describe(policy))
        await check_scorer(over(backend), describe(prm))

    using(specs, work)


def test_replicas_are_pinned_to_their_own_gpus_and_share_the_work() -> None:
    specs = [replace(fake(replicas=3), gpus=2), replace(fake("prm", Role.SCORER, replicas=2), gpus=0.5)]
    requests = [asked(number) for number in range(90)]

    async def work(backend: RayBackend) -> tuple[dict[str, Any], list[Generated], list[int]]:
        futures = [asyncio.ensure_future(backend.submit(request, n)) for n, request in enumerate(requests)]
        await asyncio.sleep(0)
        loads = [entry.in_flight for entry in backend.health() if entry.model == "policy"]
        return backend.places(), list(await asyncio.gather(*futures)), loads

    places, replies, loads = using(specs, work)
    policy_gpus = [gpu for place in places["policy"] for gpu in place.gpus]
    assert [len(place.gpus) for place in places["policy"]] == [2, 2, 2]
    assert len(set(policy_gpus)) == 6
    assert not {gpu for place in places["prm"] for gpu in place.gpus} & set(policy_gpus)
    assert len({place.pid for name in places for place in places[name]}) == 5
    assert sum(loads) == 90
    assert min(loads) >= 15
    assert [reply.completions for reply in replies] == expected(requests)


def test_jobs_of_one_program_may_have_models_of_one_name() -> None:
    async def work(first: RayBackend) -> list[Generated]:
        second = RayBackend("local", [fake()])
        await second.start()
        try:
            return list(await asyncio.gather(first.submit(asked(1), 1), second.submit(asked(2), 2)))
        finally:
            await second.close()

    replies = using([fake()], work)
    assert [reply.completions for reply in replies] == expected([asked(1), asked(2)])


def test_killed_replicas_restart_and_no_reply_is_lost() -> None:
    requests = [asked(number) for number in range(200)]

    async def work(backend: RayBackend) -> tuple[list[Generated], list[int]]:
        pids = [place.pid for place in backend.places()["policy"] if place is not None]
        futures = [asyncio.ensure_future(backend.submit(request, n)) for n, request in enumerate(requests)]
        await asyncio.sleep(0.1)
        assert sum(entry.in_flight for entry in backend.health()) == 200
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        replies = list(await asyncio.gather(*futures))
        while not all(entry.alive for entry in backend.health()):
            await asyncio.sleep(0.05)
        assert {place.pid for place in backend.places()["policy"] if place is not None}.isdisjoint(pids)
        return replies, [entry.restarts for entry in backend.health()]

    replies, restarts = using([fake(replicas=2, latency=1.0)], work)
    assert [reply.completions for reply in replies] == expected(requests)
    assert restarts == [1, 1]


def test_a_request_that_kills_fails_alone() -> None:
    requests = [asked(number, "kill" if number == 7 else "") for number in range(20)]

    async def work(backend: RayBackend) -> tuple[list[Any], int]:
        asked = (backend.submit(request, n) for n, request in enumerate(requests))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        return list(outcomes), backend.health()[0].restarts

    outcomes, deaths = using([fake(die_on="kill", latency=0.1)], work)
    assert deaths == 3, "with all, with some of them, and alone"
    assert isinstance(outcomes[7], ReplicaDiedError)
    others = [request for number, request in enumerate(requests) if number != 7]
    assert [o.completions for number, o in enumerate(outcomes) if number != 7] == expected(others)


def test_a_replica_that_dies_once_is_not_held_against_the_request(tmp_path: Path) -> None:
    spec = fake(die_once=str(tmp_path / "died"))
    reply = using([spec], lambda backend: backend.submit(asked(1), 1))
    assert [reply.completions] == expected([asked(1)])


def test_engine_errors_come_back_as_they_are() -> None:
    async def work(backend: RayBackend) -> None:
        with pytest.raises(EngineError, match="'bad'") as caught:
            await backend.submit(asked(1, "bad"), 1)
        assert not isinstance(caught.value, ReplicaDiedError)
        with pytest.raises(ConfigError, match="did you mean 'policy'"):
            backend.submit(replace(asked(1), model="polcy"), 1)

    using([fake(poison="bad")], work)


@pytest.mark.parametrize(
    ("spec", "error", "rule"),
    [
        (replace(fake(replicas=9), gpus=1), CapacityError, r"cannot hold 1 of policy\. Asked: policy: 9 x \(1 CPUs, 1"),
        (replace(fake(replicas=1), gpus=16), CapacityError, r"8 CPUs, 8 GPUs"),
        (fake(broken="no space"), ModelError, r"does not load with the fake engine: RuntimeError: no space"),
        (fake(nonsense=1), ConfigError, r"no such setting"),
    ],
)
def test_refusals_leave_nothing_behind(spec: ModelSpec, error: type[Exception], rule: str) -> None:
    import ray

    with pytest.raises(error, match=rule):
        using([spec], lambda backend: backend.submit(asked(1), 1))
    # The place is free again: a replica that takes all GPUs fits.
    using([replace(fake(), gpus=8)], lambda backend: backend.submit(asked(1), 1))
    assert ray.is_initialized()


def test_a_model_whose_files_never_come_is_given_up(policy_folder: Path, policy: ModelSpec, tmp_path: Path) -> None:
    """A pipe that nobody writes to, as a disk of the network that does not answer."""
    folder = tmp_path / "slow"
    shutil.copytree(policy_folder, folder)
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    spec = replace(policy, path=str(folder), load_timeout_s=2.0)
    with pytest.raises(ReplicaDiedError, match=r"had not loaded .*slow' after 2 s, and was stopped"):
        using([spec], lambda backend: backend.close())
    # The one that hung is gone: a replica that takes all CPUs fits.
    using([replace(fake(), cpus=8)], lambda backend: backend.submit(asked(1), 1))


def test_closing_fails_what_is_in_flight() -> None:
    async def run() -> Any:
        backend = backend_for("local", [fake(hang_on="forever")])
        await backend.start()
        future = asyncio.ensure_future(backend.submit(asked(1, "forever"), 1))
        await asyncio.sleep(0.05)
        await backend.close()
        return (await asyncio.gather(future, return_exceptions=True))[0]

    assert isinstance(asyncio.run(run()), ClusterLostError)


def test_a_cancelled_request_is_stopped_where_it_runs() -> None:
    async def work(backend: RayBackend) -> list[int]:
        deadly = asyncio.ensure_future(backend.submit(asked(1, "kill"), 1))
        await asyncio.sleep(0.2)
        deadly.cancel()
        # This one is answered after the other one would have killed the replica.
        await backend.submit(asked(2), 2)
        await asyncio.sleep(0.5)
        return [entry.restarts for entry in backend.health()]

    assert using([fake(die_on="kill", latency=2.0)], work) == [0]


def test_a_process_that_is_connected_stays_where_it_is() -> None:
    assert connect("127.0.0.1:1") is False
