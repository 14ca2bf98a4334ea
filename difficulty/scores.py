"""What a verifier's scores say, in logits: a level of the prompt, a gap between right and wrong, and noise.

A verifier scores all responses to an easy prompt high, right or not, so scores of different prompts cannot be compared
as they are. For prompt i and candidate c

    logit(score_ic) = level_i + gap [c is right] + noise,    level_i = center + slope logit(p_i) + spread

which splits into what the scores say within a prompt (which answer is right: its candidates against the others) and
what their mean says (how hard the prompt is). All three are estimated from sums, so that labels may be soft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT

Floats = NDArray[np.float64]

PSEUDO_SCORES = 20.0
"""The starting calibration counts as this many scored candidates (or contrasts, or prompts)."""
LEAST_NOISE, LEAST_SPREAD = 0.3, 0.4
"""No verifier is believed to be more exact than this, in logits."""
PARTIALITY = 4.0
"""Added caution of a verifier whose noise is all in the answer: it likes wrong answers as firmly as right ones, and
soft labels would call right what it likes. Labels (`apportion fit`) ask for no less on lab's pool."""
SOFT_SPREAD = 1.0
"""Levels are believed to differ at least this much without labels: votes cannot tell a verifier that is hard to please
from a dataset that is hard, so the level may not say much."""
MOST_GAP = 4.0
CAUTION = 0.5
"""Added caution of a verifier whose gap equals its noise. One that is not much better than chance is believed little:
its errors go with the errors of the policy model, which soft labels do not show."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """See the module; the defaults are an uncalibrated verifier that is somewhat better than nothing."""

    gap: float = 1.0
    noise: float = 1.4
    center: float = -0.5
    slope: float = 0.0
    spread: float = 1.5
    kinship: float = 0.3
    """correlation of the noise among candidates with the same answer: a verifier that likes one likes its kin"""
    caution: float = 1.0
    """what the scores say within a prompt is divided by this: a verifier errs most where answers are hardest to tell"""


def score_likelihood(rows: Rows, calibration: Calibration) -> Floats:
    """Log likelihood of the scores given which answer is right and p, [rows, answers + 1, POINTS]."""
    gap, noise2 = calibration.gap, calibration.noise**2
    own, sums = rows.scored, rows.logit
    every = own.sum(axis=1, keepdims=True)
    safe = np.maximum(every, 1e-9)
    mean = sums.sum(axis=1, keepdims=True) / safe
    within = gap / noise2 * (sums - own * mean) - 0.5 * gap**2 / noise2 * own * (every - own) / safe
    within = within / (calibration.caution * (1.0 + calibration.kinship * np.maximum(own - 1.0, 0.0)))
    nobody = np.zeros((len(own), 1))
    within = np.concatenate([within, nobody], axis=1)
    level = mean - gap * np.concatenate([own, nobody], axis=1) / safe
    variance = calibration.spread**2 + noise2 / np.maximum(every, 1.0)
    expected = calibration.center + calibration.slope * LOGIT
    between = -0.5 * (level[..., None] - expected) ** 2 / variance[..., None]
    return np.asarray(within[..., None] + np.where(every[..., None] > 0.0, between, 0.0))


def fit_scores(
    chance: Floats,
    own: Floats,
    sums: Floats,
    total: Floats,
    squares: Floats,
    kin: Floats,
    passing: Floats | None,
    start: Calibration,
) -> Calibration:
    """The calibration from sums over each prompt's scores.

    `chance` that hypothesis h is true, `own` and `sums`: number and sum of the scores that are then right, all
    [prompts, hypotheses]; `total` number and sum of all scores, [prompts, 2]; `squares` their sum of squares,
    [prompts]; `kin` what of these is left within answers, and its degrees of freedom, [prompts, 2];
    `passing` the logit of the pass rate, [prompts], where labels tell it: None keeps the slope, because a slope fitted
    to beliefs that it has shaped feeds on itself.
    """
    some = total[:, 0] > 0.0
    chance, own, sums, total, squares, kin = (part[some] for part in (chance, own, sums, total, squares, kin))
    if not len(total):
        return start
    every, mean = total[:, :1], total[:, 1:] / total[:, :1]
    pairs = float((chance * own * (every - own) / every).sum())
    contrast = float((chance * (sums - own * mean)).sum())
    gap = (contrast + PSEUDO_SCORES * start.gap) / (pairs + PSEUDO_SCORES)
    gap = min(max(gap, 0.0), MOST_GAP)
    inside = float((squares - total[:, 1] ** 2 / total[:, 0]).sum()) - 2.0 * gap * contrast + gap**2 * pairs
    free = float(np.maximum(total[:, 0] - 1.0, 0.0).sum())
    noise2 = (max(inside, 0.0) + PSEUDO_SCORES * start.noise**2) / (free + PSEUDO_SCORES)
    level = mean[:, 0] - gap * (chance * own / every).sum(axis=1)
    trust = len(level) / (len(level) + PSEUDO_SCORES)
    slope, along = start.slope, np.zeros(len(level))
    if passing is not None:
        along = passing[some]
        middle = along - along.mean()
        slope = float((middle * level).sum() / ((middle**2).sum() + PSEUDO_SCORES))
    center = float(level.mean() - slope * along.mean())
    rest = float(((level - center - slope * along) ** 2).mean()) - noise2 * float((1.0 / np.maximum(every, 1.0)).mean())
    spread2 = trust * max(rest, 0.0) + (1.0 - trust) * start.spread**2
    return Calibration(
        gap,
        max(float(np.sqrt(noise2)), LEAST_NOISE),
        trust * center + (1.0 - trust) * start.center,
        slope if passing is None else trust * slope + (1.0 - trust) * start.slope,
        max(float(np.sqrt(spread2)), LEAST_SPREAD),
        _kinship(kin, inside, free, start.kinship),
        start.caution,
    )


def _kinship(kin: Floats, inside: float, free: float, start: float) -> float:
    """Share of the noise within prompts that candidates with the same answer have in common."""
    alone, degrees = float(kin[:, 0].sum()), float(kin[:, 1].sum())
    if free <= 0.0 or inside <= 0.0:
        return start
    share = 1.0 - min(1.0, (alone / max(degrees, 1e-9)) / (inside / free))
    trust = degrees / (degrees + PSEUDO_SCORES)
    return trust * share + (1.0 - trust) * start


def within_answers(many: Floats, sums: Floats, squares: Floats) -> Floats:
    """Sum of squares within answers and its degrees of freedom, [prompts, 2], from [prompts, answers] and [prompts]."""
    mean_squares = np.divide(sums**2, many, out=np.zeros_like(sums), where=many > 0)
    left = np.maximum(squares - mean_squares.sum(axis=1), 0.0)
    return np.stack([left, np.maximum(many - 1.0, 0.0).sum(axis=1)], axis=1)


def careful(found: Calibration) -> Calibration:
    """With the caution that a calibration from soft labels deserves: the more, the weaker and the more partial."""
    caution = (1.0 + CAUTION * found.noise / max(found.gap, 0.05)) * (1.0 + PARTIALITY * found.kinship)
    return replace(found, caution=caution, spread=max(found.spread, SOFT_SPREAD))
