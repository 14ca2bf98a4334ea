"""Responses: what the objective is expected to be after an arm gives a prompt n more candidates.

`ArmResponse` is the interface the allocator buys by; the responses here are closed forms of the belief, for when no
calibration exists. A fitted response takes their place by implementing the same method.

The vote: the answer will be right if the right one wins the arm's vote. The right one is one of the three leading
answers, one of the others seen, or unseen; against each rival it runs a race (`apportion.difficulty.race`), and the
chance to beat them all is 1 / (1 + sum of the odds of losing to each): exact for ties, the union bound for long shots.
The highest score has its own closed form (`apportion.difficulty.highest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import LOGIT, PASS, shifted, sigmoid
from apportion.difficulty.race import UNSEEN_LEAD, Race, share_weights
from apportion.difficulty.standing import NEGLIGIBLE, Scene
from apportion.errors import ConfigError, nearest

Floats = NDArray[np.float64]


class ArmResponse(Protocol):
    """The expected objective of prompts after one more purchase of one arm."""

    def value(self, scene: Scene) -> Floats:
        """Expected objective after each amount this response was made for, [rows, amounts]."""
        ...


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """A vote, plain or weighted by scores. `lift` shifts the pass rate; `worth` is one candidate's worth as evidence.

    Candidates that share ancestors come in bundles: n of them are n * worth independent votes of 1 / worth each.
    """

    select: str
    race: Race
    lift: float
    worth: float

    def value(self, scene: Scene) -> Floats:
        """Expected accuracy after each amount, [rows, amounts]."""
        at = scene.standing(self.select, self.race.weights)
        pairs = np.nonzero(~np.isnan(at.lead))
        passing = shifted(at.passing, self.lift)
        won = self.race.win(
            np.where(at.lead[pairs] == UNSEEN_LEAD, UNSEEN_LEAD, at.lead[pairs] * self.worth),
            share_weights(at.own[pairs], at.others[pairs]),
            passing[pairs[0], pairs[1]],
        )
        # An answer that has not been seen must first be seen; what follows are the odds given that it is.
        seen = np.ones((*at.chance.shape, won.shape[1]))
        seen[:, -1] -= passing[:, -1] @ (1.0 - PASS)[:, None] ** self.race.amounts
        whole = np.maximum(seen[pairs[0], pairs[1]], 1e-9)
        safe = np.clip(won, 1e-9, whole)
        odds = np.zeros_like(seen)
        np.add.at(odds, (pairs[0], pairs[1]), at.rivals[pairs][:, None] * (whole - safe) / safe)
        counted = np.where(at.chance > NEGLIGIBLE, at.chance, 0.0)
        value = (counted[..., None] * seen / (1.0 + odds)).sum(axis=1)
        if at.empty.any():
            first = np.einsum("kpa,pa->pk", self.race.opening, at.collisions)
            value[at.empty] = passing[at.empty, -1] @ first
        return np.asarray(value)


@dataclass(frozen=True, slots=True)
class CoverageResponse:
    """Whether any candidate is right: 1 - (1 - p)^k of what is still unseen. `amounts` are effective samples."""

    amounts: Floats
    lift: float

    def value(self, scene: Scene) -> Floats:
        unseen = scene.belief.joint[:, -1]
        miss = 1.0 - sigmoid(LOGIT + self.lift)
        return np.asarray(1.0 - unseen @ miss[:, None] ** self.amounts)


OBJECTIVES = ("accuracy", "coverage")


def check_objective(name: str) -> None:
    """Raises ConfigError unless the objective has a response."""
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r} is unknown: {nearest(name, OBJECTIVES)}")
