"""Reserving what a plan says on a Ray cluster: one placement group a slot.

A group has one bundle, so its GPUs are on one node. Each waits by itself: a replica that has no room yet keeps no other
from starting, and is placed when a node comes; a group whose node died is placed by Ray on another one. Pending groups
are also what an autoscaler of Ray adds nodes for. The plan's node is a hint to Ray, which knows what is free right now.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from apportion.actors.placement import Need, Node, Replica, Slot, cluster_nodes, make_plan, shortage
from apportion.actors.spec import ModelSpec
from apportion.errors import CapacityError

BUSY_SECONDS = 120.0
# Another job may be about to end; after this the user should know that the cluster is full.

LOOK_SECONDS = 0.25
# Between two looks at what has been placed.

PLACED = "CREATED"
# Ray's name for the state of a placement group that has its resources.


class Rooms:
    """The groups of a job; `patience_s` is how long a model may go without any room."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._groups: dict[Slot, Any] = {}
        self._of: dict[Replica, Any] = {}

    def add(self, slot: Slot, group: Any) -> None:
        """One more group, and who is to live there."""
        self._groups[slot] = group
        self._of.update(dict.fromkeys(slot.replicas, group))

    def ask(self, slot: Slot, node: Node | None = None) -> None:
        """Ask Ray for the room of a slot, on a node if that can be."""
        from ray.util import placement_group

        target = node.id if node is not None and node.id else None
        self.add(slot, placement_group([slot.bundle], strategy="STRICT_PACK", _soft_target_node_id=target))

    def vacate(self, slot: Slot) -> None:
        """Give the room of a slot back; Ray ends what still runs there."""
        from ray.util import remove_placement_group

        remove_placement_group(self._groups.pop(slot))

    def spare(self, need: Need, placed: Collection[Replica]) -> Slot | None:
        """A slot with room for a replica of a model, whose own models have other replicas that are placed.

        Rather one that the job was to begin without, and of the model that has the most.
        """
        count = Counter(model for model, _ in placed)
        able = [
            (not slot.required, fewest, slot)
            for slot in self._groups
            if all(replica in placed for replica in slot.replicas)
            and (fewest := min(count[model] for model, _ in slot.replicas)) > 1
            and slot.gpus >= need.gpus
            and (need.gpus or slot.cpus >= need.cpus)
        ]
        return max(able, key=lambda entry: entry[:2])[2] if able else None

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

        groups, self._groups, self._of = self._groups, {}, {}
        failed: list[Exception] = []
        for group in groups.values():
            try:
                remove_placement_group(group)
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]


def actor_options(spec: ModelSpec, rooms: Rooms | None, index: int) -> dict[str, Any]:
    """What Ray is told of a replica's actor: what it takes, and where. `rooms` None lets Ray choose."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    need = Need.of(spec)
    options: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus}
    if rooms is not None:
        group = rooms.of(spec.name, index)
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    return options


async def reserve(needs: Sequence[Need], wait_s: float = 0.0, tell: Callable[[str], None] = lambda _: None) -> Rooms:
    """Room for every replica; returns when each model has room for one. The others come when there is room for them.

    `tell` is told at every look what is waited for, as a text; an empty one in the end.

    Raises CapacityError where the nodes can never hold what is required and none are waited for, or where a model got
    no room within `wait_s`, or BUSY_SECONDS where that is more. Whatever stops it, nothing stays reserved.
    """
    nodes = cluster_nodes()
    if wait_s <= 0 and (why := shortage(needs, nodes)) is not None:
        raise CapacityError(why)
    plan = make_plan(needs, nodes)
    rooms = Rooms(max(BUSY_SECONDS, wait_s))
    began = time.monotonic()
    try:
        for slot, node in zip(plan.slots, plan.nodes, strict=True):
            rooms.ask(slot, node)
        while True:
            placed = {model for model, _ in await rooms.placed()}
            without = [need for need in needs if need.model not in placed]
            if not without:
                return rooms
            waited = time.monotonic() - began
            if waited > rooms.patience_s:
                raise CapacityError(_late(needs, without[0], rooms.patience_s))
            asked = "; ".join(map(str, without))
            tell(f"waiting for room on the cluster, {waited:.0f} s of at most {rooms.patience_s:.0f} s, for {asked}")
            await asyncio.sleep(LOOK_SECONDS)
    except BaseException as error:
        try:
            rooms.release()
        except Exception as second:
            error.add_note(f"nor could what had been reserved be freed: {second}")
        raise
    finally:
        tell("")


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
