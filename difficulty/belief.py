"""From evidence to belief: which of the answers seen is right, if any, and what the pass rate is.

For one prompt with answers seen n_1..n_d times (u unparsed, m in all), pass rate p, and hypothesis j, "answer j is the
right one" (or 0, "the right one has not been seen"):

    P(evidence | p, j) = p^{n_j} (1-p)^{m-n_j}  x  CRP_alpha(the other answers' sizes)  x  P(scores | p, j)

Wrong answers collide as in a Chinese restaurant process: a small concentration alpha means that they tend to agree
(a tempting mistake), a large one that each is wrong in its own way. p and alpha are on grids with a joint prior, which
is fitted to the dataset (`apportion.difficulty.prior`). Arms share the prompt's difficulty: arm a passes at
sigmoid(logit p + lift_a).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT, PASS, POINTS, beta_on_grid
from apportion.difficulty.scores import Calibration, score_likelihood

Floats = NDArray[np.float64]

CONCENTRATIONS: Floats = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
"""From "nearly all wrong answers agree" to "hardly any two do"."""

BASE_CONCENTRATIONS: Floats = np.array([0.05, 0.08, 0.2, 0.27, 0.2, 0.2])
"""About what labelled pools show. Agreement alone cannot tell a shared mistake from a right answer; this can."""
LEAST_LOG = -300.0
"""Scores and votes that contradict each other beyond any doubt must still leave a product above zero."""

BASE_MEAN = 0.5
BASE_STRENGTH = 1.2
"""Before any evidence pass rates are spread with weight at both ends, as they are in every pool we have seen."""


def base_prior() -> Floats:
    """The prior before any evidence, [POINTS, concentrations], summing to 1."""
    over_pass = beta_on_grid(BASE_MEAN, BASE_STRENGTH)
    return np.outer(over_pass, BASE_CONCENTRATIONS)


@dataclass(frozen=True, slots=True)
class World:
    """What is believed of the dataset as a whole. `lifts` are in logits, one an arm, relative to the first arm."""

    lifts: Floats
    prior: Floats = field(default_factory=base_prior)
    calibration: Calibration = field(default_factory=Calibration)
    unparsed: float = 0.05
    """probability that a wrong response has no readable answer"""


@dataclass(frozen=True, slots=True)
class Belief:
    """The posterior of some prompts. Hypothesis `answers` (the last) is "the right answer has not been seen"."""

    joint: Floats
    """probability of hypothesis and pass rate, [rows, answers + 1, POINTS]; sums to 1 over the last two"""
    concentration: Floats
    """expected concentration of the wrong answers under each hypothesis, [rows, answers + 1]"""
    log_evidence: Floats
    """log marginal likelihood of each row's evidence, up to a constant, [rows]"""

    @property
    def right(self) -> Floats:
        """Probability that each answer is the right one, and that none seen is, [rows, answers + 1]."""
        return np.asarray(self.joint.sum(axis=2))

    @property
    def pass_rate(self) -> Floats:
        """Posterior over the first arm's pass@1, [rows, POINTS]."""
        return np.asarray(self.joint.sum(axis=1))


def collisions(votes: Floats) -> Floats:
    """Log probability of the wrong answers' sizes under each hypothesis, [rows, answers + 1, concentrations].

    Ewens' formula with real-valued sizes: alpha^k Gamma(alpha) / Gamma(alpha + N) prod_i Gamma(n_i), answer j left out.
    """
    rows = len(votes)
    size = np.concatenate([votes, np.zeros((rows, 1))], axis=1)
    table = np.where(size > 0, gammaln(np.maximum(size, 1.0)), 0.0)
    seats = np.minimum(size, 1.0)
    others = size.sum(axis=1, keepdims=True) - size
    tables = seats.sum(axis=1, keepdims=True) - seats
    fixed = table.sum(axis=1, keepdims=True) - table
    alpha = CONCENTRATIONS
    log = tables[..., None] * np.log(alpha) + gammaln(alpha) - gammaln(alpha + np.maximum(others, 0.0)[..., None])
    return np.asarray(log + fixed[..., None])


def likelihood(rows: Rows, world: World) -> tuple[Floats, Floats]:
    """Log likelihood of each row's evidence: [rows, answers + 1, POINTS] of p, [rows, answers + 1, concentrations].

    The two add up: sizes of wrong answers depend on the concentration, the rest on p. Empty slots are -inf.
    """
    votes = rows.votes
    count = len(votes)
    own = rows.count @ world.lifts - np.log1p(-world.unparsed) * votes
    own = np.where(votes > 0, own, -np.inf)
    own = np.concatenate([own, np.zeros((count, 1))], axis=1)
    seen = np.concatenate([votes, np.zeros((count, 1))], axis=1)
    miss = -np.logaddexp(0.0, LOGIT[None, :] + world.lifts[:, None])
    over_pass = seen[..., None] * LOGIT + own[..., None] + (rows.total @ miss)[:, None, :]
    if rows.scored.any():
        over_pass = over_pass + score_likelihood(rows, world.calibration)
    return over_pass, collisions(votes)


def believe(rows: Rows, world: World, text: Floats | None = None) -> Belief:
    """The posterior of some prompts. `text` multiplies the prior over p for each prompt, [rows, POINTS]."""
    over_pass, over_alpha = likelihood(rows, world)
    peak_pass = over_pass.max(axis=(1, 2), keepdims=True)
    peak_alpha = over_alpha.max(axis=(1, 2), keepdims=True)
    like = np.exp(np.where(np.isneginf(over_pass), over_pass, np.maximum(over_pass - peak_pass, LEAST_LOG)))
    table = np.exp(np.maximum(over_alpha - peak_alpha, LEAST_LOG))
    joint = like * (table @ world.prior.T)
    if text is not None:
        joint *= text[:, None, :]
    total = joint.sum(axis=(1, 2), keepdims=True)
    joint /= total
    # One concentration stands for all: that under which the next wrong answer repeats one seen as often as expected.
    by_alpha = table * ((like if text is None else like * text[:, None, :]) @ world.prior)
    votes = rows.votes
    everyone = votes.sum(axis=1, keepdims=True)
    seated = np.maximum(np.concatenate([everyone - votes, everyone], axis=1), 1.0)
    repeats = (by_alpha / (seated[..., None] + CONCENTRATIONS)).sum(axis=2) / np.maximum(by_alpha.sum(axis=2), 1e-300)
    concentration = 1.0 / np.maximum(repeats, 1e-6) - seated
    log_evidence = np.log(total[:, 0, 0]) + peak_pass[:, 0, 0] + peak_alpha[:, 0, 0]
    return Belief(joint, np.maximum(concentration, CONCENTRATIONS[0]), log_evidence)


def expected_pass(belief: Belief, lift: float = 0.0) -> Floats:
    """Posterior mean of pass@1 of an arm with this lift, [rows]."""
    rate = PASS if lift == 0.0 else 1.0 / (1.0 + np.exp(-(LOGIT + lift)))
    return np.asarray(belief.pass_rate @ rate)


__all__ = ["CONCENTRATIONS", "POINTS", "Belief", "Calibration", "World", "base_prior", "believe", "expected_pass"]
