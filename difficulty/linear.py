"""A prior over pass@1 from a few numbers that are known of each prompt beforehand: ridge regression, plain numbers.

Its output is the mean of a Beta on the grid, whose strength is chosen by likelihood on held-out folds, so that numbers
that tell little say little. What it says of a prompt is relative to what it says on average: it multiplies the prior
of the dataset, whatever that is. Restored from JSON exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import PASS, POINTS, beta_on_grid

Floats = NDArray[np.float64]

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
STRENGTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0)
FOLDS = 5
SURE = 0.5
"""A model is taken where it gains so many standard errors on prompts that it was neither fitted nor chosen on."""
FEWEST_PROMPTS = 10 * FOLDS
"""Folds of fewer prompts than ten tell no penalty from another."""
LEAST_MEAN, MOST_MEAN = 0.02, 0.98
"""No prompt is taken to be solved or hopeless before it was tried."""

LEAST_WEIGHT = 1e-30
"""Nothing is ruled out beforehand, nor by the rounding of 32 bits."""


@dataclass(frozen=True, slots=True)
class LinearPrior:
    """A linear model on standardised columns. `strength` is how many candidates what it says is worth."""

    center: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    strength: float
    average: tuple[float, ...]
    """mean over the training prompts of the prior each is given, [POINTS]: what is said of one is relative to it"""

    @property
    def numbers(self) -> dict[str, Any]:
        """Its fields, for a model that is this one of certain columns."""
        return {field.name: getattr(self, field.name) for field in fields(LinearPrior)}

    def said(self, columns: Floats) -> Floats:
        """Predicted pass@1, [rows]; `columns` are [rows, width]."""
        standard = (columns - np.array(self.center)) / np.array(self.scale)
        found = standard @ np.array(self.coefficients) + self.intercept
        return np.asarray(np.clip(found, LEAST_MEAN, MOST_MEAN))

    def weigh(self, said: Floats) -> NDArray[np.float32]:
        """What each prediction multiplies the dataset's prior by, [rows, POINTS]; nan, which says nothing, by 1."""
        given = beta_on_grid(np.nan_to_num(said, nan=0.5), self.strength) / np.array(self.average)
        return np.asarray(np.where(np.isnan(said)[:, None], 1.0, np.maximum(given, LEAST_WEIGHT)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class LinearFit:
    """What a fit found: the model, and the mean held-out log likelihood of a prompt's candidates with it and without.

    The model is None where it does not beat the dataset's prior on prompts it was not fitted on.
    """

    model: LinearPrior | None
    with_it: float
    without: float


def fit_linear(columns: Floats, right: Floats, tried: Floats, prior: Floats) -> LinearFit:
    """Fit to prompts of whose `tried` candidates `right` were right; `prior` is the dataset's, [POINTS]."""
    from sklearn.model_selection import KFold

    log = right[:, None] * np.log(PASS) + (tried - right)[:, None] * np.log1p(-PASS)
    # Thousands of candidates are too unlikely for a float: each prompt's likelihoods are relative to its largest.
    peak = log.max(axis=1)
    like = np.exp(log - peak[:, None])
    each = np.log(like @ prior)
    plain = float((each + peak).mean())
    if len(columns) < FEWEST_PROMPTS:
        return LinearFit(None, plain, plain)
    center, scale = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-6)
    standard = (columns - center) / scale
    target = (right + 0.5) / (tried + 1.0)
    held = np.empty((len(PENALTIES), len(columns)))
    folds = list(KFold(FOLDS, shuffle=True, random_state=0).split(standard))
    for train, test in folds:
        for at, (coefficients, intercept) in enumerate(ridge(standard[train], target[train], tried[train], PENALTIES)):
            held[at, test] = standard[test] @ coefficients + intercept
    tried_settings, scores = [], []
    for penalty, said in zip(PENALTIES, held, strict=True):
        for strength in STRENGTHS:
            given = beta_on_grid(np.clip(said, LEAST_MEAN, MOST_MEAN), strength)
            mixed = given / given.mean(axis=0) * prior
            mixed /= mixed.sum(axis=1, keepdims=True)
            tried_settings.append((penalty, strength))
            scores.append(np.log((like * mixed).sum(axis=1)))
    gains = np.array(scores) - each
    # The best of many settings is the luckiest, too: what it gains is told on folds that had no part in the choice.
    honest = np.empty(len(columns))
    for train, test in folds:
        honest[test] = gains[gains[:, train].mean(axis=1).argmax(), test]
    gain, error = float(honest.mean()), float(honest.std(ddof=1) / np.sqrt(len(honest)))
    if gain <= SURE * error:
        return LinearFit(None, plain, plain)
    penalty, strength = tried_settings[int(gains.mean(axis=1).argmax())]
    ((coefficients, intercept),) = ridge(standard, target, tried, [penalty])
    told = tuple(map(float, coefficients))
    model = LinearPrior(tuple(center.tolist()), tuple(scale.tolist()), told, intercept, strength, (1.0,) * POINTS)
    average = beta_on_grid(model.said(columns), strength).mean(axis=0)
    return LinearFit(replace(model, average=tuple(average.tolist())), plain + gain, plain)


def ridge(columns: Floats, target: Floats, weight: Floats, penalties: Sequence[float]) -> list[tuple[Floats, float]]:
    """Weighted ridge regression, intercept unpenalised: coefficients and intercept for each penalty.

    One eigendecomposition serves all of them.
    """
    share = weight / weight.sum()
    center, level = share @ columns, float(share @ target)
    inside = (columns - center) * np.sqrt(weight)[:, None]
    values, vectors = np.linalg.eigh(inside.T @ inside)
    along = vectors.T @ (inside.T @ ((target - level) * np.sqrt(weight)))
    found = [vectors @ (along / (np.maximum(values, 0.0) + penalty)) for penalty in penalties]
    return [(coefficients, level - float(center @ coefficients)) for coefficients in found]
