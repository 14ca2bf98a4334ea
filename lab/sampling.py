"""Fast sampling of many completions of many prompts: `sample(network, prompts, samples, ...)`.

The prompts of a chunk are run once; each prompt's samples attend to its one copy of keys and values as a single
matrix product, and to their own few tokens in a preallocated cache. Rows are laid out `[prompts, samples]`; finished
ones are dropped by shrinking every prompt to the most samples any prompt still has running. Temperature sampling
without truncation, in float32. Invariant: a chunk's samples depend on the model, its prompts and its seed alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from apportion.lab.network import Network
from apportion.lab.tokenizer import EOS, token_id

MAX_TOKENS = 256
# The longest true solution has under 200 tokens.

CHUNK_ROWS = 2048
# Sequences decoded together: past this the matrix products gain little and the cache outgrows memory's speed.

CACHE_TOKENS = 48

SHRINK_BELOW = 0.85
# Compacting copies the cache, so it waits until it saves at least this share of the rows.


@dataclass(slots=True)
class _Prefix:
    """The prompts' keys and values, per layer `[prompts, kv_heads, length, head_dim]`, and what pads them."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    padding: torch.Tensor
    lengths: torch.Tensor
    logits: torch.Tensor


def _prefill(network: Network, prompts: list[list[int]], pad: int) -> _Prefix:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    tokens = torch.tensor([prompt + [pad] * (longest - len(prompt)) for prompt in prompts])
    hidden = network.embedding[tokens].flatten(0, 1)
    positions = torch.arange(longest).repeat(len(prompts))
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    shape = (len(prompts), longest, network.kv_heads)
    for layer in network.layers:
        query, key, value = network.project(layer, hidden, positions)
        key = key.reshape(*shape, network.head_dim).transpose(1, 2).contiguous()
        value = value.reshape(*shape, network.head_dim).transpose(1, 2).contiguous()
        query = query.reshape(len(prompts), longest, network.heads, network.head_dim).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        hidden = network.finish_layer(layer, hidden, mixed.transpose(1, 2).reshape(len(hidden), -1))
        keys.append(key)
        values.append(value)
    last = hidden.view(len(prompts), longest, -1)[torch.arange(len(prompts)), lengths - 1]
    padding = torch.zeros(len(prompts), 1, 1, longest)
    padding.masked_fill_(torch.arange(longest) >= lengths[:, None, None, None], float("-inf"))
    return _Prefix(keys, values, padding, lengths, network.logits(last))


class _Cache:
    """The samples' own keys and values, per layer `[prompts, samples, kv_heads, capacity, head_dim]`."""

    def __init__(self, network: Network, prompts: int, samples: int) -> None:
        self.capacity = CACHE_TOKENS
        shape = (prompts, samples, network.kv_heads, self.capacity, network.head_dim)
        self.keys = [torch.empty(shape) for _ in network.layers]
        self.values = [torch.empty(shape) for _ in network.layers]

    def grow(self) -> None:
        """Make room for CACHE_TOKENS more: a cache no longer than needed is read faster."""
        for stored in (self.keys, self.values):
            for index, old in enumerate(stored):
                room = torch.empty(*old.shape[:3], CACHE_TOKENS, old.shape[4])
                stored[index] = torch.cat([old, room], dim=3)
        self.capacity += CACHE_TOKENS

    def select(self, prompts: torch.Tensor, rows: torch.Tensor, used: int) -> None:
        """Keep rows `[prompts, samples]` of the kept prompts; only the first `used` tokens are copied."""
        for stored in (self.keys, self.values):
            for index, old in enumerate(stored):
                new = torch.empty(*rows.shape, *old.shape[2:])
                new[:, :, :, :used] = old[prompts[:, None], rows, :, :used]
                stored[index] = new


def _attend(
    network: Network, prefix: _Prefix, cache: _Cache, index: int, query: torch.Tensor, used: int
) -> torch.Tensor:
    prompts, samples = cache.keys[index].shape[:2]
    kv_heads, group, head_dim = query.shape[1:]
    query = query * head_dim**-0.5
    shared = (
        query.view(prompts, samples, kv_heads, group, head_dim)
        .transpose(1, 2)
        .reshape(prompts, kv_heads, samples * group, head_dim)
    )
    shared_scores = shared @ prefix.keys[index].transpose(-1, -2) + prefix.padding
    length = shared_scores.shape[-1]
    keys = cache.keys[index].flatten(0, 2)[:, :used]
    values = cache.values[index].flatten(0, 2)[:, :used]
    own_scores = torch.bmm(query.reshape(-1, group, head_dim), keys.transpose(1, 2))
    shared_scores = shared_scores.view(prompts, kv_heads, samples, group, length).transpose(1, 2)
    own_scores = own_scores.view(prompts, samples, kv_heads, group, used)
    weights = torch.cat([shared_scores, own_scores], dim=-1).softmax(dim=-1)
    shared_weights = weights[..., :length].transpose(1, 2).reshape(prompts, kv_heads, samples * group, length)
    mixed = (shared_weights @ prefix.values[index]).view(prompts, kv_heads, samples, group, head_dim).transpose(1, 2)
    own_weights = weights[..., length:].reshape(-1, group, used)
    return (mixed + torch.bmm(own_weights, values).view(mixed.shape)).reshape(prompts * samples, -1)


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    # One uniform number a row against the cumulative distribution: a tenth of the cost of noise for every token.
    cumulative = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
    aim = torch.rand(len(logits), 1, generator=generator) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, aim, right=True).flatten().clamp_(max=logits.shape[-1] - 1)


@torch.inference_mode()
def sample_chunk(
    network: Network,
    prompts: list[list[int]],
    samples: int,
    *,
    temperature: float,
    max_tokens: int,
    eos: int,
    seed: int,
) -> list[list[list[int]]]:
    """Token ids, eos included where reached, of `samples` completions of each prompt."""
    generator = torch.Generator().manual_seed(seed)
    prefix = _prefill(network, prompts, pad=eos)
    cache = _Cache(network, len(prompts), samples)
    written = torch.full((len(prompts), samples, max_tokens), -1, dtype=torch.int32)
    # Where each live row came from: its prompt, and its place among that prompt's samples.
    prompt_of = torch.arange(len(prompts))
    slots = torch.arange(samples).repeat(len(prompts), 1)
    running = torch.ones_like(slots, dtype=torch.bool)
    logits = prefix.logits[:, None].expand(-1, samples, -1).flatten(0, 1)
    for step in range(max_tokens):
        tokens = _draw(logits, temperature, generator).view(slots.shape)
        rows = running.nonzero(as_tuple=True)
        written[prompt_of[rows[0]], slots[rows], step] = tokens[rows].int()
        running &= tokens != eos
        most = int(running.sum(dim=1).max())
        if most == 0 or step + 1 == max_tokens:
            break
        kept = running.any(dim=1).nonzero().flatten()
        if most * len(kept) < SHRINK_BELOW * slots.numel():
            order = running[kept].int().argsort(dim=1, descending=True, stable=True)[:, :most]
            cache.select(kept, order, step)
            prefix = _Prefix(
                [key[kept] for key in prefix.keys],
                [value[kept] for value in prefix.values],
                prefix.padding[kept],
                prefix.lengths[kept],
                prefix.logits,
            )
            prompt_of = prompt_of[kept]
            slots, running, tokens = (whole[kept[:, None], order] for whole in (slots, running, tokens))
        if step == cache.capacity:
            cache.grow()
        hidden = network.embedding[tokens.flatten()]
        positions = (prefix.lengths[:, None] + step).expand(slots.shape).flatten()
        for index, layer in enumerate(network.layers):
            query, key, value = network.project(layer, hidden, positions)
            cache.keys[index][:, :, :, step] = key.view(*slots.shape, *key.shape[1:])
            cache.values[index][:, :, :, step] = value.view(*slots.shape, *value.shape[1:])
            mixed = _attend(network, prefix, cache, index, query, step + 1)
            hidden = network.finish_layer(layer, hidden, mixed)
        logits = network.logits(hidden)
    return [[[token for token in row if token >= 0] for row in rows] for rows in written.tolist()]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample: its text without the end mark, its tokens with it, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


def complete(
    network: Network,
    tokenizer: Tokenizer,
    problems: list[str],
    samples: int,
    temperature: float,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> list[list[Completion]]:
    """`samples` completions of each problem, in the problems' order."""
    eos = token_id(tokenizer, EOS)
    prompts = [encoding.ids for encoding in tokenizer.encode_batch([f"{problem}\n" for problem in problems])]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    chunk = max(1, CHUNK_ROWS // samples)
    completions: list[list[Completion]] = [[] for _ in problems]
    for start in range(0, len(order), chunk):
        members = order[start : start + chunk]
        drawn = sample_chunk(
            network,
            [prompts[index] for index in members],
            samples,
            temperature=temperature,
            max_tokens=max_tokens,
            eos=eos,
            seed=seed + start,
        )
        for index, rows in zip(members, drawn, strict=True):
            texts = tokenizer.decode_batch(rows)
            completions[index] = [
                Completion(text, len(row), row[-1] == eos) for text, row in zip(texts, rows, strict=True)
            ]
    return completions
