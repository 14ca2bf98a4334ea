"""Reserving what a plan says on a Ray cluster: one placement group a slot.

A group has one bundle, so its GPUs are on one node. Each waits by itself: a replica that has no room yet keeps no other
from starting, and is placed when a node comes; a group whose node died is placed by Ray on another one. Pending groups
are also what an autoscaler of Ray adds nodes for. The plan's node is a hint to Ray, which knows what is free right now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from apportion.actors.placement import Need, cluster_nodes, make_plan, shortage
from apportion.errors import CapacityError

BUSY_SECONDS = 120.0
# Another job may be about to end; after this the user should know that the cluster is full.

LOOK_SECONDS = 0.25
# Between two looks at what has been placed.

PLACED = "CREATED"
# Ray's name for the state of a placement group that has its resources.

Replica = tuple[str, int]
"""Model and index."""


class Rooms:
    """The groups of a job; `patience_s` is how long a model may go without any room."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._groups: list[Any] = []
        self._of: dict[Replica, Any] = {}

    def add(self, group: Any, replicas: Sequence[Replica]) -> None:
        """One more group, and who is to live there."""
        self._groups.append(group)
        self._of.update(dict.fromkeys(replicas, group))

    def of(self, model: str, index: int) -> Any:
        """The group of a replica."""
        return self._of[model, index]

    async def placed(self) -> set[Replica]:
        """Replicas whose room is on a node now."""
        from ray.util import placement_group_table

        table = await asyncio.to_thread(placement_group_table)
        return {
            replica for replica, group in self._of.items() if table.get(group.id.hex(), {}).get("state", "") == PLACED
        }

    def release(self) -> None:
        """Give all room back, also where Ray fails on a group; the first such error is raised in the end."""
        from ray.util import remove_placement_group

        groups, self._groups, self._of = self._groups, [], {}
        failed: list[Exception] = []
        for group in groups:
            try:
                remove_placement_group(group)
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]


async def reserve(needs: Sequence[Need], wait_s: float = 0.0) -> Rooms:
    """Room for every replica; returns when each model has room for one. The others come when there is room for them.

    Raises CapacityError where the nodes can never hold what is required and none are waited for, or where a model got
    no room within `wait_s`, or BUSY_SECONDS where that is more. Whatever stops it, nothing stays reserved.
    """
    from ray.util import placement_group

    nodes = cluster_nodes()
    if wait_s <= 0 and (why := shortage(needs, nodes)) is not None:
        raise CapacityError(why)
    plan = make_plan(needs, nodes)
    rooms = Rooms(max(BUSY_SECONDS, wait_s))
    deadline = time.monotonic() + rooms.patience_s
    try:
        for slot, node in zip(plan.slots, plan.nodes, strict=True):
            target = node.id if node is not None and node.id else None
            rooms.add(
                placement_group([slot.bundle], strategy="STRICT_PACK", _soft_target_node_id=target), slot.replicas
            )
        while True:
            placed = {model for model, _ in await rooms.placed()}
            without = [need for need in needs if need.model not in placed]
            if not without:
                return rooms
            if time.monotonic() > deadline:
                raise CapacityError(_late(needs, without[0], rooms.patience_s))
            await asyncio.sleep(LOOK_SECONDS)
    except BaseException as error:
        try:
            rooms.release()
        except Exception as second:
            error.add_note(f"nor could what had been reserved be freed: {second}")
        raise


def _late(needs: Sequence[Need], without: Need, waited_s: float) -> str:
    """Why a model still has no room: the nodes of now cannot hold what is asked for, or others use what they have."""
    import ray

    why = shortage(needs, cluster_nodes(), waited_s)
    if why is not None:
        return why
    free = ray.available_resources()
    have = f"{free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"
    return (
        f"the cluster had no room for {without} within {waited_s:g} s; free now: {have}. "
        "Wait for other jobs to end, or lower replicas"
    )
