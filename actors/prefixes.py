"""Sequences that were run before: their keys and values (and a scorer's scores), kept while there is room.

Asked again, a prompt is not run again; a beam search, whose every round continues what the last one wrote, pays only
for new tokens. Entries are whole sequences, and the least recently used go first. They are found where they begin a
prompt, or, by `find_shared`, where a prompt begins as they do: what questions about one problem, or prompts under one
system message, have in common is not read again by those that come later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from apportion.actors.kv import Known, Layers

BLOCK = 16
"""Tokens by which beginnings that two prompts share are found."""

WORTH = 4
"""Such a beginning is used where it is at least this part of a prompt: to continue takes a mask and copies."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A sequence, its keys and values, and the scores of the tags in it."""

    tokens: tuple[int, ...]
    layers: Layers
    scores: tuple[float, ...] = ()

    @property
    def known(self) -> Known:
        """As a pass is told of it."""
        return len(self.tokens), self.layers

    def beginning(self, length: int) -> Kept:
        """Its first `length` tokens, without scores."""
        parts = tuple((keys[:, :length], values[:, :length]) for keys, values in self.layers)
        return Kept(self.tokens[:length], parts)


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
        self._entries: OrderedDict[int, Kept] = OrderedDict()
        self._blocks: dict[int, int] = {}
        """by the hash of a beginning of whole blocks, the entry that was used last of those with it"""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tokens: Sequence[int]) -> Kept | None:
        """The longest kept sequence that `tokens` begins with; None where there is none."""
        return self._whole(tokens, _hashes(tokens)) if self._entries else None

    def find_shared(self, tokens: Sequence[int]) -> Kept | None:
        """What `find` gives, or a longer beginning of a kept sequence that `tokens` share with it, without scores.

        Shared are at least BLOCK tokens, and a WORTH-th of all.
        """
        if not self._entries:
            return None
        hashes = _hashes(tokens)
        whole = self._whole(tokens, hashes)
        least = max(len(whole.tokens) if whole is not None else 0, len(tokens) // WORTH)
        for length in range(len(tokens) // BLOCK * BLOCK, least, -BLOCK):
            key = self._blocks.get(hashes[length - 1])
            if key is not None and (kept := self._entries[key]).tokens[:length] == tuple(tokens[:length]):
                self._use(key, _hashes(kept.tokens))
                pairs = zip(kept.tokens[length:], tokens[length:], strict=False)
                more = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
                return kept.beginning(length + more)
        return whole

    def keep(self, tokens: Sequence[int], layers: Layers, scores: tuple[float, ...] = ()) -> None:
        """Remember a sequence. Its tensors are copied where they are parts of larger ones, which would stay too."""
        size = _size(layers)
        if not tokens or size > self._capacity:
            return
        hashes = _hashes(tokens)
        key = hashes[-1]
        if key in self._entries:
            self._use(key, hashes)
            return
        owned = tuple((_own(keys), _own(values)) for keys, values in layers)
        self._entries[key] = Kept(tuple(tokens), owned, scores)
        self._use(key, hashes)
        self.size_bytes += size
        while self.size_bytes > self._capacity:
            gone, dropped = self._entries.popitem(last=False)
            self.size_bytes -= _size(dropped.layers)
            for block in _hashes(dropped.tokens)[BLOCK - 1 :: BLOCK]:
                if self._blocks.get(block) == gone:
                    del self._blocks[block]

    def _whole(self, tokens: Sequence[int], hashes: Sequence[int]) -> Kept | None:
        for length in range(len(hashes), 0, -1):
            kept = self._entries.get(key := hashes[length - 1])
            if kept is not None and kept.tokens == tuple(tokens[:length]):
                self._use(key, hashes[:length])
                return kept
        return None

    def _use(self, key: int, hashes: Sequence[int]) -> None:
        """The entry is the last to go, and the one that its beginnings are found by."""
        self._entries.move_to_end(key)
        self._blocks.update(dict.fromkeys(hashes[BLOCK - 1 :: BLOCK], key))

    @property
    def open(self) -> bool:
        """Whether anything is kept at all."""
        return self._capacity > 0
