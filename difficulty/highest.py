"""The candidate with the highest score wins: what k more candidates do to that, in closed form.

Scores of right candidates are drawn from one distribution and those of wrong ones from another. With pass rate p,
all k more right ones stay below t and all wrong ones below u with probability (p F_right(t) + (1-p) F_wrong(u))^k.
The right answer, whose best score is b, beats rivals, whose best is o, if nobody passes b (and b > o), or if a new
right candidate passes both and every wrong one. Both are sums over a grid of scores, tabulated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from apportion.difficulty.grid import PASS, shifted
from apportion.difficulty.race import Weights
from apportion.difficulty.standing import Scene

Floats = NDArray[np.float64]

SCORE_POINTS = 129
MOST_SCORE = 4.0
"""Scores in units of their prompt's mean, from 0 to 4 in steps of 1/32: far below the spread of any verifier."""
EDGES: Floats = np.linspace(0.0, MOST_SCORE, SCORE_POINTS)


class Heights:
    """The tables for some amounts, which are effective samples, [amounts]."""

    def __init__(self, amounts: Floats, weights: Weights) -> None:
        self.amounts = amounts
        self.weights = weights
        right = _distribution(weights.right, weights.right_sd)
        wrong = _distribution(weights.wrong, weights.wrong_sd)
        middle = np.interp(np.arange(SCORE_POINTS - 1) + 0.5, np.arange(SCORE_POINTS), wrong)
        p = PASS[None, :, None]
        power = amounts[:, None, None]
        above = (p * right[1:] + (1.0 - p) * middle) ** power - (p * right[:-1] + (1.0 - p) * middle) ** power
        last = np.zeros((len(amounts), len(PASS), 1))
        over = np.concatenate([np.cumsum(above[:, :, ::-1], axis=2)[:, :, ::-1], last], axis=2)
        self.passed = np.ascontiguousarray(np.moveaxis(over, 2, 0))
        """P(a new right candidate ends highest, above this edge), [SCORE_POINTS, amounts, POINTS]"""
        self.kept = np.ascontiguousarray(np.moveaxis((p * right + (1.0 - p) * wrong) ** power, 2, 0))
        """P(no new candidate is above this edge), [SCORE_POINTS, amounts, POINTS]"""


def _distribution(mean: float, deviation: float) -> Floats:
    """P(score <= edge), [SCORE_POINTS], of a normal kept inside the grid."""
    found = ndtr((EDGES - mean) / max(deviation, 1e-3))
    return np.asarray((found - found[0]) / max(float(found[-1] - found[0]), 1e-9))


@dataclass(frozen=True, slots=True)
class HighestResponse:
    """Expected accuracy where the arm's selector is max_score. `lift` shifts the pass rate."""

    heights: Heights
    lift: float

    def value(self, scene: Scene) -> Floats:
        """Expected accuracy after each amount, [rows, amounts]."""
        at = scene.standing("max_score", self.heights.weights)
        own = at.marks
        other = np.broadcast_to(own[:, :1], own.shape).copy()
        other[:, 0] = own[:, 1]
        passing = shifted(at.passing, self.lift)
        bar = _edge(np.maximum(own, other))
        won = np.einsum("rhkp,rhp->rhk", self.heights.passed[bar], passing)
        # Of equal best scores each is the answer as often as any other.
        stands = np.where(own > other, 1.0, np.where((own == other) & (own > 0.0), 0.5, 0.0))
        kept = np.einsum("rhkp,rhp->rhk", self.heights.kept[_edge(own)], passing)
        return np.asarray((at.chance[..., None] * (won + stands[..., None] * kept)).sum(axis=1))


def _edge(score: Floats) -> NDArray[np.int64]:
    return np.clip(np.rint(score * (SCORE_POINTS - 1) / MOST_SCORE), 0, SCORE_POINTS - 1).astype(np.int64)
