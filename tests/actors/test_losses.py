"""What becomes of requests when replicas fail, on scripted actors: no Ray runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
import ray
import scripted
from actor_world import fake
from scripted import REPLY, Loading, failed_batch, play, system_error

from apportion.actors import ray_backend
from apportion.actors.placement import Slot
from apportion.actors.pool import DEATHS_IN_A_ROW, ModelPool
from apportion.actors.ray_backend import RayBackend
from apportion.actors.replica import Outcome
from apportion.actors.rooms import Rooms
from apportion.actors.spec import ModelSpec
from apportion.errors import ClusterLostError, EngineError, ModelError, ReplicaDiedError
from apportion.types import Generated, Request


@pytest.mark.parametrize(
    "error",
    [
        ray.exceptions.OutOfMemoryError("node memory"),
        ray.exceptions.ActorUnschedulableError("no node"),
        ray.exceptions.ActorPlacementGroupRemoved(),
        ray.exceptions.RuntimeEnvSetupError("env"),
        ray.exceptions.NodeDiedError("node"),
        system_error(),
    ],
)
def test_any_error_of_ray_is_a_death(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if life == 1:
            raise error
        return [REPLY] * len(texts)

    played = play(monkeypatch, script, ["a", "b"])
    assert played.outcomes == [REPLY, REPLY]
    assert played.lives == 2
    assert 1 in played.killed, "an actor that Ray only lost sight of would keep its GPU"
    assert played.causes[0]


def test_a_restart_that_raises_anything_gives_the_replica_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        raise system_error()

    def load(life: int) -> None:
        if life == 2:
            raise OSError("no file handles")

    played = play(monkeypatch, script, ["a", "b"], load)
    assert [type(outcome) for outcome in played.outcomes] == [ClusterLostError] * 2
    assert "no file handles" in str(played.outcomes[0])
    assert played.lives == 2


def test_a_model_that_does_not_load_again_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if life == 1:
            raise system_error()
        return [REPLY] * len(texts)

    def load(life: int) -> None:
        if life in (2, 3):
            raise ModelError("the memory of the GPU is not free yet")

    played = play(monkeypatch, script, ["a", "b"], load)
    assert played.outcomes == [REPLY, REPLY]
    assert played.lives == 4


@pytest.mark.parametrize("error", [system_error(), ModelError("no memory is free")], ids=["died", "refused"])
def test_a_replica_that_did_not_load_at_first_is_tried_again_once_another_is_up(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(life: int) -> None:
        if life == 1:
            raise error

    def everyone(pool: ModelPool) -> bool:
        return all(entry.alive for entry in pool.health())

    played = play(monkeypatch, lambda _, texts: [REPLY] * len(texts), ["a"], load, replicas=2, until=everyone)
    assert played.outcomes == [REPLY]
    assert played.lives == 3


def hangs(*lives: int) -> Loading:
    """Loading that never ends in these lives of the replicas."""

    def load(life: int) -> Awaitable[None] | None:
        return asyncio.Event().wait() if life in lives else None  # type: ignore[return-value]

    return load


def test_a_replica_that_hangs_while_it_loads_is_stopped_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def everyone(pool: ModelPool) -> bool:
        return all(entry.alive for entry in pool.health())

    def answer(_: int, texts: Sequence[str]) -> list[Outcome]:
        return [REPLY] * len(texts)

    played = play(monkeypatch, answer, ["a"], hangs(1), replicas=2, until=everyone, load_timeout_s=0.02)
    assert (played.outcomes, played.lives, played.killed[0]) == ([REPLY], 3, 1)
    assert "had not loaded 'none' after 0.02 s" in str(played.causes[0])


def test_a_late_end_of_one_life_does_not_touch_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    late = asyncio.Event()

    async def end() -> None:
        await late.wait()
        raise system_error()

    def nothing(_: ModelPool) -> None: ...

    steps = iter(
        [
            lambda pool: pool.leave(1, "its room was needed"),
            lambda pool: pool.join(1),
            nothing,
            lambda _: late.set(),
            *[nothing] * 9,
        ]
    )

    def until(pool: ModelPool) -> bool:
        step = next(steps, None)
        if step is not None:
            step(pool)
        return step is None

    def load(life: int) -> Awaitable[None] | None:
        return end() if life == 2 else None

    played = play(monkeypatch, lambda _, texts: [REPLY] * len(texts), ["a"], load, replicas=2, until=until)
    assert late.is_set()
    assert (played.lives, played.alive) == (3, [True, True])


def test_where_every_replica_hangs_while_it_loads_the_job_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReplicaDiedError, match=r"after 0\.02 s, and was stopped.*raise models\.policy\.load_timeout_s"):
        play(monkeypatch, lambda _, texts: [], ["a"], hangs(1, 2), replicas=2, load_timeout_s=0.02)


def test_where_no_replica_loads_the_job_ends_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    lives: list[int] = []

    def load(life: int) -> None:
        lives.append(life)
        raise ModelError(f"no memory is free {life}")

    with pytest.raises(ModelError, match="no memory is free 2"):
        play(monkeypatch, lambda _, texts: [REPLY] * len(texts), ["a"], load, replicas=2)
    assert lives == [1, 2]


def test_a_cluster_that_is_gone_is_no_failure_of_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(life: int) -> None:
        if life > 1:
            raise system_error()

    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        raise system_error()

    played = play(monkeypatch, script, ["a", "b", "c"], load)
    assert [type(outcome) for outcome in played.outcomes] == [ClusterLostError] * 3
    assert not isinstance(played.outcomes[0], EngineError), "the job would journal it as final"
    assert "Run the same command again" in str(played.outcomes[0])
    assert played.lives == DEATHS_IN_A_ROW


@pytest.mark.parametrize("killed", [True, False], ids=["killed in time", "had just loaded"])
def test_a_replica_that_is_given_up_while_it_loads_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    pools: list[ModelPool] = []

    class Kept(ModelPool):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            pools.append(self)

    def load(life: int) -> None:
        if life == 2:
            pools[0].give_up_all("no node has room")
            if killed:
                raise system_error()

    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        raise system_error()

    monkeypatch.setattr(scripted, "ModelPool", Kept)
    played = play(monkeypatch, script, ["a"], load)
    assert played.lives == 2
    assert played.alive == [False]
    assert played.causes == ["no node has room"]
    assert type(played.outcomes[0]) is ClusterLostError


def test_only_what_dies_alone_is_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if "bad" in texts:
            raise system_error()
        return [REPLY] * len(texts)

    played = play(monkeypatch, script, ["a", "bad", "b"])
    assert [type(outcome) for outcome in played.outcomes] == [Generated, ReplicaDiedError, Generated]


@pytest.mark.parametrize(("there", "deaths"), [(1, 2), (8, 2), (64, 3)])
def test_a_request_that_kills_is_set_aside_after_few_deaths(
    monkeypatch: pytest.MonkeyPatch, there: int, deaths: int
) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if "bad" in texts:
            raise system_error()
        return [REPLY] * len(texts)

    played = play(monkeypatch, script, [*map(str, range(there - 1)), "bad"])
    assert played.outcomes[:-1] == [REPLY] * (there - 1)
    assert type(played.outcomes[-1]) is ReplicaDiedError
    assert played.lives == deaths + 1


@pytest.mark.parametrize("there", [1, 8, 64])
def test_a_model_that_dies_of_everything_costs_few_requests_before_the_job_is_stopped(
    monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        raise system_error()

    played = play(monkeypatch, script, [str(number) for number in range(there)])
    kinds = [type(outcome) for outcome in played.outcomes]
    assert 1 <= kinds.count(ReplicaDiedError) <= 2
    assert kinds.count(ClusterLostError) == there - kinds.count(ReplicaDiedError)


def test_two_requests_that_kill_are_both_found_though_nothing_else_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if any("bad" in text for text in texts):
            raise system_error()
        return [REPLY] * len(texts)

    played = play(monkeypatch, script, [*"abcdef", "bad 1", "bad 2"])
    assert [type(outcome) for outcome in played.outcomes] == [Generated] * 6 + [ReplicaDiedError] * 2


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "fails"])
def test_a_prompt_that_kills_is_set_aside_with_all_its_requests(monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    sizes: list[int] = []
    told: list[int] = []

    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        if "bad" not in texts:
            return [REPLY] * len(texts)
        sizes.append(len(texts))
        if dies:
            raise system_error()
        return failed_batch(texts)

    def listener(request: Request, affinity: int, cause: str) -> bool:
        told.append(affinity)
        return True

    texts = [*"abcd", *["bad"] * 4]
    played = play(monkeypatch, script, texts, listener=listener, prompt_of=lambda number: min(number, 4))
    assert played.outcomes[:4] == [REPLY] * 4
    assert all(isinstance(outcome, EngineError) for outcome in played.outcomes[4:])
    assert sizes == [8, 1]
    assert sorted(told) == [0, 1, 2, 3, 4, 4, 4, 4, 4], "each attempt once"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (20, [21, *[3] * 7, 1, 1, 1]),
        (4, [21, 3, 3, 1, 1, 16]),  # who was not there when it failed again is cleared
    ],
)
def test_a_batch_that_failed_is_tried_smaller_and_the_bad_request_fails_alone(
    monkeypatch: pytest.MonkeyPatch, place: int, expected: list[int]
) -> None:
    sizes: list[int] = []

    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        sizes.append(len(texts))
        return failed_batch(texts) if "bad" in texts else [REPLY] * len(texts)

    texts = list("abcdefghijklmnopqrst")
    texts.insert(place, "bad")
    played = play(monkeypatch, script, texts)
    assert type(played.outcomes.pop(place)) is EngineError
    assert played.outcomes == [REPLY] * 20
    assert sizes == expected
    assert played.lives == 1, "the model is sound and stays loaded"


def test_too_large_a_batch_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        return failed_batch(texts) if len(texts) > 16 else [REPLY] * len(texts)

    assert play(monkeypatch, script, list("abcdefghijklmnopqrstuvwxyz")).outcomes == [REPLY] * 26


def test_a_broken_model_is_replaced_and_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        return failed_batch(texts, broken=True) if life == 1 else [REPLY] * len(texts)

    played = play(monkeypatch, script, ["a", "b", "c"])
    assert played.outcomes == [REPLY] * 3
    assert (played.lives, played.killed) == (2, [1, 2])


def test_a_model_that_fails_on_everything_is_replaced_after_one_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(life: int, texts: Sequence[str]) -> list[Outcome]:
        return failed_batch(texts) if life == 1 else [REPLY] * len(texts)

    played = play(monkeypatch, script, list("abcdefgh"))
    assert played.lives == 2
    assert sum(isinstance(outcome, EngineError) for outcome in played.outcomes) == 1


def test_an_error_of_the_start_is_told_and_the_cluster_left_though_cleaning_up_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[bool] = []

    async def reserved(*_: Any) -> Rooms:
        rooms = Rooms(60.0)
        rooms.add(Slot((("policy", 0),), 1, 0, True), object())
        return rooms

    def remove(_: Any) -> None:
        raise RuntimeError("no such group")

    class Remote:
        def options(self, **_: Any) -> Remote:
            return self

        def remote(self, _: Any) -> Any:
            raise ValueError("no such option")

    monkeypatch.setattr(ray, "remote", lambda _: Remote())
    monkeypatch.setattr("ray.util.remove_placement_group", remove)
    monkeypatch.setattr(ray_backend, "connect", lambda *_: True)
    monkeypatch.setattr(ray_backend, "disconnect", lambda: left.append(True))
    monkeypatch.setattr(ray_backend, "reserve", reserved)
    with pytest.raises(ValueError, match="no such option") as caught:
        asyncio.run(RayBackend("local", [fake()]).start())
    assert "no such group" in caught.value.__notes__[0]
    assert left == [True]


def test_closing_stops_every_pool_and_frees_the_room_though_one_pool_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    class Pool:
        def __init__(self, spec: ModelSpec, *_: Any) -> None:
            self.name = spec.name

        async def start(self) -> None:
            pass

        def stop(self) -> None:
            done.append(self.name)
            if self.name != "prm":
                raise RuntimeError("no event loop")

    async def reserved(*_: Any) -> Rooms:
        rooms = Rooms(60.0)
        rooms.add(Slot((("policy", 0),), 1, 0, True), "room")
        return rooms

    async def work() -> None:
        backend = RayBackend("local", [fake(name) for name in ("policy", "prm", "large")])
        await backend.start()
        with pytest.raises(RuntimeError, match="no event loop"):
            await backend.close()

    monkeypatch.setattr(ray_backend, "ModelPool", Pool)
    monkeypatch.setattr("ray.util.remove_placement_group", done.append)
    monkeypatch.setattr(ray_backend, "connect", lambda *_: True)
    monkeypatch.setattr(ray_backend, "disconnect", lambda: done.append("left"))
    monkeypatch.setattr(ray_backend, "reserve", reserved)
    asyncio.run(work())
    assert set(done[:3]) == {"policy", "prm", "large"}
    assert done[3:] == ["room", "left"]
