"""Room for replicas on a Ray cluster: whether there is enough, and reserving it before any model loads.

The check is on what nodes have in all, so that a config that can never run is refused at once and by name; a cluster
that is merely busy is waited for.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.actors.spec import ModelSpec
from apportion.errors import CapacityError

BUSY_SECONDS = 120.0
# Another job may be about to end; after this the user should know that the cluster is full.

WAIT_SECONDS = 1
# A wait cannot be interrupted: so long, at most, does a Ctrl-C go unheard.

OVERSUBSCRIBE = 4
# A local Ray may promise more CPUs than there are cores, as replicas take turns; beyond this they only get in the way.

LEAST_CPUS = 0.001
# Ray reserves nothing without resources; a replica that asks for none still needs a place.


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster has in all."""

    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Need:
    """What each replica of a model takes."""

    model: str
    replicas: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, spec: ModelSpec) -> Need:
        """The need of one model."""
        cpus = spec.cpus if spec.cpus or spec.gpus else LEAST_CPUS
        return cls(spec.name, spec.replicas, cpus, spec.gpus)

    @property
    def bundle(self) -> dict[str, float]:
        """One replica's resources as Ray names them."""
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount}

    def __str__(self) -> str:
        return f"{self.model}: {self.replicas} x ({self.cpus:g} CPUs, {self.gpus:g} GPUs)"


def shortage(needs: Sequence[Need], nodes: Sequence[Node]) -> str | None:
    """Why the needs do not fit the nodes, with what was asked and what there is; None where they fit.

    Replicas are put on the fullest node that holds them, largest first; each must fit on one node.
    """
    free = [[node.cpus, node.gpus] for node in nodes]
    left_out: dict[str, int] = {}
    for need in sorted(needs, key=lambda need: (-need.gpus, -need.cpus)):
        for _ in range(need.replicas):
            able = [room for room in free if room[0] >= need.cpus - 1e-9 and room[1] >= need.gpus - 1e-9]
            if not able:
                left_out[need.model] = left_out.get(need.model, 0) + 1
                continue
            room = min(able, key=lambda room: (room[1], room[0]))
            room[0] -= need.cpus
            room[1] -= need.gpus
    if not left_out:
        return None
    asked = "; ".join(map(str, needs))
    have = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes) or "no nodes"
    missing = ", ".join(f"{count} of {model}" for model, count in left_out.items())
    return (
        f"the cluster cannot hold {missing}. Asked: {asked}. The nodes have: {have}. "
        "Lower replicas, cpus or gpus of these models, or add nodes"
    )


def local_cpus(needs: Sequence[Need]) -> int:
    """Logical CPUs of a Ray started on this machine for these models."""
    cores = os.cpu_count() or 1
    asked = math.ceil(sum(need.replicas * need.cpus for need in needs))
    return max(cores, min(asked, OVERSUBSCRIBE * cores))


def cluster_nodes() -> list[Node]:
    """The living nodes of the connected cluster."""
    import ray

    nodes = []
    for entry in ray.nodes():
        if entry["Alive"]:
            resources: Mapping[str, float] = entry["Resources"]
            nodes.append(Node(entry["NodeName"], resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
    return nodes


async def reserve(needs: Sequence[Need]) -> dict[str, Any]:
    """One placement group a model, a bundle a replica; CapacityError where they do not fit or never come free.

    Bundles are packed, so that models that need whole nodes find them. Whatever stops it, nothing stays reserved.
    """
    import ray
    from ray.util import placement_group

    why = shortage(needs, cluster_nodes())
    if why is not None:
        raise CapacityError(why)
    groups: dict[str, Any] = {}
    deadline = time.monotonic() + BUSY_SECONDS
    try:
        for need in needs:
            groups[need.model] = placement_group([need.bundle] * need.replicas, strategy="PACK")
        for need in needs:
            while not await asyncio.to_thread(groups[need.model].wait, WAIT_SECONDS):
                if time.monotonic() > deadline:
                    raise CapacityError(
                        f"the cluster had no room for {need} within {BUSY_SECONDS:g} s; free now: "
                        f"{ray.available_resources()}. Wait for other jobs to end or lower replicas"
                    )
    except BaseException as error:
        try:
            release(groups.values())
        except Exception as second:
            error.add_note(f"nor could what had been reserved be freed: {second}")
        raise
    return groups


def release(groups: Iterable[Any]) -> None:
    """Give room back: of every group, also where Ray fails on one; the first such error is raised in the end."""
    from ray.util import remove_placement_group

    failed: list[Exception] = []
    for group in groups:
        try:
            remove_placement_group(group)
        except Exception as error:
            failed.append(error)
    if failed:
        raise failed[0]
