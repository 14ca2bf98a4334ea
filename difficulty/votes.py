"""What one candidate's vote weighs, by the arm that drew it and the score it got.

Where nothing was learned every candidate weighs 1 (a majority), or its score (a weighted vote). With labels a vote
weighs its log odds of being right over those of a given wrong answer,

    logit P(right | arm, score) + log(wrong answers that wrong candidates spread over),

which is how independent votes of unequal witnesses add up (Nitzan and Paroush 1982). Weights are positive and about 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import score_logit
from apportion.difficulty.pools import Pool

Floats = NDArray[np.float64]

LEAST = 0.05
"""A vote that counts against its own answer would make a leader lose by being drawn again."""
LEAST_SCORED = 0.02
LARGEST_RATE = 0.98
SCORE_PENALTY = 1.0
"""Ridge on the slope of a score: some hundred candidates are enough to learn it, a handful are not."""
SPREADS = (0.0, 0.7, 1.1, 1.6, 2.3, 3.4)
"""Log numbers of wrong answers tried: from "all err alike" to thirty."""


@dataclass(frozen=True, slots=True)
class Votes:
    """`base` and `slope` are by arm: a vote weighs base + slope * logit(score). No arms: each vote weighs 1.

    `by_score`: a vote weighs its score, in units of the mean score seen so far.
    """

    base: Mapping[str, float] = field(default_factory=dict)
    slope: Mapping[str, float] = field(default_factory=dict)
    by_score: bool = False

    def of(self, arm: str, score: float | None, mean: float = 1.0) -> float:
        """The weight of one vote. `mean` is the mean score seen so far."""
        if self.by_score:
            return 1.0 if score is None else max(score / mean, LEAST_SCORED)
        base = self.base.get(arm, 1.0)
        slope = self.slope.get(arm, 0.0)
        return base if score is None or slope == 0.0 else max(LEAST, base + slope * score_logit(score))

    def many(self, arm: str, score: Floats) -> Floats:
        """`of` for recorded candidates, any shape; nan is no score."""
        if self.by_score:
            mean = float(np.nanmean(score)) if np.isfinite(score).any() else 1.0
            return np.where(np.isnan(score), 1.0, np.maximum(score / max(mean, 1e-9), LEAST_SCORED))
        base, slope = self.base.get(arm, 1.0), self.slope.get(arm, 0.0)
        if slope == 0.0:
            return np.full(score.shape, base)
        return np.where(np.isnan(score), base, np.maximum(LEAST, base + slope * logits(score)))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def logits(score: Floats) -> Floats:
    """`score_logit` of every score; nan stays."""
    edge = 1.0 / (1.0 + np.exp(-score_logit(0.0)))
    kept = np.clip(score, edge, 1.0 - edge)
    return np.asarray(np.log(kept / (1.0 - kept)))


def fit_votes(pool: Pool, arms: Sequence[str]) -> Votes:
    """Weights learned from labelled candidates. Of one arm without scores every vote weighs the same."""
    if len(arms) == 1 and not pool.deck(arms[0]).scored:
        return Votes()
    base, slope = {}, {}
    for arm in arms:
        base[arm], slope[arm] = _log_odds(pool, arm)
    spread = _spread(pool, arms, base, slope)
    typical = []
    for arm in arms:
        deck = pool.deck(arm)
        found = base[arm] + spread + slope[arm] * np.nan_to_num(logits(deck.score))
        typical.append(float(np.maximum(found, LEAST).mean()))
    size = max(float(np.mean(typical)), LEAST)
    return Votes(
        {
            arm: max(LEAST, (base[arm] + spread) / size) if slope[arm] == 0.0 else (base[arm] + spread) / size
            for arm in arms
        },
        {arm: slope[arm] / size for arm in arms},
    )


def _log_odds(pool: Pool, arm: str) -> tuple[float, float]:
    """Logit of being right at a score of one half, and its slope in the score's logit."""
    deck = pool.deck(arm)
    rate = (deck.correct.sum() + 0.5) / (len(deck.correct) + 1.0)
    flat = float(
        np.log(min(max(rate, 1 - LARGEST_RATE), LARGEST_RATE) / (1 - min(max(rate, 1 - LARGEST_RATE), LARGEST_RATE)))
    )
    known = np.isfinite(deck.score)
    if not known.all() or deck.correct.all() or not deck.correct.any():
        return flat, 0.0
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=SCORE_PENALTY).fit(logits(deck.score)[:, None], deck.correct)
    return float(found.intercept_[0]), max(0.0, float(found.coef_[0, 0]))


def _spread(pool: Pool, arms: Sequence[str], base: Mapping[str, float], slope: Mapping[str, float]) -> float:
    """The spread under which one vote of each arm finds most right answers."""
    if len(arms) == 1:
        return SPREADS[2]
    width = max(map(len, pool.answers), default=0) + 1
    found = {}
    for spread in SPREADS:
        strength = np.zeros((len(pool.ids), width))
        right = np.zeros((len(pool.ids), width), dtype=bool)
        for arm in arms:
            deck = pool.deck(arm)
            owner, seen = deck.owner, deck.answer >= 0
            weight = np.maximum(LEAST, base[arm] + spread + slope[arm] * np.nan_to_num(logits(deck.score)))
            np.add.at(strength, (owner[seen], deck.answer[seen]), (weight / deck.sizes[owner])[seen])
            right[owner[seen & deck.correct], deck.answer[seen & deck.correct]] = True
        found[spread] = float(right[np.arange(len(right)), strength.argmax(axis=1)].mean())
    return max(SPREADS, key=lambda spread: (found[spread], -abs(spread - SPREADS[2])))
