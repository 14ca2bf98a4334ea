"""One forward pass over sequences of different lengths, some of whose beginnings were run before.

Sequences are padded on the right, which needs no mask under causal attention: what padding computes is never read.
Where there is a past, a mask leaves out its padding, and positions go on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers import DynamicCache

from apportion.actors.kv import Known, Layers, join, split, stack

Mask = Callable[[torch.Tensor], torch.Tensor]
"""from a mask that is True where a query attends, to one as the model's attention takes it"""


@dataclass(frozen=True, slots=True)
class Pass:
    """`tokens` [sequences, width] from where each was known; `past` positions came before, padding included."""

    tokens: torch.Tensor
    cache: Any
    past: int
    begun: list[int]
    new: list[int]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], known: Sequence[Known], device: torch.device) -> Self:
        """Prepare a pass over what is not `known` of the sequences."""
        begun = [length for length, _ in known]
        new = [len(sequence) - length for sequence, length in zip(sequences, begun, strict=True)]
        # A sequence with nothing to run rides along as padding, so that shapes are known.
        tokens = torch.zeros(len(sequences), max(1, *new), dtype=torch.long)
        for row, sequence in enumerate(sequences):
            tokens[row, : new[row]] = torch.tensor(sequence[begun[row] :], dtype=torch.long)
        cache, past = DynamicCache(), max(begun)
        if past:
            for index, (keys, values) in enumerate(stack([layers for _, layers in known], past)):
                cache.update(keys, values, index)
        return cls(tokens.to(device), cache, past, begun, new)

    def inputs(self, mask: Mask) -> dict[str, Any]:
        """The arguments of the model's forward method."""
        given = {"input_ids": self.tokens, "past_key_values": self.cache, "use_cache": True}
        if not self.past:
            return given
        device, (rows, width) = self.tokens.device, self.tokens.shape
        begun = torch.tensor(self.begun, device=device)
        steps = torch.arange(width, device=device)
        old = (torch.arange(self.past, device=device) < begun[:, None])[:, None, None, :]
        own = (steps <= steps[:, None])[None, None]
        attends = torch.cat((old.expand(rows, 1, width, -1), own.expand(rows, 1, width, -1)), dim=-1)
        return {**given, "attention_mask": mask(attends), "position_ids": begun[:, None] + steps}

    def layers(self) -> list[Layers]:
        """After the forward pass: keys and values of each whole sequence."""
        if not self.past:
            return split(self.cache, self.new)
        return join(self.cache, self.past, self.begun, self.new)
