"""Fast sampling of many completions of many prompts: `complete(network, tokenizer, problems, samples, ...)`.

Samples of a prompt that have been equal so far are one row with a count, and a row's next tokens are drawn as often as
it counts: the same distribution as drawing each sample on its own, at the cost of the distinct ones. A small model that
is often sure of the next token is sampled hundreds of times for the price of a few dozen. Temperature sampling without
truncation, in float32. Invariant: a chunk's samples depend on the model, its prompts and its seed alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from apportion.lab.network import Network
from apportion.lab.tokenizer import EOS, token_id

MAX_TOKENS = 256
# The longest true solution has under 200 tokens.

CHUNK_PROMPTS = 64
# Decoded together: enough rows for efficient matrix products, few enough for the cache to fit in memory.

CACHE_TOKENS = 48
CACHE_ROWS = 256
# The cache grows by these: no longer than needed, it is read faster.

HOLES_ALLOWED = 0.2
# Finished rows are computed in vain until a new row takes their place; past this share the cache is compacted.


class _Rows:
    """The distinct unfinished prefixes: their caches, their tokens, and how many samples each stands for.

    Per layer keys and values are `[capacity, kv_heads, tokens, head_dim]`, the prompt's first, padded on the left.
    """

    def __init__(self, network: Network, prompts: list[list[int]], samples: int, pad: int) -> None:
        longest = max(len(prompt) for prompt in prompts)
        self.network = network
        self.lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        blank = torch.arange(longest) < longest - self.lengths[:, None]
        self.bias = torch.zeros(len(prompts), 1, longest).masked_fill_(blank[:, None], float("-inf"))
        self.longest = longest
        self.prompt = torch.arange(len(prompts))
        self.count = torch.full((len(prompts),), samples)
        self.history = torch.zeros(len(prompts), MAX_TOKENS, dtype=torch.long)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.logits = self._prefill(tokens, blank)

    def _prefill(self, tokens: torch.Tensor, blank: torch.Tensor) -> torch.Tensor:
        network, (prompts, longest) = self.network, tokens.shape
        hidden = network.embedding[tokens].flatten(0, 1)
        positions = (torch.arange(longest) - (longest - self.lengths[:, None])).clamp_(min=0).flatten()
        # A blank position attends to itself, so that its softmax is defined; nothing reads it.
        causal = torch.ones(longest, longest, dtype=torch.bool).tril()
        mask = (causal & ~blank[:, None]) | torch.eye(longest, dtype=torch.bool)
        for layer in network.layers:
            query, key, value = network.project(layer, hidden, positions)
            shape = (prompts, longest, -1, network.head_dim)
            query, key, value = (part.reshape(shape).transpose(1, 2) for part in (query, key, value))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None], enable_gqa=True)
            hidden = network.finish_layer(layer, hidden, mixed.transpose(1, 2).reshape(len(hidden), -1))
            for stored, part in ((self.keys, key), (self.values, value)):
                room = torch.empty(prompts, network.kv_heads, CACHE_TOKENS, network.head_dim)
                stored.append(torch.cat([part, room], dim=2))
        return network.logits(hidden.view(prompts, longest, -1)[:, -1])

    def branch(self, parents: torch.Tensor, tokens: torch.Tensor, counts: torch.Tensor, step: int) -> None:
        """Replace the rows by their children; `parents` is sorted, and a row without a child is finished."""
        rows = len(self.count)
        first = torch.ones_like(parents, dtype=torch.bool)
        first[1:] = parents[1:] != parents[:-1]
        slots = torch.empty_like(parents)
        slots[first] = parents[first]
        free = torch.ones(rows, dtype=torch.bool)
        free[parents] = False
        holes = free.nonzero().flatten()
        extra = int((~first).sum())
        appended = torch.arange(rows, rows + max(0, extra - len(holes)))
        slots[~first] = torch.cat([holes[:extra], appended])
        self._copy_rows(parents[~first], slots[~first], rows + len(appended))
        self.count.zero_()
        self.count[slots] = counts
        self.history[slots, step] = tokens
        if len(holes) - extra > HOLES_ALLOWED * rows:
            self._compact()

    def _copy_rows(self, sources: torch.Tensor, targets: torch.Tensor, rows: int) -> None:
        grown = rows - len(self.count)
        self.prompt, self.count, self.history = (
            F.pad(whole, (0, 0) * (whole.dim() - 1) + (0, grown)) for whole in (self.prompt, self.count, self.history)
        )
        self.prompt[targets] = self.prompt[sources]
        self.history[targets] = self.history[sources]
        for stored in (self.keys, self.values):
            for index, old in enumerate(stored):
                if rows > len(old):
                    room = torch.empty(rows - len(old) + CACHE_ROWS, *old.shape[1:])
                    stored[index] = torch.cat([old, room])
                stored[index][targets] = stored[index][sources]

    def _compact(self) -> None:
        kept = self.count.nonzero().flatten()
        self.prompt, self.count, self.history = self.prompt[kept], self.count[kept], self.history[kept]
        for stored in (self.keys, self.values):
            for index, old in enumerate(stored):
                stored[index] = old[kept]

    def advance(self, step: int) -> None:
        """Read each row's token of this step and compute its next logits."""
        network, rows, place = self.network, len(self.count), self.longest + step
        if place == self.keys[0].shape[2]:
            for stored in (self.keys, self.values):
                for index, old in enumerate(stored):
                    stored[index] = torch.cat([old, torch.empty(*old.shape[:2], CACHE_TOKENS, old.shape[3])], dim=2)
        hidden = network.embedding[self.history[:, step]]
        positions = self.lengths[self.prompt] + step
        bias = F.pad(self.bias[self.prompt], (0, step + 1)).repeat_interleave(network.kv_heads, dim=0)
        for index, layer in enumerate(network.layers):
            query, key, value = network.project(layer, hidden, positions)
            self.keys[index][:rows, :, place] = key
            self.values[index][:rows, :, place] = value
            keys = self.keys[index][:rows].flatten(0, 1)[:, : place + 1]
            values = self.values[index][:rows].flatten(0, 1)[:, : place + 1]
            scores = torch.baddbmm(bias, query.flatten(0, 1), keys.transpose(1, 2), alpha=network.head_dim**-0.5)
            mixed = torch.bmm(scores.softmax(dim=-1), values)
            hidden = network.finish_layer(layer, hidden, mixed.reshape(rows, -1))
        self.logits = network.logits(hidden)


def _draw(
    logits: torch.Tensor, counts: torch.Tensor, temperature: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(row, token, how often) of the tokens drawn, each row as often as it counts, in order of row."""
    rows, vocabulary = logits.shape
    owners = torch.arange(rows).repeat_interleave(counts)
    if temperature == 0:
        drawn = owners * vocabulary + logits.argmax(dim=-1)[owners]
    else:
        # All rows' cumulative distributions end to end, the k-th from k to k + 1: one search draws every sample.
        cumulative = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
        cumulative = cumulative / cumulative[:, -1:] + torch.arange(rows)[:, None]
        aims = torch.rand(len(owners), generator=generator, dtype=torch.float64) + owners
        drawn = torch.searchsorted(cumulative.flatten(), aims, right=True)
        drawn = torch.minimum(torch.maximum(drawn, owners * vocabulary), (owners + 1) * vocabulary - 1)
    cells, how_often = torch.unique(drawn, return_counts=True)
    return cells // vocabulary, cells % vocabulary, how_often


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
) -> list[list[tuple[int, ...]]]:
    """Token ids, eos included where reached, of `samples` completions of each prompt."""
    generator = torch.Generator().manual_seed(seed)
    rows = _Rows(network, prompts, samples, pad=eos)
    drawn: list[list[tuple[int, ...]]] = [[] for _ in prompts]
    for step in range(max_tokens):
        parents, tokens, counts = _draw(rows.logits, rows.count, temperature, generator)
        ended = (tokens == eos) if step + 1 < max_tokens else torch.ones_like(tokens, dtype=torch.bool)
        done = zip(parents[ended].tolist(), tokens[ended].tolist(), counts[ended].tolist(), strict=True)
        for parent, token, count in done:
            ids = (*rows.history[parent, :step].tolist(), token)
            drawn[int(rows.prompt[parent])] += [ids] * count
        if bool(ended.all()):
            break
        rows.branch(parents[~ended], tokens[~ended], counts[~ended], step)
        rows.advance(step)
    # Equal samples come out together; the order of independent ones must say nothing.
    return [[done[place] for place in torch.randperm(samples, generator=generator).tolist()] for done in drawn]


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
    completions: list[list[Completion]] = [[] for _ in problems]
    for start in range(0, len(order), CHUNK_PROMPTS):
        members = order[start : start + CHUNK_PROMPTS]
        chunk = sample_chunk(
            network,
            [prompts[index] for index in members],
            samples,
            temperature=temperature,
            max_tokens=max_tokens,
            eos=eos,
            seed=seed + start,
        )
        for index, rows in zip(members, chunk, strict=True):
            known = {ids: Completion(tokenizer.decode(ids), len(ids), ids[-1] == eos) for ids in set(rows)}
            completions[index] = [known[ids] for ids in rows]
    return completions
