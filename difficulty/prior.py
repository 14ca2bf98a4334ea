"""The prior of a dataset, fitted to its own evidence by EM over the grid (empirical Bayes).

Each step spreads every prompt's posterior over (p, concentration), sums, smooths along p (the EMS variant, Silverman
et al. 1990) and adds the base prior as pseudo-prompts, so that a few prompts do not make a spike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import World, base_prior, likelihood
from apportion.difficulty.evidence import Rows

Floats = NDArray[np.float64]

PSEUDO_PROMPTS = 10.0
"""The base prior counts as this many prompts: forgotten once a hundred have been seen, a guard before."""
STEPS = 15
"""EM steps. The mean pass rate and the concentration trade off along a nearly flat ridge of the likelihood: stopping
early keeps the fit near the base prior along it, and starting afresh makes it independent of when it is called."""
MARGIN_STEPS = 3
"""Rounds of proportional fitting; one is exact where p and concentration are independent, as in the base prior."""
TRAINED_PSEUDO_PROMPTS = 100.0
"""A base prior fitted on labels counts as this many: a job's own votes may correct it, slowly."""
SMOOTHING = 0.25
"""Share of a cell's mass that each smoothing step gives to either neighbour along p."""


def smooth(prior: Floats) -> Floats:
    """Spread mass to both neighbours along p, kept inside the grid, [POINTS, ...]."""
    padded = np.concatenate([prior[:1], prior, prior[-1:]])
    return np.asarray((1.0 - 2.0 * SMOOTHING) * prior + SMOOTHING * (padded[:-2] + padded[2:]))


def fit_prior(
    rows: Rows,
    world: World,
    text: Floats | None = None,
    base: Floats | None = None,
    pseudo: float = PSEUDO_PROMPTS,
) -> Floats:
    """The prior over p and concentration that the evidence of `rows` favours, [POINTS, concentrations].

    Only its two margins are fitted; p and concentration go together as in `base`, which counts as `pseudo` prompts.
    Were the two free, prompts with one shared wrong answer each would explain agreement as well as right answers do.
    """
    over_pass, over_alpha = likelihood(rows, world)
    like = np.exp(over_pass - over_pass.max(axis=(1, 2), keepdims=True))
    table = np.exp(over_alpha - over_alpha.max(axis=(1, 2), keepdims=True))
    cells = np.swapaxes(like, 1, 2) @ table
    if text is not None:
        cells *= text[:, :, None]
    flat = cells.reshape(len(cells), -1)
    start = base_prior() if base is None else base
    prior = start
    for _ in range(STEPS):
        inverse = 1.0 / np.maximum(flat @ prior.ravel(), 1e-300)
        seen = prior * (inverse @ flat).reshape(prior.shape)
        total = smooth(seen) + pseudo * start
        total = total / total.sum()
        prior = _with_margins(start, total.sum(axis=1), total.sum(axis=0))
    return np.asarray(prior)


def _with_margins(start: Floats, over_pass: Floats, over_alpha: Floats) -> Floats:
    """The distribution nearest to `start` with these margins, by iterative proportional fitting."""
    found = start
    for _ in range(MARGIN_STEPS):
        found = found * (over_pass / np.maximum(found.sum(axis=1), 1e-300))[:, None]
        found = found * (over_alpha / np.maximum(found.sum(axis=0), 1e-300))
    return np.asarray(found / found.sum())
