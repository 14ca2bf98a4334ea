"""What one candidate's vote weighs, by the arm that drew it and the score it got.

Where nothing was learned every candidate weighs 1 (a majority), or its score (a weighted vote). With labels a vote
weighs its log odds of being right over those of a given wrong answer,

    logit P(right | arm, score) + log(wrong answers that wrong candidates spread over),

which is how independent votes of unequal witnesses add up (Nitzan and Paroush 1982). P is a rising curve of the score,
whatever its scale (a probability, a log probability, a reward). Weights are positive and about 1. In a plain vote of
one arm, how long a response is may tilt its vote (`apportion.difficulty.vote_length`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.pools import Deck, Pool

Floats = NDArray[np.float64]

LEAST = 0.05
"""A vote that counts against its own answer would make a leader lose by being drawn again."""
MOST_BINS, LEAST_IN_BIN = 16, 25
"""Candidates are binned by score, in equal parts, as finely as keeps this many in each."""
PSEUDO = 2.0
"""Each bin leans on the arm's pass rate as if by this many candidates."""
SPREADS = (0.0, 0.7, 1.1, 1.6, 2.3, 3.4)
"""Log numbers of wrong answers tried: from "all err alike" to thirty."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Weight by score: straight between knots, flat beyond. One knot is a constant."""

    scores: tuple[float, ...]
    weights: tuple[float, ...]

    def at(self, score: float) -> float:
        """The weight of one score."""
        place = bisect_right(self.scores, score)
        if place == 0 or place == len(self.scores):
            return self.weights[max(0, place - 1)]
        low, high = self.scores[place - 1], self.scores[place]
        part = (score - low) / (high - low)
        return self.weights[place - 1] + part * (self.weights[place] - self.weights[place - 1])

    def plus(self, shift: float, size: float) -> Curve:
        """The curve moved up by `shift`, then in units of `size`, nowhere below LEAST of either."""
        return Curve(self.scores, tuple(max(LEAST, max(LEAST, weight + shift) / size) for weight in self.weights))


@dataclass(frozen=True, slots=True)
class Votes:
    """`curves` are by arm; one without a curve weighs 1. `by_score`: a vote weighs its score over the mean so far.

    `slope` says how length tilts a vote, of one arm alone.
    """

    curves: Mapping[str, Curve] = field(default_factory=dict)
    by_score: bool = False
    slope: float = 0.0

    def of(self, arm: str, score: float | None, mean: float = 1.0) -> float:
        """The weight of one vote. `mean` is the mean score seen so far."""
        if self.by_score:
            return 1.0 if score is None else max(score / mean, LEAST)
        curve = self.curves.get(arm)
        if curve is None:
            return 1.0
        return curve.at(score) if score is not None else float(np.mean(curve.weights))

    def many(self, arm: str, score: Floats) -> Floats:
        """`of` for recorded candidates, any shape; nan is no score."""
        blank = np.isnan(score)
        if self.by_score:
            mean = float(np.mean(score[~blank])) if not blank.all() else 1.0
            return np.where(blank, 1.0, np.maximum(score / max(mean, 1e-9), LEAST))
        curve = self.curves.get(arm)
        if curve is None:
            return np.ones(score.shape)
        return np.where(blank, np.mean(curve.weights), np.interp(score, curve.scores, curve.weights))


class VoteFits:
    """Weights learned from a pool's labelled candidates, for any of its arms together; each is worked out once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._odds: dict[str, Curve] = {}
        self._votes: dict[frozenset[str], Votes] = {}

    def of(self, arms: Sequence[str]) -> Votes:
        """The votes of these arms, which are all that vote. Of one without scores every vote weighs the same.

        How far wrong answers spread is a matter of who votes: arms that err alike need another spread than those that
        err apart.
        """
        key = frozenset(arms)
        if key not in self._votes:
            self._votes[key] = self._fit(sorted(key))
        return self._votes[key]

    def _fit(self, arms: Sequence[str]) -> Votes:
        if len(arms) == 1 and not self._pool.deck(arms[0]).scored:
            return Votes()
        for arm in arms:
            if arm not in self._odds:
                self._odds[arm] = _log_odds(self._pool.deck(arm))
        odds = {arm: self._odds[arm] for arm in arms}
        spread = _spread(self._pool, arms, odds)
        size = float(np.mean([np.mean(np.maximum(np.asarray(one.weights) + spread, LEAST)) for one in odds.values()]))
        return Votes({arm: curve.plus(spread, max(size, LEAST)) for arm, curve in odds.items()})


def fit_votes(pool: Pool, arms: Sequence[str]) -> Votes:
    """`VoteFits.of`, once."""
    return VoteFits(pool).of(arms)


def _log_odds(deck: Deck) -> Curve:
    """Logit of being right by score, of those that have one; a constant for an arm with hardly any scores."""
    rate = (float(deck.correct.sum()) + 0.5) / (len(deck.correct) + 1.0)
    known = np.flatnonzero(np.isfinite(deck.score))
    bins = min(MOST_BINS, len(known) // LEAST_IN_BIN)
    if bins < 2:
        return Curve((0.0,), (float(np.log(rate / (1.0 - rate))),))
    from sklearn.isotonic import IsotonicRegression

    order = known[np.argsort(deck.score[known], kind="stable")]
    parts = np.array_split(order, bins)
    middle = np.array([deck.score[part].mean() for part in parts])
    count = np.array([len(part) for part in parts], dtype=np.float64)
    right = np.array([deck.correct[part].sum() for part in parts], dtype=np.float64)
    share = (right + PSEUDO * rate) / (count + PSEUDO)
    rising = IsotonicRegression(y_min=1e-3, y_max=1.0 - 1e-3).fit_transform(middle, share, sample_weight=count)
    knots, first = np.unique(middle, return_index=True)
    return Curve(tuple(knots.tolist()), tuple(np.log(rising[first] / (1.0 - rising[first])).tolist()))


def _spread(pool: Pool, arms: Sequence[str], odds: Mapping[str, Curve]) -> float:
    """The spread under which the votes of all arms, each arm's counted as one, find most right answers."""
    width = max(map(len, pool.answers), default=0) + 1
    found = {}
    for spread in SPREADS:
        strength = np.zeros((len(pool.ids), width))
        right = np.zeros((len(pool.ids), width), dtype=bool)
        for arm in arms:
            deck, curve = pool.deck(arm), odds[arm]
            owner, seen = deck.owner, deck.answer >= 0
            odds_of = np.interp(np.nan_to_num(deck.score), curve.scores, curve.weights)
            weight = np.maximum(LEAST, np.where(np.isnan(deck.score), np.mean(curve.weights), odds_of) + spread)
            np.add.at(strength, (owner[seen], deck.answer[seen]), (weight / deck.sizes[owner])[seen])
            right[owner[seen & deck.correct], deck.answer[seen & deck.correct]] = True
        found[spread] = float(right[np.arange(len(right)), strength.argmax(axis=1)].mean())
    return max(SPREADS, key=lambda spread: (found[spread], -abs(spread - SPREADS[2])))
