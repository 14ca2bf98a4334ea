"""Which replica takes a request: the one that holds its prefix, unless that one is far behind.

Pure functions over loads. A prompt's home is chosen by rendezvous hashing (Thaler and Ravishankar 1998), so that a
replica that is lost moves only its own prompts and one that comes back gets exactly those again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from apportion.types import Embed, Generate, Request


def load_of(request: Request) -> int:
    """Sequences a request occupies a replica with."""
    if isinstance(request, Embed):
        return 1
    return max(1, len(request.seeds) if isinstance(request, Generate) else len(request.responses))


def home(affinity: int, replicas: Iterable[int]) -> int:
    """The replica of `replicas` that a prompt belongs to, whatever their loads are."""
    numbers = np.fromiter(replicas, dtype=np.uint64)
    scores = _mixed(_mixed(numbers) ^ _mixed(np.array([affinity], dtype=np.uint64)))
    return int(numbers[scores.argmax()])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each value (the finalizer of splitmix64, Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def choose(own: int, loads: Mapping[int, int], slack: int, avoid: int | None = None) -> int:
    """The replica for a request of a prompt whose home is `own`.

    `loads` maps each replica that can take work to the sequences it has in flight. The home is chosen where it can, and
    has at most `slack` sequences more than the least loaded one, which is else chosen (lowest number on ties). `avoid`
    is chosen only where there is no other.
    """
    if avoid in loads and len(loads) > 1:
        loads = {replica: load for replica, load in loads.items() if replica != avoid}
    if own in loads and loads[own] <= slack:
        return own
    least = min(loads, key=lambda replica: (loads[replica], replica))
    return own if own in loads and loads[own] <= loads[least] + slack else least


class Homes:
    """Remembers prompts' homes among the replicas that are up: a prompt sends many requests."""

    MOST = 1 << 16
    # Prompts remembered: many times those in flight, and a few megabytes.

    def __init__(self) -> None:
        self._replicas: tuple[int, ...] = ()
        self._homes: dict[int, int] = {}

    def of(self, affinity: int, replicas: tuple[int, ...]) -> int:
        """The home of a prompt among the replicas that are up now."""
        if replicas != self._replicas or len(self._homes) >= self.MOST:
            self._replicas = replicas
            self._homes = {}
        found = self._homes.get(affinity)
        if found is None:
            found = self._homes[affinity] = home(affinity, replicas)
        return found
