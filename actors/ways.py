"""Making way: a model that has lost its last room gets that of replicas which other models can do without.

So a job goes on with fewer replicas after it lost a node. Those that left come back when there is room for them again,
which is asked for once the model that needed it is up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from apportion.actors.placement import Need, Slot
from apportion.actors.rooms import Rooms


class Yielding(Protocol):
    """A pool, some of whose replicas may leave."""

    def leave(self, index: int, cause: str) -> None: ...

    def join(self, index: int) -> None: ...


class Ways:
    """Of one job. `pools` and `needs` are by model."""

    def __init__(self, rooms: Rooms, needs: Mapping[str, Need], pools: Mapping[str, Yielding]) -> None:
        self._rooms = rooms
        self._needs = needs
        self._pools = pools
        self._gave: dict[str, Slot] = {}
        """by the model it was given up for"""

    async def make(self, model: str) -> bool:
        """Free room for a model that has none. False where no other can spare any, or one did already."""
        if model in self._gave:
            return False
        slot = self._rooms.spare(self._needs[model], await self._rooms.placed())
        if slot is None:
            return False
        self._gave[model] = slot
        for name, index in slot.replicas:
            self._pools[name].leave(index, f"its room was needed for model {model!r}, which had none left")
        self._rooms.vacate(slot)
        return True

    def settle(self, model: str) -> None:
        """The model is up: those who left for it may come back when there is room. To be told again where Ray fails."""
        slot = self._gave.get(model)
        if slot is None:
            return
        self._rooms.ask(slot)
        del self._gave[model]
        for name, index in slot.replicas:
            self._pools[name].join(index)
