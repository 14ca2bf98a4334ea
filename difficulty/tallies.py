"""What the candidates of one arm of a pool come to, prompt by prompt, in arrays: hits, wrong answers, scores.

Everything is summed with `bincount`: there is no loop over prompts or candidates. Candidates with a right answer count
as one answer, whatever they are called.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.evidence import MOST_ANSWERS, UNPARSED_WORTH, Rows
from apportion.difficulty.grid import SCORE_REACH
from apportion.difficulty.pools import Deck, Ints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RIGHT = -2
"""Number of the right answer where all right candidates are taken together; -1 is an unparsed one."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Candidates of each prompt that were right, all of them, and those that were wrong and unparsed, [prompts]."""

    right: Floats
    tried: Floats
    unparsed: Floats


def hits(deck: Deck) -> Hits:
    """The hits of a deck."""
    unparsed = _sums(deck, (~deck.correct & (deck.answer < 0)).astype(np.float64))
    return Hits(_sums(deck, deck.correct.astype(np.float64)), deck.sizes.astype(np.float64), unparsed)


def log_collisions(deck: Deck) -> Floats:
    """Log probability of the sizes of each prompt's wrong answers, [prompts, concentrations].

    Ewens' formula, as in `apportion.difficulty.belief.collisions`, over the distinct wrong answers that were parsed.
    """
    wrong = ~deck.correct & (deck.answer >= 0)
    prompts = len(deck.sizes)
    owner, _, size = _groups(deck.owner[wrong], deck.answer[wrong])
    tables = np.bincount(owner, minlength=prompts)[:, None]
    seated = np.bincount(owner, size, minlength=prompts)[:, None]
    fixed = np.bincount(owner, gammaln(size), minlength=prompts)[:, None]
    alpha = CONCENTRATIONS
    return np.asarray(tables * np.log(alpha) + gammaln(alpha) - gammaln(alpha + seated) + fixed)


def score_logits(scores: Floats) -> Floats:
    """`apportion.difficulty.grid.score_logit` of many scores."""
    safe = np.clip(scores, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.clip(np.log(safe / (1.0 - safe)), -SCORE_REACH, SCORE_REACH))


@dataclass(frozen=True, slots=True)
class Scores:
    """The scored and parsed candidates of a deck, in its order."""

    owner: Ints
    correct: Bools
    score: Floats
    group: Ints
    """the answer's number, `RIGHT` for all right ones"""


def scores(deck: Deck) -> Scores:
    """The scores of a deck."""
    has = np.isfinite(deck.score) & (deck.answer >= 0)
    correct = deck.correct[has]
    return Scores(deck.owner[has], correct, deck.score[has], np.where(correct, RIGHT, deck.answer[has]))


def within_groups(values: Floats, found: Scores, prompts: int) -> Floats:
    """Sum of squares of values around their answer's mean, and its degrees of freedom, [prompts, 2]."""
    owner, inverse, size = _groups(found.owner, found.group)
    total = np.bincount(inverse, values, minlength=len(size))
    squares = np.bincount(inverse, values**2, minlength=len(size))
    left = np.maximum(squares - total**2 / size, 0.0)
    kin = np.bincount(owner, left, minlength=prompts)
    return np.stack([kin, np.bincount(owner, size - 1.0, minlength=prompts)], axis=1)


def first(owner: Ints, most: int) -> Bools:
    """The first `most` entries of each owner; owners come in order."""
    if not len(owner):
        return np.zeros(0, dtype=bool)
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    begin = np.repeat(starts, np.diff(np.r_[starts, len(owner)]))
    return np.asarray(np.arange(len(owner)) - begin < most)


@dataclass(frozen=True, slots=True)
class Opening:
    """The first candidates of every prompt as evidence of one arm."""

    rows: Rows
    slot_right: Bools
    """whether the answer in each slot is right, [prompts, answers]"""


def opening(owner: Ints, answer: Ints, correct: Bools, score: Floats, prompts: int) -> Opening:
    """Evidence of candidates, which come prompt by prompt; a slot is an answer in the order of its first candidate."""
    parsed = answer >= 0
    slot = np.full(len(owner), -1)
    slot[parsed] = _slots(owner[parsed], answer[parsed])
    parsed &= slot < MOST_ANSWERS
    width = max(1, int(slot[parsed].max(initial=0)) + 1)
    place = owner[parsed] * width + slot[parsed]

    def per_slot(values: Floats) -> Floats:
        return np.asarray(np.bincount(place, values, minlength=prompts * width), dtype=np.float64).reshape(
            prompts, width
        )

    has = np.isfinite(score[parsed])
    given = np.where(has, score[parsed], 0.0)
    logit = np.where(has, score_logits(given), 0.0)
    best = np.full(prompts * width, -np.inf)
    np.maximum.at(best, place[has], given[has])
    votes = per_slot(np.ones(len(place)))
    unparsed = UNPARSED_WORTH * np.bincount(owner[~parsed], minlength=prompts).astype(np.float64)
    squares = np.stack(
        [np.bincount(owner[parsed], one**2, minlength=prompts) for one in (logit, given)], axis=1, dtype=np.float64
    )
    rows = Rows(
        count=votes[:, :, None],
        logit=per_slot(logit),
        scored=per_slot(has.astype(np.float64)),
        tally=votes,
        score=per_slot(given),
        squares=squares,
        best=best.reshape(prompts, width),
        total=(votes.sum(axis=1) + unparsed)[:, None],
        unparsed=unparsed,
    )
    return Opening(rows, per_slot(correct[parsed].astype(np.float64)) > 0.5 * votes)


def _slots(owner: Ints, answer: Ints) -> Ints:
    """The slot of each candidate's answer: answers of a prompt in the order of their first candidate."""
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    width = int(answer.max()) + 1
    _, begin, inverse = np.unique(owner * width + answer, return_index=True, return_inverse=True)
    order = np.argsort(begin)
    owners = owner[begin[order]]
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    rank = np.arange(len(owners)) - np.repeat(starts, np.diff(np.r_[starts, len(owners)]))
    slot = np.empty(len(order), dtype=np.int64)
    slot[order] = rank
    return np.asarray(slot[inverse])


def _groups(owner: Ints, answer: Ints) -> tuple[Ints, Ints, Floats]:
    """Distinct (prompt, answer): the prompt of each, which one each candidate is of, and how many are."""
    low = int(answer.min(initial=0))
    width = int(answer.max(initial=0)) - low + 1
    keys, inverse, size = np.unique(owner * width + (answer - low), return_inverse=True, return_counts=True)
    return keys // width, inverse, size.astype(np.float64)


def _sums(deck: Deck, values: Floats) -> Floats:
    return np.bincount(deck.owner, values, minlength=len(deck.sizes)).astype(np.float64)
