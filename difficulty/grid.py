"""The grid on which beliefs over pass@1 live: uniform in logit, so that a lift of an arm is a shift along it.

Invariants: `PASS` ascends strictly inside (0, 1); `LOGIT` is uniform with spacing `STEP`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

POINTS = 41
"""A step of 0.35 logits: finer than the evidence of 64 samples can tell apart."""
REACH = 7.0
"""Pass rates from 0.0009 to 0.9991: below, a prompt is hopeless for any amount that is ever bought."""

LOGIT: Floats = np.linspace(-REACH, REACH, POINTS)
STEP = float(LOGIT[1] - LOGIT[0])
PASS: Floats = 1.0 / (1.0 + np.exp(-LOGIT))

SCORE_REACH = 4.0
"""Verifier scores are clipped to 0.018-0.982 before their logit is taken: beyond, a score is loud, not informative."""


def sigmoid(x: ArrayLike) -> Floats:
    """The logistic function, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def score_logit(score: float) -> float:
    """The clipped logit of one verifier score in [0, 1]."""
    safe = min(max(score, 1e-9), 1.0 - 1e-9)
    return float(min(max(np.log(safe / (1.0 - safe)), -SCORE_REACH), SCORE_REACH))


def beta_on_grid(mean: ArrayLike, strength: ArrayLike) -> Floats:
    """Beta(mean * strength, (1 - mean) * strength) as weights on the grid, [..., POINTS], each summing to 1.

    In logit space the density of a Beta(a, b) is p^a (1-p)^b, which has no pole at either end.
    """
    average = np.clip(np.asarray(mean, dtype=np.float64), 1e-3, 1.0 - 1e-3)[..., None]
    size = np.asarray(strength, dtype=np.float64)[..., None]
    log = average * size * np.log(PASS) + (1.0 - average) * size * np.log1p(-PASS)
    weight = np.exp(log - log.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def shifted(weights: Floats, lift: float) -> Floats:
    """The distribution of sigmoid(logit p + lift) where p has `weights` on the grid, [..., POINTS].

    Mass pushed over an end stays at that end; the total is kept.
    """
    if lift == 0.0:
        return weights
    target = np.clip(np.arange(POINTS) + lift / STEP, 0, POINTS - 1)
    low = np.minimum(target.astype(np.int64), POINTS - 2)
    part = target - low
    matrix = np.zeros((POINTS, POINTS))
    matrix[np.arange(POINTS), low] += 1.0 - part
    matrix[np.arange(POINTS), low + 1] += part
    return np.asarray(weights @ matrix)
