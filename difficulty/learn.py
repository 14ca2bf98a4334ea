"""What a job learns of its verifier and its arms from its own soft labels: score calibration, vote weights, lifts.

A soft label is the belief that an answer is right. Calibration alternates between labels and scores (EM): labels from
the votes alone are so noisy where votes are few that a good verifier would look like a poor one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import Belief, World, believe
from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT
from apportion.difficulty.race import Weights
from apportion.difficulty.scores import Calibration, careful, fit_scores, within_answers
from apportion.difficulty.standing import prompt_mean, scored_candidates

Floats = NDArray[np.float64]

DEFAULT_WEIGHTS = Weights(1.2, 0.4, 0.8, 0.4)
"""Scores of right and wrong candidates in units of their prompt's mean, before any was seen."""
CALIBRATION_STEPS = 5
"""EM steps of the calibration, from the one a job starts with."""
LEAST_WEIGHT, LEAST_WEIGHT_SPREAD = 0.1, 0.05
LIFT_GRID: Floats = np.linspace(-4.0, 4.0, 81)


def fit_calibration(rows: Rows, world: World, text: Floats | None, start: Calibration) -> Calibration:
    """The calibration that the soft labels it leads to favour; `start` is also what it is shrunk to."""
    found = start
    total = np.stack([rows.scored.sum(axis=1), rows.logit.sum(axis=1)], axis=1)
    kin = within_answers(rows.scored, rows.logit, rows.squares[:, 0])
    for _ in range(CALIBRATION_STEPS):
        belief = believe(rows, replace(world, calibration=found), text)
        found = fit_scores(belief.right[:, :-1], rows.scored, rows.logit, total, rows.squares[:, 0], kin, None, start)
    return careful(found)


def fit_weights(rows: Rows, belief: Belief) -> Weights:
    """Mean and spread of the scores of right and of wrong candidates, in units of their prompt's mean score."""
    many = scored_candidates(rows)
    mean = prompt_mean(rows)
    total = np.stack([many.sum(axis=1), many.sum(axis=1)], axis=1)
    start = Calibration(gap=DEFAULT_WEIGHTS.right - DEFAULT_WEIGHTS.wrong, noise=DEFAULT_WEIGHTS.right_sd)
    found = fit_scores(
        belief.right[:, :-1],
        many,
        rows.score / mean[:, None],
        total,
        rows.squares[:, 1] / mean**2,
        within_answers(many, rows.score / mean[:, None], rows.squares[:, 1] / mean**2),
        None,
        start,
    )
    return weights_of(found)


def weights_of(found: Calibration) -> Weights:
    """Vote weights from a calibration of scores in units of their prompt's mean."""
    spread = max(found.noise, LEAST_WEIGHT_SPREAD)
    return Weights(1.0 + 0.5 * found.gap, spread, max(1.0 - 0.5 * found.gap, LEAST_WEIGHT), spread)


def fit_lift(rows: Rows, belief: Belief, arm: int, mean: float, deviation: float) -> float:
    """Posterior mean of an arm's lift in logits, from its candidates' soft labels against the prompts' beliefs.

    The prior is normal(mean, deviation). Pass rate and right answer are taken together, as the joint belief has them.
    """
    if deviation == 0.0:
        return mean
    count, total = rows.count[:, :, arm], rows.total[:, arm]
    hits = np.einsum("rj,rjg->g", count, belief.joint[:, :-1])
    tries = np.einsum("r,rjg->g", total, belief.joint)
    rate = LOGIT[None, :] + LIFT_GRID[:, None]
    log = hits @ -np.logaddexp(0.0, -rate).T + (tries - hits) @ -np.logaddexp(0.0, rate).T
    log = log - 0.5 * ((LIFT_GRID - mean) / deviation) ** 2
    weight = np.exp(log - log.max())
    return float(weight @ LIFT_GRID / weight.sum())
