"""Training batches of stories: drawn in pools, sorted by length, cut to a constant number of tokens.

Rows are padded on the right, which needs no attention mask under causal attention, and sorting leaves almost no
padding. Pool `k` of a run depends only on the run's name, its seed and `k`, so a resumed run sees the same data.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from tokenizers import Tokenizer

from apportion.lab.stories import training_stories
from apportion.lab.tokenizer import EOS, PAD, token_id

POOL_STORIES = 2048
# Enough that neighbours in length order differ by a token or two.

IGNORED = -100

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` and next-token `targets`, both `[rows, length]`; targets are IGNORED on the prompt and on padding."""

    tokens: torch.Tensor
    targets: torch.Tensor


def padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Rows of token ids as one right-padded `[rows, length]` tensor."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in rows])


def grouped(
    rows: Iterable[Row], length: Callable[[Row], int], batch_tokens: int, rng: random.Random
) -> list[list[Row]]:
    """Rows, neighbours of like length, in groups of about `batch_tokens` tokens when padded, in random order."""
    groups: list[list[Row]] = [[]]
    longest = 0
    for row in rows:
        longest = max(longest, length(row))
        if groups[-1] and longest * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
            longest = length(row)
        groups[-1].append(row)
    rng.shuffle(groups)
    return groups


def answer_batches(
    contexts: list[str], answers: list[str], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random
) -> Iterator[Batch]:
    """Every context and its answer in batches, in random order; the loss is on the answers and on how they end."""
    read = tokenizer.encode_batch(contexts)
    written = tokenizer.encode_batch([f"{answer}{EOS}" for answer in answers])
    rows = [(one.ids + other.ids, len(one.ids)) for one, other in zip(read, written, strict=True)]
    pad = token_id(tokenizer, PAD)
    for group in grouped(sorted(rows, key=_length), _length, batch_tokens, rng):
        targets = [[IGNORED] * (prompt - 1) + ids[prompt:] for ids, prompt in group]
        yield Batch(padded([ids[:-1] for ids, _ in group], pad), padded(targets, IGNORED))


def _length(row: tuple[list[int], int]) -> int:
    return len(row[0])


def pool_batches(tokenizer: Tokenizer, seed: str, max_ops: int, batch_tokens: int) -> Iterator[Batch]:
    """The batches of one pool, in random order."""
    rng = random.Random(seed)
    stream = training_stories(rng, max_ops)
    stories = [next(stream) for _ in range(POOL_STORIES)]
    problems, solutions = [f"{story.problem}\n" for story in stories], [story.solution for story in stories]
    return answer_batches(problems, solutions, tokenizer, batch_tokens, rng)
