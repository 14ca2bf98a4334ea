"""The decode loop of the embedded engine: sequences that come and go in one batch, a token each a step.

Invariants: live sequences are the slots [0, live); all state of a sequence lies in its slot and moves with it. A
prompt is run once up to its last token (`prefill`) and copied to each of its sequences, whose first step reads that
last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.functional import pad

from apportion.actors.kv import LENGTH_STEP, Known, Layers, SlotCache
from apportion.actors.passes import Pass
from apportion.actors.sampling import draw, uniform

SEED, LAST, LENGTH, DRAWN, LIMIT, KIND = range(6)
STATISTICS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One sequence to write. `kind` is its row of the stop table, `limit` the most tokens it may draw."""

    owner: Any
    index: int
    seed: int
    temperature: float
    top_p: float
    limit: int
    kind: int


class Decoder:
    """A causal model, its slots, and one step of all live sequences."""

    def __init__(self, model: Any, additive_mask: bool) -> None:
        self._model = model
        self._device: torch.device = model.device
        self._additive_mask = additive_mask
        self._reset()

    def _reset(self) -> None:
        """No sequences, and no room for any."""
        self._cache = SlotCache(self._model.config.get_text_config(decoder=True).num_hidden_layers, self._device)
        self.rows: list[Row] = []
        self._longest = 0
        self._heated = self._cut = False
        self._numbers = torch.zeros(KIND + 1, 0, dtype=torch.long, device=self._device)
        self._shapes = torch.zeros(2, 0, device=self._device)
        self._sums = torch.zeros(0, STATISTICS, device=self._device)
        self._history = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._every = torch.arange(0, device=self._device)
        self._positions = torch.arange(0, device=self._device)

    def _grow(self, slots: int, length: int) -> None:
        """Enlarge the state tensors, keeping what is in them."""
        more = slots - self._numbers.shape[1]
        self._numbers = pad(self._numbers, (0, more))
        self._shapes = pad(self._shapes, (0, more))
        self._sums = pad(self._sums, (0, 0, 0, more))
        self._history = pad(self._history, (0, length - self._history.shape[1], 0, more))
        self._every = torch.arange(slots, device=self._device)
        self._positions = torch.arange(length, device=self._device)

    @property
    def live(self) -> int:
        """Sequences that run."""
        return len(self.rows)

    def prefill(self, prompts: Sequence[Sequence[int]], known: Sequence[Known]) -> list[Layers]:
        """Run prompts up to their last token, in one forward pass; keys and values of each.

        `known` gives for each prompt how many of its tokens were run before, and their keys and values.
        """
        run = Pass.of([prompt[:-1] for prompt in prompts], known, self._device)
        self._model(**run.inputs(self._mask), logits_to_keep=1)
        return run.layers()

    def look(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[float]], list[Layers]]:
        """Run whole prompts in one forward pass: the last hidden state at the end of each, rounded to 16-bit floats,
        and the keys and values of all but its last token."""
        run = Pass.of(prompts, [(0, ())] * len(prompts), self._device)
        states = self._model.base_model(**run.inputs(self._mask)).last_hidden_state
        last = states[torch.arange(len(prompts)), torch.tensor(run.new) - 1]
        reach = torch.finfo(torch.float16).max
        vectors: list[list[float]] = last.float().clamp(-reach, reach).half().float().tolist()
        cut = [tuple((k[:, :-1], v[:, :-1]) for k, v in own) for own in run.layers()]
        return vectors, cut

    def _mask(self, attends: torch.Tensor) -> torch.Tensor:
        """A mask as the model's attention takes it, from one that is True where a query attends."""
        if not self._additive_mask:
            return attends
        dtype = self._model.dtype
        floor = torch.finfo(dtype).min
        return torch.zeros(attends.shape, dtype=dtype, device=self._device).masked_fill(~attends, floor)

    def place(self, prompt: Sequence[int], layers: Layers, rows: Sequence[Row]) -> None:
        """Begin sequences that share a prompt."""
        live, end = self.live, self.live + len(rows)
        length = len(prompt) - 1
        reach = max(self._longest, length) + LENGTH_STEP // 2
        self._cache.reserve(end, reach, layers, live)
        if end > self._numbers.shape[1] or self._cache.length > self._history.shape[1]:
            self._grow(self._cache.slots, self._cache.length)
        self._cache.place(slice(live, end), layers)
        values = [[row.seed, prompt[-1], length, 0, row.limit, row.kind] for row in rows]
        self._numbers[:, live:end] = torch.tensor(values, dtype=torch.long).T.to(self._device)
        shapes = [[row.temperature, row.top_p] for row in rows]
        self._shapes[:, live:end] = torch.tensor(shapes).T.to(self._device)
        self._sums[live:end] = 0.0
        if not live:
            self._heated = self._cut = False
        self._heated |= any(row.temperature != 1.0 for row in rows)
        self._cut |= any(row.top_p < 1.0 for row in rows)
        self.rows.extend(rows)
        self._longest = max(self._longest, length)

    def step(self, stop_table: torch.Tensor) -> list[int]:
        """Draw one token a sequence; the slots whose last token or length asks to be looked at.

        `stop_table` is bool [kinds, vocabulary].
        """
        live = self.live
        numbers = self._numbers[:, :live]
        lengths = numbers[LENGTH]
        logits = self._forward(numbers[LAST], lengths)
        noise = uniform(numbers[SEED], numbers[DRAWN])
        temperature, top_p = self._shapes[:, :live]
        tokens, statistics = draw(logits, noise, temperature, top_p, self._heated, self._cut)
        self._sums[:live] += statistics
        self._history[self._every[:live], numbers[DRAWN]] = tokens
        numbers[LAST] = tokens
        numbers[LENGTH : DRAWN + 1] += 1
        self._longest += 1
        flagged = stop_table[numbers[KIND], tokens] | (numbers[DRAWN] >= numbers[LIMIT])
        found: list[int] = flagged.nonzero()[:, 0].tolist()
        return found

    def _forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits float32 [live, vocabulary] of the token after `tokens`, which stand at positions `lengths`."""
        live, reach = len(tokens), self._longest + 1
        if reach > self._cache.length:
            self._cache.reserve(
                live, reach, tuple((layer.keys[0], layer.values[0]) for layer in self._cache.layers), live
            )
            self._grow(self._cache.slots, self._cache.length)
        self._cache.point(self._every[:live], lengths, reach)
        mask = self._mask((self._positions[:reach] <= lengths[:, None])[:, None, None, :])
        output = self._model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def written(self, slot: int) -> list[int]:
        """The tokens a sequence has drawn."""
        tokens: list[int] = self._history[slot, : int(self._numbers[DRAWN, slot])].tolist()
        return tokens

    def statistics(self, slot: int) -> list[float]:
        """Sums over its tokens of log-probability, entropy and self-certainty."""
        sums: list[float] = self._sums[slot].tolist()
        return sums

    def keep(self, slot: int) -> Layers:
        """Keys and values of a sequence up to its last token, which has not been run."""
        return self._cache.read(slot, int(self._numbers[LENGTH, slot]))

    def remove(self, slots: Sequence[int]) -> None:
        """End sequences; the last live ones move into their slots."""
        gone = set(slots)
        live = self.live - len(gone)
        targets = sorted(slot for slot in gone if slot < live)
        sources = [slot for slot in range(live, self.live) if slot not in gone]
        if targets:
            target, source = self._every[targets], self._every[sources]
            self._cache.move(source, target, self._longest)
            self._numbers[:, target] = self._numbers[:, source]
            self._shapes[:, target] = self._shapes[:, source]
            self._sums[target] = self._sums[source]
            self._history[target] = self._history[source]
            for slot, origin in zip(targets, sources, strict=True):
                self.rows[slot] = self.rows[origin]
        del self.rows[live:]
        self._longest = int(self._numbers[LENGTH, :live].max()) if live else 0

    def clear(self) -> None:
        """End every sequence and free its memory; also after an error that left slots half made."""
        self._reset()
