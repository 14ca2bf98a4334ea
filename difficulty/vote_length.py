"""How much a response's length says in its vote.

Of several responses to one prompt, the shorter ones are right more often with many reasoning models, where long chains
go astray (Hassid et al. 2025, arXiv 2505.17813), and the longer ones in other tasks. So a vote is tilted by how long
its response is for its arm and its prompt: an answer with votes B_a, of all votes B, whose mean log length is l_a where
that of all responses is l, is as strong as

    S_a = B_a * (1 + slope * (l_a - l)),

which moves strength from answers to answers and adds none. Only contests matter: a slope is fitted to which of the
answers in small random votes is right, as a conditional logit (McFadden 1974) over the labelled prompts, and is taken
for less than it looks where those prompts disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from apportion.difficulty.pools import Deck

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_FACTOR, MOST_FACTOR = 0.05, 4.0
"""How far length may change an answer's strength, of which some is then added or lost."""
SIZES = (2, 3, 4, 6, 8, 16, 32)
"""Votes of so many candidates are contested."""
REPEATS = 12
"""Random votes of each size and prompt."""
DEVIATION = 2.0
"""Slopes are believed to be within so much of none before any contest."""
SHARPNESS_DEVIATION = 3.0
"""Likewise of the logarithm of how sharply votes tell, around e^-1."""
CAUTION = 2.5
"""A slope is halved where it is so many of its standard errors from none."""
LEAST_SLOPE = 0.02
"""Less is none."""
DIGITS = 3
FEWEST_CONTESTS = 8
"""Prompts that are contested, for a slope to be fitted."""
FEW = 2.5
"""So many prompts fewer than there are make the error of a sum over few prompts what a jackknife has it."""


def tilted(votes: Floats, lengths: Floats) -> Floats:
    """The strength of each answer, [..., answers]: `votes` they have and the sum of slope x log length over them.

    An answer without votes has none.
    """
    seen = votes > 0.0
    total = votes.sum(axis=-1, keepdims=True)
    mean = np.divide(lengths.sum(axis=-1, keepdims=True), total, out=np.zeros_like(total), where=total > 0.0)
    own = np.divide(lengths, votes, out=np.zeros_like(votes), where=seen)
    return np.asarray(np.where(seen, votes * np.clip(1.0 + own - mean, LEAST_FACTOR, MOST_FACTOR), 0.0))


def tilted_one(votes: Sequence[float], lengths: Sequence[float]) -> list[float]:
    """`tilted` for the answers of one prompt, which all have votes: many times faster for a few of them."""
    mean = sum(lengths) / sum(votes) if votes else 0.0
    pairs = zip(votes, lengths, strict=True)
    return [one * min(max(1.0 + own / one - mean, LEAST_FACTOR), MOST_FACTOR) for one, own in pairs]


@dataclass(frozen=True, slots=True)
class _Contests:
    """Answers of contested votes, one after the other, all [answers] but for `prompt` and `size`, [votes]."""

    votes: Floats
    length: Floats
    """mean log length less that of the whole vote, [answers]"""
    right: NDArray[np.bool_]
    vote: Ints
    """which vote it is in"""
    prompt: Ints
    size: Ints
    """the place of its size in SIZES"""


@dataclass(frozen=True, slots=True)
class LengthSpread:
    """An arm's slope, and its log lengths within prompts with right and wrong responses: mean of the right ones less
    that of the wrong, and standard deviation around either."""

    slope: float
    gap: float
    deviation: float


def spread_of(deck: Deck, slope: float) -> LengthSpread:
    """The spread of a deck with lengths."""
    length, right, owner = log_lengths(deck.tokens), deck.correct.astype(np.float64), deck.owner
    size = np.maximum(deck.sizes, 1)
    share = np.bincount(owner, right, minlength=len(size)) / size
    inner = length - (np.bincount(owner, length, minlength=len(size)) / size)[owner]
    part = right - share[owner]
    # Least squares of length on being right, with an intercept for each prompt.
    gap = float(inner @ part / max(float(part @ part), 1e-12))
    mixed = ((share > 0.0) & (share < 1.0))[owner]
    left = (inner - gap * part)[mixed]
    return LengthSpread(slope, round(gap, DIGITS), round(float(left.std()), DIGITS) if len(left) else 0.0)


def fit_slope(deck: Deck, seed: int = 0) -> float:
    """The slope of an arm's plain votes; 0 where nothing is to be learned."""
    if not np.isfinite(deck.tokens).all() or not len(deck.tokens) or float(np.ptp(deck.tokens)) <= 0.0:
        return 0.0
    contests = _contests(deck, np.random.default_rng(seed))
    if contests is None:
        return 0.0
    slope, error = _fit(contests)
    found = slope / (1.0 + (CAUTION * error / slope) ** 2) if slope else 0.0
    # Rounded, as another machine's last digits must not change what a resumed job does.
    return round(found, DIGITS) if abs(found) >= LEAST_SLOPE else 0.0


def log_lengths(tokens: Floats) -> Floats:
    """Log length of responses, any shape; of an empty or unknown one that of one token."""
    return np.asarray(np.log(np.maximum(np.nan_to_num(tokens, nan=1.0), 1.0)))


def _contests(deck: Deck, rng: np.random.Generator) -> _Contests | None:
    length, owner = log_lengths(deck.tokens), deck.owner
    parts: list[tuple[Floats, Floats, NDArray[np.bool_], Ints, Ints, Ints]] = []
    count = 0
    for place, size in enumerate(SIZES):
        if size > int(deck.sizes.max(initial=0)):
            break
        for _ in range(REPEATS):
            order = np.lexsort((rng.random(len(owner)), owner))
            drawn = order[np.arange(len(order)) - deck.begin[owner] < size]
            drawn = drawn[deck.answer[drawn] >= 0]
            found = _vote(owner[drawn], deck.answer[drawn], length[drawn], deck.correct[drawn])
            if found is not None:
                votes, own, right, vote, prompt = found
                parts.append((votes, own, right, vote + count, prompt, np.full(len(prompt), place)))
                count += len(prompt)
    if not parts:
        return None
    contests = _Contests(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return contests if len(np.unique(contests.prompt)) >= FEWEST_CONTESTS else None


def _vote(
    owner: Ints, answer: Ints, length: Floats, correct: NDArray[np.bool_]
) -> tuple[Floats, Floats, NDArray[np.bool_], Ints, Ints] | None:
    """One vote of each prompt: those with a right answer among several."""
    if not len(owner):
        return None
    width = int(answer.max()) + 1
    keys, inverse = np.unique(owner * width + answer, return_inverse=True)
    prompt = keys // width
    votes = np.bincount(inverse).astype(np.float64)
    long = np.bincount(inverse, length).astype(np.float64)
    right = np.bincount(inverse, correct) > 0
    answers, good = np.bincount(prompt), np.bincount(prompt, right)
    contested = (answers > 1) & (good > 0) & (good < answers)
    total, whole = np.bincount(prompt, votes), np.bincount(prompt, long)
    keep = contested[prompt]
    if not keep.any():
        return None
    own = long[keep] / votes[keep] - (whole / np.maximum(total, 1e-12))[prompt[keep]]
    prompts, vote = np.unique(prompt[keep], return_inverse=True)
    return votes[keep], np.asarray(own), right[keep], vote, prompts


def _fit(contests: _Contests) -> tuple[float, float]:
    """The slope and its standard error, prompts being what is drawn at random."""
    sizes = int(contests.size.max()) + 1
    place = contests.size[contests.vote]
    begin = np.flatnonzero(np.diff(contests.vote, prepend=-1))

    def gradients(theta: Floats) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
        """By vote: log likelihood, its derivative by the slope, and by the logarithm of the sharpness."""
        raw = 1.0 + theta[0] * contests.length
        factor = np.clip(raw, LEAST_FACTOR, MOST_FACTOR)
        sharp = np.exp(theta[1:])[place]
        strength = sharp * contests.votes * factor
        top = np.maximum.reduceat(strength, begin)
        each = np.exp(strength - top[contests.vote])
        total = np.bincount(contests.vote, each)
        good = np.maximum(np.bincount(contests.vote, each * contests.right), 1e-12)
        change = each * contests.right / good[contests.vote] - each / total[contests.vote]
        bend = np.where(raw == factor, contests.length, 0.0)
        by_slope = np.bincount(contests.vote, change * sharp * contests.votes * bend)
        return np.asarray(np.log(good / total)), by_slope, np.bincount(contests.vote, change * strength)

    def loss(theta: Floats) -> tuple[float, Floats]:
        log, by_slope, by_sharpness = gradients(theta)
        prior = np.concatenate([[theta[0] / DEVIATION**2], (theta[1:] + 1.0) / SHARPNESS_DEVIATION**2])
        value = -log.sum() / REPEATS + 0.5 * float(
            (theta[0] / DEVIATION) ** 2 + (((theta[1:] + 1.0) / SHARPNESS_DEVIATION) ** 2).sum()
        )
        slopes = np.concatenate([[by_slope.sum()], np.bincount(contests.size, by_sharpness, minlength=sizes)])
        return value, prior - slopes / REPEATS

    best = minimize(loss, np.concatenate([[0.0], np.full(sizes, -1.0)]), jac=True, method="L-BFGS-B").x
    step = 1e-3
    near = best + np.concatenate([[step], np.zeros(sizes)])
    _, here, _ = gradients(best)
    curvature = (here.sum() - gradients(near)[1].sum()) / step / REPEATS + DEVIATION**-2
    by_prompt = np.bincount(contests.prompt, here / REPEATS)
    prompts = len(np.unique(contests.prompt))
    error = np.sqrt((by_prompt**2).sum()) / max(curvature, 1e-9) * prompts / (prompts - FEW)
    return float(best[0]), float(error)
