"""Keys and values of the sequences that run: one slot a sequence, written in place.

Slot `i` holds its sequence from position 0 on; live sequences occupy the slots [0, live). transformers' own caches
append by concatenation, which copies everything for each token, and can neither drop nor add a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

LENGTH_STEP = 64
# Slots grow by this many positions, and by half their length, so that copying stays rare.

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""keys and values of one sequence, each [kv heads, positions, width], for every layer"""

Known = tuple[int, Layers]
"""how many tokens of a prompt were run before, and their keys and values; (0, ()) where none were"""


@dataclass(slots=True)
class Cursor:
    """Which slots a step writes to and how far it reads; shared by all layers."""

    rows: torch.Tensor
    lengths: torch.Tensor
    live: int = 0
    reach: int = 0


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [slots, kv heads, positions, width]."""

    def __init__(self, cursor: Cursor) -> None:
        super().__init__()
        self.cursor = cursor
        self.keys: Any = None
        self.values: Any = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Slots are allocated when sequences are placed, never by a forward pass."""
        raise RuntimeError("a step ran before any sequence was placed")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one position a live sequence and return what the step attends to."""
        cursor = self.cursor
        self.keys[cursor.rows, :, cursor.lengths] = key_states[:, :, 0]
        self.values[cursor.rows, :, cursor.lengths] = value_states[:, :, 0]
        return self.keys[: cursor.live, :, : cursor.reach], self.values[: cursor.live, :, : cursor.reach]

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self.cursor.reach, 0

    def get_seq_length(self) -> int:
        """Positions before the one a step writes."""
        return max(0, self.cursor.reach - 1)

    def get_max_length(self) -> int:
        """Slots grow without bound."""
        return -1

    get_max_cache_shape = get_max_length

    def place(self, rows: slice, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Copy a prompt [kv heads, positions, width] into slots."""
        self.keys[rows, :, : keys.shape[1]] = keys
        self.values[rows, :, : values.shape[1]] = values

    def move(self, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copy slots over others."""
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def resize(self, slots: int, length: int, like: tuple[torch.Tensor, torch.Tensor], keep: int) -> None:
        """Reallocate, keeping the first `keep` slots; `like` gives shape and type before the first allocation."""
        grown = []
        for old, sample in zip((self.keys, self.values), like, strict=True):
            heads, _, width = sample.shape
            # Zeros: what lies behind a mask is multiplied by 0, and 0 x NaN is NaN.
            new = torch.zeros(slots, heads, length, width, dtype=sample.dtype, device=sample.device)
            if keep:
                new[:keep, :, : old.shape[2]] = old[:keep]
            grown.append(new)
        self.keys, self.values = grown
        self.is_initialized = True


class SlotCache(Cache):
    """All layers' slots."""

    def __init__(self, layers: int, device: torch.device) -> None:
        self.cursor = Cursor(torch.zeros(0, dtype=torch.long, device=device), torch.zeros(0, device=device))
        self.slots = 0
        self.length = 0
        super().__init__(layers=[SlotLayer(self.cursor) for _ in range(layers)])

    def point(self, rows: torch.Tensor, lengths: torch.Tensor, reach: int) -> None:
        """Aim the next forward pass: sequence `i` writes position `lengths[i]`, all read below `reach`."""
        self.cursor.rows, self.cursor.lengths = rows, lengths
        self.cursor.live, self.cursor.reach = len(rows), reach

    def reserve(self, slots: int, length: int, like: Layers, keep: int) -> None:
        """Make room for `slots` sequences of `length` positions; the first `keep` slots are kept."""
        if slots <= self.slots and length <= self.length:
            return
        if length > self.length:
            length = max(length, self.length * 3 // 2)
            self.length = -(-length // LENGTH_STEP) * LENGTH_STEP
        self.slots = max(slots, self.slots * 3 // 2) if slots > self.slots else self.slots
        for layer, sample in zip(self.layers, like, strict=True):
            layer.resize(self.slots, self.length, sample, keep)

    def place(self, rows: slice, prompt: Layers) -> None:
        """Copy one prompt into several slots."""
        for layer, (keys, values) in zip(self.layers, prompt, strict=True):
            layer.place(rows, keys, values)

    def move(self, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copy slots `source` over slots `target`, `length` positions of each."""
        for layer in self.layers:
            layer.move(source, target, length)

    def read(self, slot: int, length: int) -> Layers:
        """A copy of the first `length` positions of one slot."""
        return tuple(
            (layer.keys[slot, :, :length].clone(), layer.values[slot, :, :length].clone()) for layer in self.layers
        )


def split(cache: Cache, lengths: Sequence[int]) -> list[Layers]:
    """The sequences of a right-padded forward pass, each cut to its length (views, not copies)."""
    return [
        tuple((layer.keys[row, :, :length], layer.values[row, :, :length]) for layer in cache.layers)
        for row, length in enumerate(lengths)
    ]


def stack(pasts: Sequence[Layers], length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sequences run before as one batch a layer, [sequences, kv heads, length, width], zeros on the right."""
    some = next(layers for layers in pasts if layers)
    batch = []
    for index, samples in enumerate(some):
        padded = [sample.new_zeros(len(pasts), sample.shape[0], length, sample.shape[2]) for sample in samples]
        for row, layers in enumerate(pasts):
            for target, part in zip(padded, layers[index] if layers else (), strict=False):
                target[row, :, : part.shape[1]] = part
        batch.append((padded[0], padded[1]))
    return batch


def join(cache: Cache, past: int, begun: Sequence[int], new: Sequence[int]) -> list[Layers]:
    """The sequences of a pass that continued others: each one's `begun` old positions, then its `new` ones."""

    def whole(part: torch.Tensor, row: int) -> torch.Tensor:
        return torch.cat((part[row, :, : begun[row]], part[row, :, past : past + new[row]]), dim=1)

    return [
        tuple((whole(layer.keys, row), whole(layer.values, row)) for layer in cache.layers) for row in range(len(new))
    ]
