"""Curves of recorded prompts: the mean objective after n of their recorded candidates, in random order.

Coverage and max score have closed forms (pass@k, Chen et al. 2021, arXiv 2107.03374, and its like for ranks). Votes,
plain, weighted by scores or by rank of self-certainty, are averaged over random orders, the same orders for all n. Ties
are broken in expectation, which is what an order drawn at random does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from apportion.difficulty.pools import Deck
from apportion.errors import ConfigError, nearest
from apportion.policies.borda import exponent

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ORDERS = 256
"""Random orders of each prompt: the noise of a mean over 500 prompts is then below 0.2 points at any n."""
MOST_ORDERS = 2048
"""Prompts whose votes look the same share their orders; a curve is then known to about a point."""
CHUNK = 512
"""Orders worked on at once: a few megabytes."""
EVERY_AMOUNT_TO = 16
"""Up to here every amount is in the grid; curves bend most there."""
GROWTH = 1.25
"""Beyond, each amount is about this many times the one before."""
OBJECTIVES = ("accuracy", "coverage")
SELECTS = ("borda", "majority", "max_score", "weighted")
LEVEL = 1e-6
"""Sums of scores nearer than this share of a vote are a tie: single precision cannot tell them apart."""


def grid(most: int) -> tuple[int, ...]:
    """1..most: all up to 16, then geometric, `most` included."""
    amounts = list(range(1, min(most, EVERY_AMOUNT_TO) + 1))
    while amounts and amounts[-1] < most:
        amounts.append(min(most, int(np.ceil(amounts[-1] * GROWTH))))
    return tuple(amounts)


def curves_of(
    deck: Deck, amounts: tuple[int, ...], objective: str, select: str, orders: int = ORDERS, seed: int = 0
) -> Floats:
    """The mean objective of each prompt after each amount, [prompts, amounts]; nan beyond what was recorded.

    Raises ConfigError for an objective or selector without a curve.
    """
    if objective not in OBJECTIVES:
        raise ConfigError(f"objective {objective!r} has no curve: {nearest(objective, OBJECTIVES)}")
    if select not in SELECTS:
        raise ConfigError(f"select {select!r} has no curve: {nearest(select, SELECTS)}")
    if objective == "coverage":
        return coverage(deck.sizes, np.bincount(deck.owner[deck.correct], minlength=len(deck.sizes)), amounts)
    found = np.full((len(deck.sizes), len(amounts)), np.nan)
    if deck.sizes.max(initial=0) <= 1:
        found[deck.owner, 0] = deck.correct & (deck.answer >= 0)
        return found
    steps = np.array(amounts)
    if select == "max_score" and deck.scored:
        for prompt, size in enumerate(deck.sizes.tolist()):
            rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
            reached = steps[steps <= size]
            found[prompt, : len(reached)] = _highest(deck.answer[rows], deck.correct[rows], deck.score[rows], reached)
        return found
    if select == "borda" and deck.certainty is not None:
        for prompt, size in enumerate(deck.sizes.tolist()):
            rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
            reached = steps[steps <= size]
            votes, share = _ballots(deck.answer[rows], deck.correct[rows])
            rng = np.random.default_rng([seed, prompt])
            found[prompt, : len(reached)] = _ranked(votes, share, deck.certainty[rows], reached, orders, rng)
        return found
    weighed = select == "weighted" and deck.scored
    for at, (prompts, votes, share) in enumerate(_alike(deck, weighed)):
        reached = steps[steps <= len(votes)]
        many = min(orders * len(prompts), MOST_ORDERS)
        curve = _vote(votes, share, reached, many, np.random.default_rng([seed, at]))
        found[np.array(prompts)[:, None], np.arange(len(reached))] = curve
    return found


def _alike(deck: Deck, weighed: bool) -> list[tuple[list[int], Floats, Floats]]:
    """Prompts whose votes look the same, [candidates, answers] and how often each answer is right, [answers].

    Unweighed votes tell prompts apart only by how many votes each answer has and whether it is right.
    """
    groups: dict[tuple[object, ...], tuple[list[int], Floats, Floats]] = {}
    for prompt, size in enumerate(deck.sizes.tolist()):
        rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
        votes, right = _ballots(deck.answer[rows], deck.correct[rows])
        count = votes.sum(axis=0)
        order = np.lexsort((right, -count))
        key: tuple[object, ...] = (prompt,) if weighed else (size, *count[order].tolist(), *right[order].tolist())
        if key in groups:
            groups[key][0].append(prompt)
            continue
        if weighed:
            votes = votes * _weights(deck.score[rows])[:, None]
        groups[key] = ([prompt], votes[:, order], right[order])
    return list(groups.values())


def coverage(sizes: Ints, right: Ints, amounts: tuple[int, ...]) -> Floats:
    """1 - C(N - c, n) / C(N, n) of each prompt, [prompts, amounts]; nan where n > N."""
    size, own, n = sizes[:, None].astype(np.float64), right[:, None], np.array(amounts, dtype=np.float64)[None]
    missed = np.exp(_log_choose(size - own, n) - _log_choose(size, np.minimum(n, size)))
    return np.where(n > size, np.nan, 1.0 - missed)


def _vote(votes: Floats, right: Floats, steps: Ints, orders: int, rng: np.random.Generator) -> Floats:
    """The mean over orders of whether the vote is right after each of `steps` candidates.

    `votes` is [candidates, answers], `right` how often each answer is, [answers].
    """
    size = len(votes)
    if not votes.any():
        return np.zeros(len(steps))
    total = np.zeros(len(steps))
    narrow = votes.astype(np.float32)
    for begin in range(0, orders, CHUNK):
        many = min(CHUNK, orders - begin)
        order = rng.permuted(np.broadcast_to(np.arange(size), (many, size)), axis=1)
        sums = narrow[order].cumsum(axis=1)[:, steps - 1]
        best = sums.max(axis=2, keepdims=True)
        leading = (sums >= best * (1.0 - LEVEL)) & (best > 0.0)
        total += ((leading @ right) / np.maximum(leading.sum(axis=2), 1)).sum(axis=0)
    curve = total / orders
    curve[steps == 1] = float(((votes > 0.0) @ right).sum()) / size
    return np.asarray(curve)


def _ballots(answer: Ints, correct: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """One vote of each candidate, [candidates, answers], and how often each answer is right, [answers]."""
    kinds, kind = np.unique(answer, return_inverse=True)
    right = np.bincount(kind, weights=correct.astype(np.float64), minlength=len(kinds))
    votes = np.eye(len(kinds))[kind]
    known = np.flatnonzero(kinds >= 0)
    return votes[:, known], right[known] / votes[:, known].sum(axis=0)


def _ranked(
    votes: Floats, right: Floats, certainty: Floats, steps: Ints, orders: int, rng: np.random.Generator
) -> Floats:
    """`_vote` where each candidate's vote goes by its rank among those drawn, the surest the most.

    A candidate of unknown certainty is taken to be as sure as the mean of its prompt. Equal ones come in random order.
    """
    known = np.isfinite(certainty)
    sure = np.where(known, certainty, certainty[known].mean() if known.any() else 0.0)
    total = np.zeros(len(steps))
    for begin in range(0, orders, CHUNK):
        many = min(CHUNK, orders - begin)
        order = rng.permuted(np.broadcast_to(np.arange(len(sure)), (many, len(sure))), axis=1)
        for at, n in enumerate(steps.tolist()):
            rank = np.argsort(sure[order[:, :n]], axis=1, kind="stable")
            drawn = np.take_along_axis(order[:, :n], rank, axis=1)
            sums = np.einsum("r,ora->oa", np.arange(1, n + 1) ** exponent(n), votes[drawn])
            best = sums.max(axis=1, keepdims=True, initial=0.0)
            leading = (sums >= best * (1.0 - LEVEL)) & (best > 0.0)
            total[at] += ((leading @ right) / np.maximum(leading.sum(axis=1), 1)).sum()
    return np.asarray(total / orders)


def _highest(answer: Ints, correct: NDArray[np.bool_], score: Floats, steps: Ints) -> Floats:
    """The chance that the candidate with the highest score is right, exactly; candidates of equal score are alike."""
    parsed = answer >= 0
    size = len(answer)
    values, level = np.unique(-_weights(score)[parsed], return_inverse=True)
    each = np.bincount(level, minlength=len(values)).astype(np.float64)
    right = np.bincount(level, weights=correct[parsed].astype(np.float64), minlength=len(values)) / each
    better = np.concatenate([[0.0], np.cumsum(each)])
    n = steps[:, None].astype(np.float64)
    none = np.exp(_log_choose(size - better[None], n) - _log_choose(np.full((1, 1), float(size)), n))
    return np.asarray((none[:, :-1] - none[:, 1:]) @ right)


def _weights(score: Floats) -> Floats:
    """Scores, the mean of the prompt's known ones where one is missing; all alike where none says anything."""
    known = np.isfinite(score)
    if not known.any() or float(score[known].sum()) <= 0.0:
        return np.ones(len(score))
    return np.where(known, score, float(score[known].mean()))


def _log_choose(size: Floats, n: Floats) -> Floats:
    """log C(size, n); -inf where n > size."""
    inside = size >= n
    left = np.where(inside, size - n, 0.0)
    return np.where(inside, gammaln(size + 1.0) - gammaln(n + 1.0) - gammaln(left + 1.0), -np.inf)
