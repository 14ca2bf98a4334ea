"""Whether replicas fit a cluster, decided before anything starts."""

from __future__ import annotations

import asyncio
import time

import pytest
from actor_world import fake
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors import placement
from apportion.actors.placement import Need, Node, local_cpus, shortage
from apportion.errors import CapacityError

TWO_NODES = [Node("left", 16, 4), Node("right", 16, 4)]


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        #   model, replicas, cpus, gpus
        ([("policy", 8, 1, 1)], None),
        ([("policy", 9, 1, 1)], "1 of policy"),
        ([("policy", 2, 1, 4)], None),
        ([("policy", 1, 1, 8)], "1 of policy"),  # eight GPUs, but never on one node
        ([("prm", 4, 1, 0.5), ("policy", 6, 1, 1)], None),
        ([("small", 4, 1, 1), ("large", 2, 1, 2)], None),  # largest first, or it would not fit
        ([("small", 5, 1, 1), ("large", 2, 1, 2)], "1 of small"),
        ([("cpu", 2, 16, 0)], None),
        ([("cpu", 3, 16, 0)], "1 of cpu"),
        ([("cpu", 1, 17, 0)], "1 of cpu"),
    ],
)
def test_shortage(needs: list[tuple[str, int, float, float]], missing: str | None) -> None:
    why = shortage([Need(*need) for need in needs], TWO_NODES)
    if missing is None:
        assert why is None
    else:
        assert why is not None
        assert missing in why
        assert "left: 16 CPUs, 4 GPUs" in why


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 8), st.integers(0, 4)), max_size=5))
def test_what_is_said_to_fit_is_within_the_cluster(sizes: list[tuple[int, int, int]]) -> None:
    needs = [Need(f"m{index}", *size) for index, size in enumerate(sizes)]
    if shortage(needs, TWO_NODES) is None:
        assert sum(need.replicas * need.cpus for need in needs) <= 32
        assert sum(need.replicas * need.gpus for need in needs) <= 8


def test_nodes_of_one_name_are_different_nodes() -> None:
    twins = [Node("node", 8, 4), Node("node", 8, 4)]
    assert shortage([Need("m", 8, 1, 1)], twins) is None
    assert "1 of m" in str(shortage([Need("m", 9, 1, 1)], twins))


class Group:
    """A placement group that never comes free."""

    def __init__(self) -> None:
        self.waited = 0

    def wait(self, timeout_seconds: float) -> bool:
        self.waited += 1
        time.sleep(0.01)
        return False


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_was_reserved_is_freed_whatever_stops_it(monkeypatch: pytest.MonkeyPatch, cancelled: bool) -> None:
    made: list[Group] = []
    freed: list[Group] = []

    def make(*_: object, **__: object) -> Group:
        made.append(Group())
        return made[-1]

    def free(group: Group) -> None:
        freed.append(group)
        raise RuntimeError("the cluster is gone")

    monkeypatch.setattr("ray.util.placement_group", make)
    monkeypatch.setattr("ray.util.remove_placement_group", free)
    monkeypatch.setattr("ray.available_resources", dict)
    monkeypatch.setattr(placement, "cluster_nodes", lambda: TWO_NODES)
    monkeypatch.setattr(placement, "BUSY_SECONDS", 60.0 if cancelled else 0.02)

    async def run() -> BaseException:
        task = asyncio.ensure_future(placement.reserve([Need("a", 1, 1, 0), Need("b", 1, 1, 0)]))
        while cancelled and not (made and made[0].waited):
            await asyncio.sleep(0.001)
        if cancelled:
            task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]  # type: ignore[return-value]

    error = asyncio.run(run())
    assert isinstance(error, asyncio.CancelledError if cancelled else CapacityError)
    assert len(made) == 2
    assert freed == made, "the second group is freed although Ray failed on the first"


def test_needs_of_specs() -> None:
    assert Need.of(fake(replicas=3)) == Need("policy", 3, 1.0, 0.0)
    assert Need("m", 1, 0, 1).bundle == {"GPU": 1}


def test_a_local_ray_has_room_for_a_small_job_and_not_for_a_thousand_replicas() -> None:
    assert local_cpus([Need("m", 3, 1.0, 0.0)]) >= 3
    assert local_cpus([Need("m", 100_000, 1.0, 0.0)]) < 100_000
