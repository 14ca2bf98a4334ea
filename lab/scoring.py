"""Scoring every step of many solutions of the same problem, reading the problem once.

The recorded pools have hundreds of solutions a prompt: their tokens attend to one copy of the prompt's keys and values,
and solutions that are the same text are scored once. Agrees with `prm.Scorer`, which scores each on its own.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import padded
from apportion.lab.network import Network
from apportion.lab.tokenizer import PAD, STEP, token_id

ROWS = 64
# Solutions in one pass: their activations still fit the processor's caches.


class PoolScorer:
    """The reward model as plain tensors, one problem at a time."""

    def __init__(self, folder: Path) -> None:
        self.network = Network.load(folder)
        weights = load_file(folder / "model.safetensors")
        self.norm = weights["model.norm.weight"].float()
        self.first, self.first_bias = weights["score.0.weight"].float(), weights["score.0.bias"].float()
        self.second, self.second_bias = weights["score.2.weight"].float(), weights["score.2.bias"].float()
        self.tokenizer = lab_tokenizer.build()
        self.tag = token_id(self.tokenizer, STEP)
        self.pad = token_id(self.tokenizer, PAD)

    @torch.inference_mode()
    def score(self, problem: str, solutions: Sequence[Sequence[str]]) -> list[list[float]]:
        """The score of every step of every solution; a solution has at least one step."""
        prompt = self.tokenizer.encode(f"{problem}\n").ids
        empty = [torch.empty(1, self.network.kv_heads, 0, self.network.head_dim) for _ in self.network.layers]
        _, keys, values = self._run(torch.tensor([prompt]), empty, empty)
        texts = ["".join(f"{step}{STEP}" for step in steps) for steps in solutions]
        distinct = list(dict.fromkeys(texts))
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(distinct)]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found: dict[str, list[float]] = {}
        for start in range(0, len(order), ROWS):
            group = order[start : start + ROWS]
            tokens = padded([ids[index] for index in group], self.pad)
            hidden, _, _ = self._run(tokens, keys, values)
            wanted = tokens == self.tag
            read = self.network.normed(hidden.view(*tokens.shape, -1)[wanted]) * self.norm
            logits = F.linear(F.relu(F.linear(read, self.first, self.first_bias)), self.second, self.second_bias)
            right = logits.softmax(dim=-1)[:, 1].tolist()
            for index, count in zip(group, wanted.sum(dim=1).tolist(), strict=True):
                found[distinct[index]], right = right[:count], right[count:]
        return [found[text] for text in texts]

    def _run(
        self, tokens: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Last hidden states `[rows * length, hidden]` and every layer's keys and values, those given included."""
        rows, length = tokens.shape
        past = keys[0].shape[2]
        network = self.network
        hidden = network.embedding[tokens].flatten(0, 1)
        positions = torch.arange(past, past + length).repeat(rows)
        seen = torch.ones(length, past + length, dtype=torch.bool).tril(past)
        new_keys: list[torch.Tensor] = []
        new_values: list[torch.Tensor] = []
        for layer, old_key, old_value in zip(network.layers, keys, values, strict=True):
            query, key, value = network.project(layer, hidden, positions)
            shape = (rows, length, network.kv_heads, network.head_dim)
            key = torch.cat([old_key.expand(rows, -1, -1, -1), key.reshape(shape).transpose(1, 2)], dim=2)
            value = torch.cat([old_value.expand(rows, -1, -1, -1), value.reshape(shape).transpose(1, 2)], dim=2)
            query = query.reshape(rows, length, network.heads, network.head_dim).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
            hidden = network.finish_layer(layer, hidden, mixed.transpose(1, 2).reshape(len(hidden), -1))
            new_keys.append(key)
            new_values.append(value)
        return hidden, new_keys, new_values
