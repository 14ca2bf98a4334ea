"""Training batches of stories: drawn in pools, sorted by length, cut to a constant number of tokens.

Rows are padded on the right, which needs no attention mask under causal attention, and sorting leaves almost no
padding. Pool `k` of a run depends only on the run's name, its seed and `k`, so a resumed run sees the same data.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from apportion.lab.stories import training_stories
from apportion.lab.tokenizer import EOS, PAD, token_id

POOL_STORIES = 2048
# Enough that neighbours in length order differ by a token or two.

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` and next-token `targets`, both `[rows, length]`; targets are IGNORED on the prompt and on padding."""

    tokens: torch.Tensor
    targets: torch.Tensor


def pad_rows(rows: list[tuple[list[int], int]], pad: int) -> Batch:
    """A batch of (token ids, prompt length) rows."""
    length = max(len(ids) for ids, _ in rows) - 1
    tokens = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), IGNORED)
    for index, (ids, prompt) in enumerate(rows):
        whole = torch.tensor(ids)
        tokens[index, : len(ids) - 1] = whole[:-1]
        targets[index, prompt - 1 : len(ids) - 1] = whole[prompt:]
    return Batch(tokens, targets)


def pool_batches(tokenizer: Tokenizer, seed: str, max_ops: int, batch_tokens: int) -> Iterator[Batch]:
    """The batches of one pool, in random order."""
    rng = random.Random(seed)
    stream = training_stories(rng, max_ops)
    stories = [next(stream) for _ in range(POOL_STORIES)]
    prompts = tokenizer.encode_batch([f"{story.problem}\n" for story in stories])
    solutions = tokenizer.encode_batch([f"{story.solution}{EOS}" for story in stories])
    rows = sorted(
        ((prompt.ids + solution.ids, len(prompt.ids)) for prompt, solution in zip(prompts, solutions, strict=True)),
        key=lambda row: len(row[0]),
    )
    pad = token_id(tokenizer, PAD)
    groups: list[list[tuple[list[int], int]]] = [[]]
    for row in rows:
        if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    for group in groups:
        yield pad_rows(group, pad)
