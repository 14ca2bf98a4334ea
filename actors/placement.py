"""Which replica goes where on a cluster, decided on what its nodes have in all, before anything is reserved.

Replicas of different models that take shares of a GPU are put on one GPU where their shares fit (a policy beside its
verifier). The largest are placed first, so that none breaks up a node that another needs whole; among the nodes that
hold it, a replica goes to the one with the fewest of its model, so that a node that dies takes few with it. Where that
leaves something out, the fullest nodes are filled first instead, and then shares are placed one by one.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from apportion.actors.spec import ModelSpec

OVERSUBSCRIBE = 4
# A local Ray may promise more CPUs than there are cores, as replicas take turns; beyond this they only get in the way.

LEAST_CPUS = 0.001
# Ray reserves nothing without resources; a replica that asks for none still needs a place.

ROUNDING = 1e-6
# Shares of a GPU that are written as decimals add up to one within this; Ray itself counts in 1e-4.

Replica = tuple[str, int]
"""Model and index."""


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster has in all; `id` is Ray's."""

    name: str
    cpus: float
    gpus: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """What each replica of a model takes. A job needs `least` of them (None: all); the others may come later."""

    model: str
    replicas: int
    cpus: float
    gpus: float
    least: int | None = None

    @classmethod
    def of(cls, spec: ModelSpec) -> Need:
        """The need of one model."""
        cpus = spec.cpus if spec.cpus or spec.gpus else LEAST_CPUS
        return cls(spec.name, spec.replicas, cpus, spec.gpus, spec.least_replicas)

    @property
    def required(self) -> int:
        """Replicas without which the job is refused."""
        return self.replicas if self.least is None else self.least

    def __str__(self) -> str:
        count = f"{self.replicas}" if self.least is None else f"{self.least} to {self.replicas}"
        return f"{self.model}: {count} x ({self.cpus:g} CPUs, {self.gpus:g} GPUs)"


@dataclass(frozen=True, slots=True)
class Slot:
    """Replicas that are placed as one: a single one, or several whose shares make up a GPU."""

    replicas: tuple[Replica, ...]
    cpus: float
    gpus: float
    required: bool

    @property
    def bundle(self) -> dict[str, float]:
        """Its resources as Ray names them."""
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount}

    def beside(self, other: Slot) -> Slot | None:
        """Both on one GPU; None where they do not fit there, or hold replicas of the same model."""
        models = {model for model, _ in self.replicas}
        if self.gpus + other.gpus > 1 + ROUNDING or any(model in models for model, _ in other.replicas):
            return None
        gpus, cpus = min(1.0, self.gpus + other.gpus), self.cpus + other.cpus
        return Slot((*self.replicas, *other.replicas), cpus, gpus, self.required or other.required)


class _Room:
    """What is left of one node while slots are put on it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpus = node.cpus
        whole = int(node.gpus)
        self.gpus = [1.0] * whole + ([node.gpus - whole] if node.gpus > whole else [])
        self.held: Counter[str] = Counter()

    def holds(self, slot: Slot) -> bool:
        return self.cpus >= slot.cpus - ROUNDING and self._choice(slot.gpus) is not None

    def take(self, slot: Slot) -> None:
        self.cpus -= slot.cpus
        share = min(1.0, slot.gpus)
        for gpu in self._choice(slot.gpus) or ():
            self.gpus[gpu] -= share
        self.held.update(model for model, _ in slot.replicas)

    def _choice(self, amount: float) -> list[int] | None:
        """GPUs for so much of them: whole ones that are free, or the fullest one with such a share left."""
        if not amount:
            return []
        least = min(1.0, amount) - ROUNDING
        able = sorted((free, gpu) for gpu, free in enumerate(self.gpus) if free >= least)
        count = math.ceil(amount - ROUNDING)
        return [gpu for _, gpu in able[:count]] if len(able) >= count else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Slots, in the order in which to reserve them, and the node of each; None for one that has no room yet."""

    slots: tuple[Slot, ...]
    nodes: tuple[Node | None, ...]

    @property
    def missing(self) -> Counter[str]:
        """Required replicas without room, by model."""
        without = [slot for slot, node in zip(self.slots, self.nodes, strict=True) if node is None and slot.required]
        return Counter(model for slot in without for model, _ in slot.replicas)


def make_plan(needs: Sequence[Need], nodes: Sequence[Node]) -> Plan:
    """The best plan there is: one that leaves nothing required out, where that can be."""
    plans: list[Plan] = []
    for together, spread in product((True, False), repeat=2):
        plans.append(_arrange(_slots(needs, together), nodes, spread))
        if not plans[-1].missing:
            break
    return min(plans, key=lambda plan: plan.missing.total())


def shortage(needs: Sequence[Need], nodes: Sequence[Node], waited_s: float = 0.0) -> str | None:
    """Why the needs do not fit the nodes, with what was asked and what there is; None where they fit.

    `waited_s` is for how long other nodes were waited for.
    """
    missing = make_plan(needs, nodes).missing
    if not missing:
        return None
    asked = "; ".join(map(str, needs))
    have = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes) or "no nodes"
    what = ", ".join(f"{count} of {model}" for model, count in missing.items())
    advice = "Lower replicas, cpus or gpus of these models, or add nodes; "
    if waited_s > 0:
        advice = f"No node for it came within {waited_s:g} s. {advice}where they come later, raise cluster.wait_s"
    else:
        advice += "where nodes are added when they are asked for, set cluster.wait_s"
    return f"the cluster cannot hold {what}. Asked: {asked}. The nodes have: {have}. {advice}"


def _slots(needs: Sequence[Need], together: bool) -> list[Slot]:
    """Every replica in a slot, shares of GPUs joined where `together`."""
    slots: list[Slot] = []
    for need in sorted(needs, key=lambda need: -need.gpus):
        for index in range(need.replicas):
            slot = Slot(((need.model, index),), need.cpus, need.gpus, index < need.required)
            joined = None
            if together and 0 < need.gpus < 1:
                sharing = ((place, one.beside(slot)) for place, one in enumerate(slots) if 0 < one.gpus < 1)
                joined = next(((place, both) for place, both in sharing if both is not None), None)
            if joined is None:
                slots.append(slot)
            else:
                slots[joined[0]] = joined[1]
    # What is required first, of each model its first replica first; then the largest.
    return sorted(slots, key=lambda slot: (not slot.required, -slot.gpus, -slot.cpus, slot.replicas[0][1]))


def _arrange(slots: Sequence[Slot], nodes: Sequence[Node], spread: bool) -> Plan:
    rooms = [_Room(node) for node in nodes]
    chosen: list[Node | None] = []
    for slot in slots:
        able = [room for room in rooms if room.holds(slot)]
        if not able:
            chosen.append(None)
            continue
        room = min(
            able,
            key=lambda room: (
                sum(room.held[model] for model, _ in slot.replicas) if spread else 0,
                sum(room.gpus),
                room.cpus,
            ),
        )
        room.take(slot)
        chosen.append(room.node)
    return Plan(tuple(slots), tuple(chosen))


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
            size = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
            nodes.append(Node(entry["NodeName"], *size, entry["NodeID"]))
    return nodes
