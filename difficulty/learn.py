"""What a job learns of its verifier and its arms from its own soft labels: score calibration, vote weights, lifts.

A soft label is the belief that an answer is right. Calibration alternates between labels and scores (EM): labels from
the votes alone are so noisy where votes are few that a good verifier would look like a poor one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import Belief, Calibration, World, believe
from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT
from apportion.difficulty.race import Weights

Floats = NDArray[np.float64]

DEFAULT = Calibration()
DEFAULT_WEIGHTS = Weights(0.6, 0.25, 0.4, 0.25)
"""Scores of right and wrong candidates before any was seen: a verifier that is better than nothing."""
PSEUDO_CANDIDATES = 100.0
"""The default calibration counts as this many scored candidates."""
MOST_SLOPE = 1.5
"""A slope well above 1 would say that a verifier is far less certain than it should be; votes cannot show that."""
CALIBRATION_STEPS = 5
"""EM steps of the calibration, from the default."""
LIFT_GRID: Floats = np.linspace(-4.0, 4.0, 81)


@dataclass(frozen=True, slots=True)
class ScoreTotals:
    """Sums over all scored candidates of a job: how many, scores squared, logits squared."""

    count: float = 0.0
    score_squares: float = 0.0
    logit_squares: float = 0.0


def _halves(sums: Floats, rows: Rows, belief: Belief) -> tuple[float, float, float, float]:
    """Mass and mean of `sums` over right and over wrong scored candidates, by soft labels."""
    right = belief.right[:, :-1]
    many, few = float((rows.scored * right).sum()), float((rows.scored * (1.0 - right)).sum())
    above, below = float((sums * right).sum()), float((sums * (1.0 - right)).sum())
    return many, above / max(many, 1e-9), few, below / max(few, 1e-9)


def fit_calibration(
    rows: Rows, world: World, text: Floats | None, totals: ScoreTotals, start: Calibration = DEFAULT
) -> Calibration:
    """The calibration that the soft labels it leads to favour; `start` is also what it is shrunk to."""
    found = start
    for _ in range(CALIBRATION_STEPS):
        found = _calibrated(rows, believe(rows, replace(world, calibration=found), text), totals, start)
    return found


def _calibrated(rows: Rows, belief: Belief, totals: ScoreTotals, start: Calibration) -> Calibration:
    """Two normals of equal variance on the score's logit, right and wrong: their log ratio is a line."""
    many, above, few, below = _halves(rows.logit, rows, belief)
    if many < 1.0 or few < 1.0 or totals.count < 1.0:
        return start
    mean = (many * above + few * below) / (many + few)
    between = many * few / (many + few) ** 2 * (above - below) ** 2
    within = max(totals.logit_squares / totals.count - mean**2 - between, 0.05)
    slope = min(max((above - below) / within, 0.0), MOST_SLOPE)
    middle = 0.5 * (above + below)
    # The rarer half limits what the data can say.
    trust = min(many, few) / (min(many, few) + PSEUDO_CANDIDATES)
    bias = -slope * middle
    return Calibration(
        trust * slope + (1.0 - trust) * start.slope,
        trust * bias + (1.0 - trust) * start.bias,
    )


def fit_weights(rows: Rows, belief: Belief, totals: ScoreTotals) -> Weights:
    """Mean and spread of the scores of right and of wrong candidates, for a vote weighted by scores."""
    many, above, few, below = _halves(rows.score, rows, belief)
    if totals.count < 1.0 or many + few < 1.0:
        return DEFAULT_WEIGHTS
    trust = many / (many + 20.0), few / (few + 20.0)
    mean = (many * above + few * below) / (many + few)
    right = trust[0] * above + (1.0 - trust[0]) * min(1.0, 1.2 * mean)
    wrong = trust[1] * below + (1.0 - trust[1]) * 0.8 * mean
    between = many * few / (many + few) ** 2 * (above - below) ** 2
    spread = float(np.sqrt(max(totals.score_squares / totals.count - mean**2 - between, 1e-4)))
    return Weights(max(right, 0.02), spread, max(wrong, 0.02), spread)


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
