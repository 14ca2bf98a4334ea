"""Whether replicas fit a cluster, decided before anything starts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from actor_world import fake
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors import rooms
from apportion.actors.placement import Need, Node, Slot, local_cpus, make_plan, shortage
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
        ([("halves", 16, 1, 0.5)], None),
        ([("most", 8, 1, 0.6)], None),
        ([("most", 9, 1, 0.6)], "1 of most"),  # 5.4 GPUs of 8, but no two on one GPU
        ([("policy", 8, 1, 0.6), ("prm", 8, 1, 0.4)], None),
        ([("policy", 8, 1, 0.6), ("prm", 8, 1, 0.5)], "8 of prm"),
        ([("few", 12, 1, 1, 2)], None),
        ([("few", 12, 1, 4, 3)], "1 of few"),
    ],
)
def test_shortage(needs: list[Any], missing: str | None) -> None:
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


def placed(*needs: Need, nodes: Sequence[Node] = TWO_NODES) -> list[tuple[str, ...]]:
    """Node and replicas of each slot, as `left: policy0 prm0`."""
    plan = make_plan(needs, nodes)
    rows = zip(plan.slots, plan.nodes, strict=True)
    return [
        (f"{node.name if node else 'nowhere'}:", *(f"{model}{index}" for model, index in slot.replicas))
        for slot, node in rows
    ]


def test_replicas_of_a_model_are_spread_over_the_nodes() -> None:
    where = [row[0] for row in placed(Need("policy", 4, 1, 1))]
    assert sorted(where) == ["left:", "left:", "right:", "right:"]


def test_what_needs_a_whole_node_finds_one() -> None:
    rows = placed(Need("small", 4, 1, 1), Need("large", 1, 1, 4))
    (large,) = [where for where, *who in rows if who == ["large0"]]
    assert {where for where, *who in rows if who != ["large0"]} == {"left:", "right:"} - {large}


def test_nodes_are_filled_where_spreading_would_leave_something_out() -> None:
    # Spread, a and b would take a CPU of each node, and c, which needs all of one, would find none.
    nodes = [Node("left", 4, 0), Node("right", 4, 0)]
    assert shortage([Need("c", 1, 4, 0), Need("a", 4, 1, 0)], nodes) is None


def test_a_policy_and_its_verifier_share_a_gpu_where_their_shares_fit() -> None:
    one = [Node("one", 16, 2)]
    assert placed(Need("prm", 2, 1, 0.4), Need("policy", 2, 1, 0.6), nodes=one) == [
        ("one:", "policy0", "prm0"),
        ("one:", "policy1", "prm1"),
    ]
    assert placed(Need("policy", 2, 1, 0.5), Need("prm", 1, 1, 0.5), nodes=one)[0] == ("one:", "policy0", "prm0")
    assert all(len(row) == 2 for row in placed(Need("policy", 1, 1, 0.6), Need("prm", 1, 1, 0.6), nodes=one))
    assert all(len(row) == 2 for row in placed(Need("policy", 2, 1, 0.5), nodes=one)), "of one model: no company"


def test_shares_are_placed_apart_where_no_node_has_the_cpus_for_both() -> None:
    nodes = [Node("left", 1, 1), Node("right", 1, 1)]
    assert len(placed(Need("policy", 1, 1, 0.5), Need("prm", 1, 1, 0.5), nodes=nodes)) == 2
    assert shortage([Need("policy", 1, 1, 0.5), Need("prm", 1, 1, 0.5)], nodes) is None


def test_replicas_that_may_come_later_take_no_room_from_those_that_must_be_there() -> None:
    one = [Node("one", 16, 2)]
    rows = placed(Need("policy", 4, 1, 1, 1), Need("prm", 1, 1, 1), nodes=one)
    assert [row for row in rows if row[0] == "one:"] == [("one:", "policy0"), ("one:", "prm0")]
    assert [row[1] for row in rows if row[0] == "nowhere:"] == ["policy1", "policy2", "policy3"]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 8), st.sampled_from([0, 0.3, 0.5, 1, 2, 4])), max_size=5),
    st.lists(st.tuples(st.integers(0, 16), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_a_plan_never_puts_more_on_a_node_than_it_has(
    sizes: list[tuple[int, int, float]], nodes: list[tuple[int, int]]
) -> None:
    needs = [Need(f"m{index}", *size) for index, size in enumerate(sizes)]
    plan = make_plan(needs, [Node(f"n{index}", *size) for index, size in enumerate(nodes)])
    assert sorted(replica for slot in plan.slots for replica in slot.replicas) == sorted(
        (need.model, index) for need in needs for index in range(need.replicas)
    )
    for index, (cpus, gpus) in enumerate(nodes):
        here = [s for s, n in zip(plan.slots, plan.nodes, strict=True) if n is not None and n.name == f"n{index}"]
        assert sum(slot.cpus for slot in here) <= cpus + 1e-6
        assert sum(slot.gpus for slot in here) <= gpus + 1e-6


class Group:
    """A placement group that never comes free."""

    class id:
        @staticmethod
        def hex() -> str:
            return "group"


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_was_reserved_is_freed_whatever_stops_it(monkeypatch: pytest.MonkeyPatch, cancelled: bool) -> None:
    made: list[Group] = []
    freed: list[Group] = []
    looks: list[int] = []

    def make(*_: object, **__: object) -> Group:
        made.append(Group())
        return made[-1]

    def free(group: Group) -> None:
        freed.append(group)
        raise RuntimeError("the cluster is gone")

    def look() -> dict[str, Any]:
        looks.append(1)
        return {"group": {"state": "PENDING"}}

    monkeypatch.setattr("ray.util.placement_group", make)
    monkeypatch.setattr("ray.util.placement_group_table", look)
    monkeypatch.setattr("ray.util.remove_placement_group", free)
    monkeypatch.setattr("ray.available_resources", dict)
    monkeypatch.setattr(rooms, "cluster_nodes", lambda: TWO_NODES)
    monkeypatch.setattr(rooms, "BUSY_SECONDS", 60.0 if cancelled else 0.02)
    monkeypatch.setattr(rooms, "LOOK_SECONDS", 0.001)

    async def run() -> BaseException:
        task = asyncio.ensure_future(rooms.reserve([Need("a", 1, 1, 0), Need("b", 1, 1, 0)]))
        while cancelled and not looks:
            await asyncio.sleep(0.001)
        if cancelled:
            task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]  # type: ignore[return-value]

    error = asyncio.run(run())
    assert isinstance(error, asyncio.CancelledError if cancelled else CapacityError)
    assert len(made) == 2
    assert freed == made, "the second group is freed although Ray failed on the first"


@pytest.mark.parametrize(
    ("came", "why"),
    [
        ([], "The nodes have: left: 1 CPUs, 0 GPUs. No node for it came within 0.02 s. .* raise cluster.wait_s"),
        ([Node("late", 1, 1)], "The nodes have: left: 1 CPUs, 0 GPUs; late: 1 CPUs, 1 GPUs. No node for it came"),
        ([Node("late", 1, 2)], r"no room for policy: 1 x \(1 CPUs, 2 GPUs\) within 0.02 s; free now: 3 CPUs, 0 GPUs"),
    ],
)
def test_who_waited_in_vain_is_told_what_the_nodes_have_now(
    monkeypatch: pytest.MonkeyPatch, came: list[Node], why: str
) -> None:
    nodes = [Node("left", 1, 0)]

    def look() -> dict[str, Any]:
        nodes[1:] = came
        return {}

    monkeypatch.setattr("ray.util.placement_group", lambda *_, **__: Group())
    monkeypatch.setattr("ray.util.placement_group_table", look)
    monkeypatch.setattr("ray.util.remove_placement_group", lambda _: None)
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(rooms, "cluster_nodes", lambda: list(nodes))
    monkeypatch.setattr(rooms, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(rooms, "LOOK_SECONDS", 0.001)
    told: list[str] = []
    with pytest.raises(CapacityError, match=why):
        asyncio.run(rooms.reserve([Need("policy", 1, 1, 2)], 0.02, told.append))
    waits = "waiting for room on the cluster, 0 s of at most 0 s, for policy: 1 x (1 CPUs, 2 GPUs)"
    assert set(told) == {waits, ""}
    assert told[-1] == ""


def test_needs_of_specs() -> None:
    assert Need.of(fake(replicas=3)) == Need("policy", 3, 1.0, 0.0)
    assert Slot((("m", 0),), 0, 1, True).bundle == {"GPU": 1}


def test_a_local_ray_has_room_for_a_small_job_and_not_for_a_thousand_replicas() -> None:
    assert local_cpus([Need("m", 3, 1.0, 0.0)]) >= 3
    assert local_cpus([Need("m", 100_000, 1.0, 0.0)]) < 100_000
