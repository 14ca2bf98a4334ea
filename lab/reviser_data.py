"""What the reviser is trained on: a problem, up to four attempts of `lab:small`, and the story's solution.

Snell et al. 2024 (arXiv 2408.03314), section 6: the attempts are wrong ones, drawn at random but for the order, which
puts the one nearest to the solution by edit distance last, so that it is worth starting from. A row's text is the
conversation that `revise` makes of it with an empty instruction: the problem, a newline, each attempt and a newline.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import Batch, answer_batches
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import draw_stories
from apportion.lab.runs import WEIGHTS, kept_rows, origin
from apportion.lab.sampling import complete

MAX_ATTEMPTS: Final = 4
# In context, when trained and when used (Snell et al.).

TEMPERATURE: Final = 0.8

LONGEST_ATTEMPT: Final = 200
# Tokens: more than any solution has; with four of them the longest story still fits the reviser's context.


@dataclass(frozen=True, slots=True)
class Tried:
    """A story's problem and solution, and the distinct wrong attempts at it."""

    problem: str
    solution: str
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence: the loss is on the solution only."""

    problem: str
    attempts: tuple[str, ...]
    solution: str

    @property
    def context(self) -> str:
        """What stands before the solution."""
        return conversation_text(self.problem, self.attempts)


def conversation_text(problem: str, attempts: Sequence[str]) -> str:
    """What the chat template makes of a problem and the attempts at it, each answered by an empty user turn."""
    return "".join(f"{part}\n" for part in (problem, *attempts))


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein's distance between two sequences of token ids."""
    wide = np.asarray(other)
    places = np.arange(len(wide) + 1)
    row = places.copy()
    for at, token in enumerate(one):
        changed = np.empty_like(row)
        changed[0] = at + 1
        changed[1:] = np.minimum(row[1:] + 1, row[:-1] + (wide != token))
        # Insertions run along the row: each costs its distance from where it starts.
        row = np.minimum.accumulate(changed - places) + places
    return int(row[-1])


def make_row(tried: Tried, tokenizer: Tokenizer, rng: random.Random, right_share: float) -> Row:
    """0 to 4 wrong attempts, as many as there are, the nearest last; by `right_share` the last one is right instead."""
    wanted = rng.randint(0, MAX_ATTEMPTS)
    attempts = rng.sample(tried.wrong, min(wanted, len(tried.wrong)))
    if len(attempts) > 1:
        truth = tokenizer.encode(tried.solution).ids
        nearest = min(attempts, key=lambda text: edit_distance(tokenizer.encode(text).ids, truth))
        attempts.remove(nearest)
        attempts.append(nearest)
    if wanted and rng.random() < right_share:
        # A story that is never got wrong has a right attempt alone.
        attempts[-1:] = [tried.solution]
    return Row(tried.problem, tuple(attempts), tried.solution)


def attempts_of(stories: int, samples: int, seed: int, cache: Path) -> list[Tried]:
    """`lab:small`'s wrong samples on training stories, drawn once and kept in the work folder."""
    made_from = origin(lab_path("lab:small") / WEIGHTS, stories, samples, seed, TEMPERATURE)
    rows = kept_rows(
        cache, made_from, lambda: [(one.problem, one.solution, one.wrong) for one in _tried(stories, samples, seed)]
    )
    return [Tried(problem, solution, tuple(wrong)) for problem, solution, wrong in rows]


def _tried(stories: int, samples: int, seed: int) -> list[Tried]:
    drawn = draw_stories(random.Random(f"reviser/{seed}"), "train", stories)
    network, tokenizer = Network.load(lab_path("lab:small")), lab_tokenizer.build()
    completions = complete(network, tokenizer, [story.problem for story in drawn], samples, TEMPERATURE, seed=seed)
    tried = []
    for story, texts in zip(drawn, completions, strict=True):
        ended = (done for done in texts if done.finished and done.tokens <= LONGEST_ATTEMPT)
        distinct = dict.fromkeys(done.text for done in ended if done.text)
        wrong = tuple(text for text in distinct if text.split("\n")[-1] != f"Answer: {story.answer}")
        tried.append(Tried(story.problem, story.solution, wrong))
    return tried


def row_batches(rows: Sequence[Row], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random) -> Iterator[Batch]:
    """The rows in batches of about `batch_tokens` tokens, neighbours of like length, in random order."""
    contexts, solutions = [row.context for row in rows], [row.solution for row in rows]
    return answer_batches(contexts, solutions, tokenizer, batch_tokens, rng)
