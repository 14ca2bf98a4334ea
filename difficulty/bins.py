"""Difficulty as a number, and the bins and bands that papers sort prompts into by it. Pure functions.

Difficulty here is a pass rate in [0, 1]: 0 is hopeless. Three ways to have it:
- *oracle*: pass@1 of many labelled candidates, known of recorded pools only;
- *predicted from a pool*: the verifier's mean final-answer score of the same candidates (Snell et al. 2024,
  arXiv 2408.03314), which needs no labels;
- *predicted from a probe*: what the few candidates that a job bought first show, or the belief that they lead to
  (`apportion.difficulty.estimator`).

Snell et al. make five quantile bins of it; Liu et al. 2025 (arXiv 2502.06703) absolute bands: hard, medium, easy. Every
prompt is in one bin; prompts of equal difficulty share theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apportion.difficulty.grid import LOGIT, sigmoid
from apportion.difficulty.pools import Deck
from apportion.types import Candidate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 5
"""Snell et al."""
BANDS: tuple[tuple[str, float, float], ...] = (("hard", 0.0, 0.1), ("medium", 0.1, 0.5), ("easy", 0.5, 1.0))
"""Liu et al.: bands of pass@1, each from its lower edge up to, not including, its upper one; 1 is easy."""
QUANTILE, ABSOLUTE = "quantile", "absolute"
"""Kinds of bins: as many prompts in each, or bands of pass@1."""


def oracle_difficulty(deck: Deck) -> Floats:
    """Pass@1 of each prompt over all its candidates, [prompts]; nan without any."""
    return mean_by_prompt(deck, deck.correct.astype(np.float64))


def predicted_difficulty(deck: Deck) -> Floats:
    """Mean verifier score of each prompt's candidates, [prompts]; nan where none has a score."""
    return mean_by_prompt(deck, deck.score)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a probe showed: the mean score of its candidates, None without scores, and the leading answer's share."""

    score: float | None
    share: float


def shown(candidates: Sequence[Candidate]) -> Shown:
    """What the candidates of a probe show; of none, a share of 0."""
    scores = [candidate.score for candidate in candidates if candidate.score is not None]
    counts = Counter(candidate.answer for candidate in candidates if candidate.answer is not None)
    share = max(counts.values(), default=0) / max(1, len(candidates))
    return Shown(sum(scores) / len(scores) if scores else None, share)


def quantile_edges(values: Floats, bins: int = BINS) -> Floats:
    """Edges between values that were seen, nearest to the quantiles, [bins - 1]: values that are alike stay together.

    Distinct values fall into bins whose sizes differ by at most one.
    """
    found, counts = np.unique(values, return_counts=True)
    if len(found) < 2:
        return np.full(bins - 1, found[0] if len(found) else 0.0)
    below = np.cumsum(counts)[:-1] / counts.sum()
    nearest = np.abs(below[None] - np.arange(1, bins)[:, None] / bins).argmin(axis=1)
    lower, upper = found[nearest], found[nearest + 1]
    middle = (lower + upper) / 2.0
    # Of neighbouring floats the mean is one of the two, and an edge belongs to the bin below it.
    return np.asarray(np.where(middle < upper, middle, lower))


def band_edges() -> Floats:
    """The edges between the bands, [bands - 1]."""
    return np.array([low for _, low, _ in BANDS[1:]])


def places(values: ArrayLike, edges: ArrayLike, kind: str = QUANTILE) -> Ints:
    """The bin of each value, the hardest first, any shape.

    A value on an edge belongs to the bin below it, and of absolute bands to the band above, as they are defined.
    """
    side = "right" if kind == ABSOLUTE else "left"
    return np.asarray(np.searchsorted(np.asarray(edges), np.asarray(values), side=side), dtype=np.int64)  # type: ignore[call-overload]


def band_of(difficulty: float) -> str:
    """The name of the band of a pass rate in [0, 1]."""
    return BANDS[int(places(difficulty, band_edges(), ABSOLUTE))][0]


def band_chances(pass_rate: Floats, lift: float = 0.0) -> Floats:
    """How probable each band is, [rows, bands], where the pass rate has these weights on the grid, [rows, POINTS].

    `lift` is that of the arm whose bands they are, in logits.
    """
    band = places(sigmoid(LOGIT + lift), band_edges(), ABSOLUTE)
    return np.asarray(pass_rate @ np.eye(len(BANDS))[band])


def mean_by_prompt(deck: Deck, values: Floats) -> Floats:
    """Mean over each prompt's candidates whose value is known, [prompts]; nan without any."""
    known, prompts = np.isfinite(values), len(deck.sizes)
    owner = deck.owner[known]
    count = np.bincount(owner, minlength=prompts)
    total = np.bincount(owner, values[known], minlength=prompts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
