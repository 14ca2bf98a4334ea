"""What is done about replicas that hang or lag, told second by second: no Ray runs."""

from __future__ import annotations

import asyncio
import time

import pytest
import ray
from actor_world import conversation, fake

from apportion.actors import overseer
from apportion.actors.member import Member
from apportion.actors.overseer import Overseer
from apportion.actors.placement import Need, Node, Replica, Slot
from apportion.actors.replica import Outcome
from apportion.actors.rooms import Rooms
from apportion.actors.watch import LATE, SOONEST_S
from apportion.actors.ways import Ways
from apportion.actors.work import Work
from apportion.types import Completion, Finish, Generate, Generated, Sampling, Usage


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.kill", lambda actor, no_restart: None)


class Actor:
    """Takes anything and answers nothing."""

    def __getattr__(self, name: str) -> Actor:
        return self

    async def remote(self, batch: object) -> None:
        pass


class Pool:
    """Replicas that are up, and what was done about them."""

    def __init__(self, replicas: int) -> None:
        self.now = 0.0
        self.spec = fake(replicas=replicas)
        self.members = [Member(index, self.spec, {}, self) for index in range(replicas)]
        for member in self.members:
            member.alive = True
            member._actor = Actor()
        self.done: list[tuple[str, int, int]] = []
        self.lost = ""
        self.numbers = 0

    def give(self, index: int) -> None:
        """One more request for a replica, now."""
        future = asyncio.get_running_loop().create_future()
        request = Generate("policy", conversation("x"), (1,), Sampling())
        reach = request.sampling.max_tokens
        self.members[index].give(Work(self.numbers, request, 0, 1, reach, future))
        self.numbers += 1

    def answer(self, index: int, share: float = 1.0) -> None:
        """The replica answers its newest request with a share of the tokens it may write."""
        member = self.members[index]
        _, work = member.running.popitem()
        written = Completion("", int(share * work.reach), Finish.END)
        member.hear(work, Generated((written,), Usage()))

    def brief(self, index: int) -> None:
        """The replica answers with a twentieth of what it may write."""
        self.answer(index, 0.05)

    def died(self, member: Member, orphans: list[Work], cause: str) -> None:
        self.done.append(("replaced", member.index, len(orphans)))

    def move(self, member: Member, works: list[Work], cause: str) -> None:
        self.done.append(("moved", member.index, len(works)))
        for work in works:
            member.drop(work)

    def give_up_all(self, cause: str) -> None:
        self.lost = cause

    def answered(self, member: Member, work: Work, outcome: Outcome) -> None:
        raise AssertionError("no actor runs")


def watch(pool: Pool, steps: list[tuple[float, str]]) -> None:
    """At each time do `give N`, `answer N`, `brief N` or nothing, and look."""

    async def run() -> None:
        one = Overseer(pool, pool.spec, None)
        for at, what in steps:
            pool.now = at
            for action in filter(None, what.split(", ")):
                name, index = action.split()
                getattr(pool, name)(int(index))
            one._look()

    asyncio.run(run())


def test_a_silent_replica_beside_one_that_answers_is_replaced() -> None:
    pool = Pool(2)
    watch(pool, [(0, "give 0, give 0, give 1"), (4, "answer 1"), (SOONEST_S, ""), (SOONEST_S + 1, "")])
    assert pool.done == [("replaced", 0, 2)]


def test_a_silent_replica_alone_has_until_the_timeout() -> None:
    pool = Pool(1)
    limit = pool.spec.timeout_s
    watch(pool, [(0, "give 0"), (4, "answer 0, give 0"), (limit, ""), (limit + 5, "")])
    assert pool.done == [("replaced", 0, 1)]


def test_replicas_that_all_stall_are_left_alone() -> None:
    pool = Pool(3)
    steps = [(0.0, "give 0, give 1, give 2"), (5.0, "answer 0, answer 1, answer 2, give 0, give 1, give 2")]
    watch(pool, [*steps, *((at, "") for at in (60.0, 200.0, 500.0, 900.0))])
    assert pool.done == []


def test_a_request_that_hangs_while_others_are_answered_is_moved_and_its_replica_stays() -> None:
    pool = Pool(2)
    steps = [(0.0, "give 0, give 1"), (3.0, "answer 1, give 0, give 1")]
    steps += [(at, "answer 0, answer 1, give 0, give 1") for at in (6.0, 12.0, 18.0, 24.0, 31.0, 36.0)]
    watch(pool, steps)
    assert pool.done == [("moved", 0, 1)]
    assert len(pool.members[0].running) == 1


def test_a_replica_that_is_far_slower_than_another_loses_its_work() -> None:
    pool = Pool(2)
    steps = [(0.0, "give 0, give 1"), (10.0, "answer 1, give 0"), (20.0, "give 0"), (30.0, "give 0")]
    # It would answer after a minute, and the other one takes ten seconds.
    watch(pool, [*steps, (LATE * 10, ""), (LATE * 10 + 1, "")])
    assert pool.done == [("replaced", 0, 4)]


def test_an_answer_that_is_far_longer_than_the_others_so_far_is_waited_for() -> None:
    pool = Pool(2)
    steps = [(0.0, "give 0, give 1, give 1"), (10.0, "brief 1"), (20.0, "brief 1")]
    # Alone at the end of a job, and written to its last token at the others' speed.
    watch(pool, [*steps, (LATE * 20 + 1, ""), (20 * 20.0, "answer 0")])
    assert pool.done == []
    # The same beside short ones that the replica answers meanwhile.
    pool = Pool(2)
    steps += [(at, "give 0, brief 0, give 1, brief 1") for at in (30.0, 60.0, 90.0, LATE * 20 + 1)]
    watch(pool, [*steps, (20 * 20.0, "answer 0")])
    assert pool.done == []


def test_a_slow_first_answer_excuses_no_later_one() -> None:
    pool = Pool(2)
    # A short one while the model warms up, then many that are written to their end at once.
    steps = [(0.0, "give 1"), (20.0, "brief 1"), (20.5, "give 1"), (21.0, "answer 1, give 0")]
    watch(pool, [*steps, (21 + LATE * 20 + 1, "")])
    assert pool.done == [("replaced", 0, 1)]


def test_time_in_which_the_driver_was_held_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overseer, "TICK_S", 0.01)
    pool = Pool(1)

    async def run() -> None:
        task = asyncio.ensure_future(Overseer(pool, pool.spec, None).run())
        await asyncio.sleep(0.03)
        before = pool.now
        time.sleep(0.5)
        await asyncio.sleep(0.015)
        assert pool.now - before <= 0.1
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("fails", [0, 3])
@pytest.mark.parametrize("placed", [True, False])
def test_a_model_without_a_replica_waits_for_one_that_loads_and_not_for_room_that_never_comes(
    monkeypatch: pytest.MonkeyPatch, placed: bool, fails: int
) -> None:
    monkeypatch.setattr(overseer, "TICK_S", 0.001)
    pool = Pool(2)
    for member in pool.members:
        member.alive = False
    looks: list[int] = []

    class Placed(Rooms):
        async def placed(self) -> set[tuple[str, int]]:
            looks.append(1)
            if len(looks) <= fails:
                raise ray.exceptions.RpcError("the head node does not answer")
            return {("policy", 1)} if placed else {("other", 0)}

    async def run() -> None:
        task = asyncio.ensure_future(Overseer(pool, pool.spec, Placed(0.01)).run())
        async with asyncio.timeout(10):
            while len(looks) < fails + 2 and not pool.lost:
                await asyncio.sleep(0.002)
        task.cancel()

    asyncio.run(run())
    assert bool(pool.lost) is not placed


def test_a_cluster_that_fails_leaves_the_overseer_running_and_those_who_left_are_called_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overseer, "TICK_S", 0.001)
    pool, asked, joined = Pool(1), [], []

    class Other:
        def leave(self, index: int, cause: str) -> None: ...

        def join(self, index: int) -> None:
            joined.append(index)

    class Flaky(Rooms):
        async def placed(self) -> set[Replica]:
            return {("other", 0), ("other", 1)}

        def vacate(self, slot: Slot) -> None: ...

        def ask(self, slot: Slot, node: Node | None = None) -> None:
            asked.append(slot)
            if len(asked) < 3:
                raise ray.exceptions.RpcError("the head node does not answer")

    async def run() -> None:
        rooms = Flaky(60.0)
        for index in range(2):
            rooms.add(Slot((("other", index),), 1, 0, True), object())
        ways = Ways(rooms, {"policy": Need("policy", 1, 1, 0)}, {"other": Other()})
        assert await ways.make("policy")
        task = asyncio.ensure_future(Overseer(pool, pool.spec, rooms, ways).run())
        async with asyncio.timeout(10):
            while not joined:
                await asyncio.sleep(0.002)
        task.cancel()

    asyncio.run(run())
    assert (len(asked), joined) == (3, [0])
