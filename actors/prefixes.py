"""Prompts and steps that were run before: their keys and values, kept while there is room.

Asked again, a prompt is not run again; a beam search, whose every round continues what the last one wrote, pays only
for new tokens. Entries are whole sequences and are found where they begin a prompt; the least recently used go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from apportion.actors.kv import Layers


def _size(layers: Layers) -> int:
    return sum(part.numel() * part.element_size() for pair in layers for part in pair)


def _own(part: torch.Tensor) -> torch.Tensor:
    alone = part.untyped_storage().nbytes() == part.numel() * part.element_size()
    return part if alone else part.clone()


def _hashes(tokens: Sequence[int]) -> list[int]:
    """A hash of every beginning of `tokens`, the one of the first `n` tokens at place `n - 1`."""
    found: list[int] = []
    value = 0
    for token in tokens:
        value = hash((value, token))
        found.append(value)
    return found


class PrefixCache:
    """Keys and values by token ids, at most `capacity_bytes` of them; 0 keeps nothing."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[int, tuple[tuple[int, ...], Layers]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tokens: Sequence[int]) -> tuple[int, Layers] | None:
        """The longest kept sequence that `tokens` begins with, its length first; None where there is none."""
        if not self._entries:
            return None
        hashes = _hashes(tokens)
        for length in range(len(hashes), 0, -1):
            key = hashes[length - 1]
            entry = self._entries.get(key)
            if entry is not None and len(entry[0]) == length and entry[0] == tuple(tokens[:length]):
                self._entries.move_to_end(key)
                return length, entry[1]
        return None

    def keep(self, tokens: Sequence[int], layers: Layers) -> None:
        """Remember a sequence. Its tensors are copied where they are parts of larger ones, which would stay too."""
        size = _size(layers)
        if not tokens or size > self._capacity:
            return
        key = _hashes(tokens)[-1]
        if key in self._entries:
            self._entries.move_to_end(key)
            return
        self._entries[key] = (tuple(tokens), tuple((_own(keys), _own(values)) for keys, values in layers))
        self.size_bytes += size
        while self.size_bytes > self._capacity:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.size_bytes -= _size(dropped)

    @property
    def open(self) -> bool:
        """Whether anything is kept at all."""
        return self._capacity > 0
