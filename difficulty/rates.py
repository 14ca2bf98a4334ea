"""Pass rates from counts of accepted and rejected candidates: posteriors, and what a dataset's counts teach of itself.

Where a checker or a threshold says of every candidate whether it is accepted, nothing is hidden but the rate p. It
lives on the grid; arms share it through lifts in logits: arm a accepts at sigmoid(logit p + lift_a).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import LOGIT
from apportion.difficulty.learn import LIFT_GRID
from apportion.difficulty.prior import PSEUDO_PROMPTS, smooth

Floats = NDArray[np.float64]

STEPS = 15
"""EM steps, as for the prior of votes: stopping early keeps the fit smooth."""


def log_likelihood(accepted: Floats, rejected: Floats, lifts: Floats) -> Floats:
    """Of each row's counts, [rows, arms], at every point of the grid, [rows, POINTS]."""
    rate = LOGIT[None, :] + lifts[:, None]
    return np.asarray(-accepted @ np.logaddexp(0.0, -rate) - rejected @ np.logaddexp(0.0, rate))


def posterior(accepted: Floats, rejected: Floats, lifts: Floats, prior: Floats) -> Floats:
    """Belief over the first arm's rate, [rows, POINTS], rows summing to 1; `prior` is [POINTS] or [rows, POINTS]."""
    log = log_likelihood(accepted, rejected, lifts)
    weight = np.exp(log - log.max(axis=1, keepdims=True)) * prior
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def fit_rates(
    accepted: Floats,
    rejected: Floats,
    prior: Floats,
    lifts: Floats,
    deviations: Floats,
    text: Floats | None = None,
    pseudo: float = PSEUDO_PROMPTS,
) -> tuple[Floats, Floats]:
    """The prior over p, [POINTS], and the lifts, [arms], that the counts of all rows, [rows, arms], favour (EM).

    `prior` counts as `pseudo` prompts; each lift is drawn to its mean in `lifts` by its deviation, and fixed where that
    is 0. `text` multiplies the prior for each row, [rows, POINTS].
    """
    many: Floats = np.ones(len(accepted))
    if text is None:
        # Prompts with equal counts are one with a weight.
        both, times = np.unique(np.concatenate([accepted, rejected], axis=1), axis=0, return_counts=True)
        many = times.astype(np.float64)
        accepted, rejected = both[:, : accepted.shape[1]], both[:, accepted.shape[1] :]
    found, means = prior, lifts
    for _ in range(STEPS):
        belief = posterior(accepted, rejected, lifts, found if text is None else found * text)
        found = smooth(many @ belief) + pseudo * prior
        found = found / found.sum()
        lifts = np.array(
            [
                _lift(many * accepted[:, arm], many * rejected[:, arm], belief, float(means[arm]), float(spread))
                for arm, spread in enumerate(deviations)
            ]
        )
    return np.asarray(found), lifts


def _lift(accepted: Floats, rejected: Floats, belief: Floats, mean: float, deviation: float) -> float:
    """The most probable lift of one arm on the grid of lifts, given where its prompts' rates are believed to be."""
    if deviation == 0.0:
        return mean
    hits, misses = accepted @ belief, rejected @ belief
    rate = LOGIT[None, :] + LIFT_GRID[:, None]
    log = -np.logaddexp(0.0, -rate) @ hits - np.logaddexp(0.0, rate) @ misses
    log = log - 0.5 * ((LIFT_GRID - mean) / deviation) ** 2
    weight = np.exp(log - log.max())
    return float((weight * LIFT_GRID).sum() / weight.sum())
