"""Estimates of difficulty before and after a probe, and how good they are. Used by `benchmarks/difficulty.py`.

Every estimate is a pass rate for each prompt, as a job would have it: the belief of `apportion.difficulty`, fitted on
other prompts. What is true is the share of right ones among the candidates that no probe saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from savings import NINETY, RESAMPLES, Floats
from scipy.stats import rankdata

from apportion.difficulty.belief import World, believe, expected_pass
from apportion.difficulty.bins import ABSOLUTE, band_edges, oracle_difficulty, places, quantile_edges
from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.pools import Deck, Pool
from apportion.difficulty.scores import Calibration
from apportion.difficulty.tallies import first, opening

Costs = Callable[[int, bool], tuple[float | None, float]]
"""FLOPs and tokens a prompt of a probe of so many candidates, with their scores or without."""

PROBES = (1, 2, 4)
FIELDS = ("rank", "brier", "calibration_error", "right_bin", "right_band")
GROUPS = 10
"""Predictions are put in so many groups of equal size to read their calibration."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Pass@1 of each prompt by the candidates that no probe saw, [prompts]."""

    rate: Floats

    @classmethod
    def of(cls, deck: Deck) -> Truth:
        """That of a deck whose first candidates are probes."""
        rest = np.flatnonzero(~first(deck.owner, max(PROBES)))
        sizes = np.bincount(deck.owner[rest], minlength=len(deck.sizes))
        return cls(oracle_difficulty(deck.taken(rest, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A prediction of each prompt's pass rate, [prompts], and what it cost; flops are None where they are not known."""

    name: str
    said: Floats
    flops: float | None
    tokens: float


def estimates(
    policy: FittedPolicy, pool: Pool, arm: str, costs: Costs, look: tuple[float | None, float]
) -> list[Estimate]:
    """All estimates of the prompts of a pool under one arm.

    `look` are the FLOPs and tokens of reading the prompt once.
    """
    deck = pool.deck(arm)
    text = policy.text.factor(pool.texts) if policy.text is not None and any(pool.texts) else None
    hidden = None
    if policy.hidden is not None and pool.hidden is not None:
        hidden = policy.hidden.weigh(policy.hidden.said(pool.hidden.vectors.astype(np.float64)))
    found = [Estimate("mean of other prompts", belief(policy, deck, 0, False, None), 0.0, 0.0)]
    if text is not None:
        found.append(Estimate("text", belief(policy, deck, 0, False, text), 0.0, 0.0))
    if hidden is not None:
        found.append(Estimate("hidden state", belief(policy, deck, 0, False, hidden), *look))
    for size in PROBES:
        found.append(Estimate(f"probe of {size}", belief(policy, deck, size, False, None), *costs(size, False)))
    if deck.scored:
        for size in PROBES:
            scores = belief(policy, deck, size, True, None)
            found.append(Estimate(f"probe of {size}, scored", scores, *costs(size, True)))
        found.append(Estimate(f"mean score of {max(PROBES)}", mean_score(deck, max(PROBES)), *costs(max(PROBES), True)))
    for kind, factor, extra in (("text", text, (0.0, 0.0)), ("hidden state", hidden, look)):
        if factor is not None:
            flops, tokens = costs(max(PROBES), deck.scored)
            both = None if flops is None or extra[0] is None else flops + extra[0]
            said = belief(policy, deck, max(PROBES), deck.scored, factor)
            scored = ", scored" if deck.scored else ""
            found.append(Estimate(f"{kind} and probe of {max(PROBES)}{scored}", said, both, tokens + extra[1]))
    return found


def belief(policy: FittedPolicy, deck: Deck, size: int, scored: bool, factor: NDArray[np.float32] | None) -> Floats:
    """Posterior mean of pass@1 after the first `size` candidates of each prompt, [prompts]."""
    some = np.flatnonzero(first(deck.owner, size)) if size else np.zeros(0, dtype=np.int64)
    score = deck.score[some] if scored else np.full(len(some), np.nan)
    found = opening(deck.owner[some], deck.answer[some], deck.correct[some], score, len(deck.sizes))
    calibration = policy.calibration or Calibration()
    world = World(np.zeros(1), np.array(policy.prior), calibration, policy.unparsed)
    said = expected_pass(believe(found.rows, world, None if factor is None else factor.astype(np.float64)))
    # Equal evidence is to rank equal, whatever the order of the sums.
    return np.asarray(said.round(9))


def mean_score(deck: Deck, size: int) -> Floats:
    """The verifier's mean score of the first candidates, as Snell et al. predict difficulty, [prompts]."""
    some = np.flatnonzero(first(deck.owner, size) & np.isfinite(deck.score))
    owner, prompts = deck.owner[some], len(deck.sizes)
    total = np.bincount(owner, deck.score[some], minlength=prompts)
    return np.asarray(total / np.maximum(np.bincount(owner, minlength=prompts), 1))


def quality(said: Floats, truth: Truth) -> Floats:
    """The figures named in FIELDS.

    Rank is Spearman's correlation with pass@1; Brier is of single candidates being right; the calibration error is the
    mean distance of predicted and true pass rate over groups of like predictions; the others are shares of prompts.
    """
    rate = truth.rate
    alike = np.ptp(said) == 0.0
    rank = 0.0 if alike else float(np.corrcoef(rankdata(said), rankdata(rate))[0, 1])
    brier = float(np.mean((said - rate) ** 2 + rate * (1.0 - rate)))
    _, predicted, true, share = groups(said, rate)
    bins = [places(one, quantile_edges(one)) for one in (said, rate)]
    bands = [places(one, band_edges(), ABSOLUTE) for one in (said, rate)]
    error = float(np.abs(predicted - true) @ share)
    return np.array([rank, brier, error, float(np.mean(bins[0] == bins[1])), float(np.mean(bands[0] == bands[1]))])


def groups(said: Floats, rate: Floats) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Predictions in groups of like ones: each prompt's group; each group's mean prediction, pass rate and share."""
    place = places(said, quantile_edges(said, GROUPS))
    _, place = np.unique(place, return_inverse=True)
    count = np.bincount(place)
    return place, np.bincount(place, said) / count, np.bincount(place, rate) / count, count / len(said)


def resampled(said: Floats, truth: Truth, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """The figures, and the ends of their 90% intervals by resampling prompts, each [FIELDS].

    The intervals are mirrored at the figure (the basic bootstrap): resampled groups stray further from the diagonal, so
    that plain quantiles of the calibration error would lie above it.
    """
    rng, prompts = np.random.default_rng(seed), len(said)
    rows = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, prompts, prompts)
        rows.append(quality(said[chosen], Truth(truth.rate[chosen])))
    value = quality(said, truth)
    low, high = np.percentile(rows, NINETY, axis=0)
    least = np.array([-1.0, 0.0, 0.0, 0.0, 0.0])
    return value, np.maximum(2.0 * value - high, least), np.minimum(2.0 * value - low, 1.0)
