"""Whose room is given to a model that has none, and when those who left come back."""

from __future__ import annotations

import asyncio

import pytest

from apportion.actors.placement import Need, Replica, Slot
from apportion.actors.rooms import Rooms
from apportion.actors.ways import Ways


def slot(*replicas: Replica, gpus: float = 1.0, cpus: float = 1.0, required: bool = True) -> Slot:
    return Slot(replicas, cpus, gpus, required)


A0, A1, B0, B1, B2 = ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)
ONE_GPU = Need("prm", 1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("slots", "placed", "need", "spare"),
    [
        ([slot(A0), slot(B0)], [A0, B0], ONE_GPU, None),  # nobody has two
        ([slot(A0), slot(A1)], [A0], ONE_GPU, None),  # nor here: one has no room itself
        ([slot(A0), slot(A1), slot(B0), slot(B1), slot(B2)], [A0, A1, B0, B1, B2], ONE_GPU, slot(B0)),
        ([slot(B0), slot(B1), slot(B2), slot(A0), slot(A1, required=False)], [A0, A1, B0, B1, B2], ONE_GPU,
         slot(A1, required=False)),
        ([slot(A0, B0), slot(A1)], [A0, A1, B0], ONE_GPU, slot(A1)),  # the other holds the only b
        ([slot(A0), slot(A1)], [A0, A1], Need("prm", 1, 1.0, 2.0), None),  # too small
        ([slot(A0, gpus=0), slot(A1, gpus=0, cpus=4)], [A0, A1], Need("prm", 1, 2.0, 0.0), slot(A1, gpus=0, cpus=4)),
    ],
)  # fmt: skip
def test_spare_room(slots: list[Slot], placed: list[Replica], need: Need, spare: Slot | None) -> None:
    rooms = Rooms(60.0)
    for one in slots:
        rooms.add(one, object())
    assert rooms.spare(need, set(placed)) == spare


class Pool:
    """Notes who leaves and who comes back."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def leave(self, index: int, cause: str) -> None:
        assert "'prm'" in cause
        self.told.append(f"{index} leaves")

    def join(self, index: int) -> None:
        self.told.append(f"{index} joins")


def test_one_leaves_and_comes_back_when_the_other_model_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[object] = []
    made: list[object] = []

    class Placed(Rooms):
        async def placed(self) -> set[Replica]:
            return {A0, A1}

    monkeypatch.setattr("ray.util.remove_placement_group", removed.append)
    monkeypatch.setattr("ray.util.placement_group", lambda bundles, **_: made.append(bundles))

    async def run() -> list[str]:
        rooms, pool = Placed(60.0), Pool()
        rooms.add(slot(A0), "first")
        rooms.add(slot(A1), "second")
        ways = Ways(rooms, {"prm": ONE_GPU}, {"a": pool})
        assert await ways.make("prm")
        assert not await ways.make("prm"), "one is enough: the others would be in vain, too"
        assert removed == ["first"]
        assert not made
        ways.settle("prm")
        assert made == [[{"CPU": 1.0, "GPU": 1.0}]]
        ways.settle("prm")
        return pool.told

    assert asyncio.run(run()) == ["0 leaves", "0 joins"]
