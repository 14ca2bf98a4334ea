"""Responses: what the objective is expected to be after an arm gives a prompt n more candidates.

`ArmResponse` is the interface the allocator buys by; the responses here are closed forms of the belief, for when no
calibration exists. A fitted response takes their place by implementing the same method.

The vote: the answer will be right if the right one wins the arm's vote. The right one is one of the three leading
answers, one of the others seen, or unseen; against each rival it runs a race (`apportion.difficulty.race`), and the
chance to beat them all is 1 / (1 + odds of losing), where the odds of losing to each are put together as a norm.
The highest score has its own closed form (`apportion.difficulty.highest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import LOGIT, PASS, shifted, sigmoid
from apportion.difficulty.opening import opening
from apportion.difficulty.race import Race, Weights, share_weights
from apportion.difficulty.standing import NEGLIGIBLE, Scene
from apportion.errors import ConfigError, nearest

Floats = NDArray[np.float64]

TOGETHER = 1.5
"""Exponent of the norm. 1 would add the odds, as if the right answer lost to each rival on another occasion; infinity
would count the strongest only, as if it always lost to all at once. 1.5 fits simulated votes within 0.03."""


class ArmResponse(Protocol):
    """The expected objective of prompts after one more purchase of one arm."""

    def value(self, scene: Scene) -> Floats:
        """Expected objective after each amount this response was made for, [rows, amounts]."""
        ...


class VoteResponse:
    """A vote, plain or weighted by scores. `lift` shifts the pass rate; `worth` is one candidate's worth as evidence.

    Candidates that share ancestors come in bundles: n of them are n * worth independent votes of 1 / worth each.
    """

    def __init__(self, select: str, tables: VoteTables, lift: float, worth: float) -> None:
        self._select = select
        self._tables = tables
        self._lift = lift
        self._worth = worth

    def value(self, scene: Scene) -> Floats:
        """Expected accuracy after each amount, [rows, amounts]."""
        tables = self._tables
        at = scene.standing(self._select, tables.race.weights)
        passing = shifted(at.passing, self._lift)
        miss = (1.0 - PASS)[:, None]
        # An answer that has not been seen must first be seen; what follows are the odds given that it is.
        seen = np.ones((*at.chance.shape, len(tables.amounts)))
        seen[:, -1] -= passing[:, -1] @ miss**tables.amounts
        odds = np.zeros_like(seen)
        row, who, rival = np.nonzero(~np.isnan(at.lead))
        for fresh, race in ((False, tables.race), (True, tables.later)):
            mine = (rival == at.lead.shape[2] - 1) == fresh
            one, hypothesis, other = row[mine], who[mine], rival[mine]
            share = share_weights(at.own[one, hypothesis, other], at.others[one, hypothesis, other])
            won = race.win(at.lead[one, hypothesis, other] * self._worth, share, passing[one, hypothesis])
            whole = np.maximum(seen[one, hypothesis], 1e-9)
            if fresh:
                # A new wrong answer has to turn up before it can win.
                stays = 1.0 - miss * at.fresh[one, hypothesis][:, None, None]
                absent = np.einsum("rp,rpk->rk", passing[one, hypothesis], stays**tables.amounts)
                won = absent * whole + (1.0 - absent) * won
            safe = np.clip(won, 1e-9, whole)
            lost = at.rivals[one, hypothesis, other][:, None] * ((whole - safe) / safe) ** TOGETHER
            np.add.at(odds, (one, hypothesis), lost)
        counted = np.where(at.chance > NEGLIGIBLE, at.chance, 0.0)
        value = (counted[..., None] * seen / (1.0 + odds ** (1.0 / TOGETHER))).sum(axis=1)
        if at.empty.any():
            first = np.einsum("kpa,pa->pk", tables.opening, at.collisions)
            value[at.empty] = passing[at.empty, -1] @ first
        return np.asarray(value)


class VoteTables:
    """What votes of some amounts need, made once: the race, the race less one vote, and the opening."""

    def __init__(self, amounts: Floats, weights: Weights) -> None:
        self.amounts = amounts
        self.race = Race(amounts, weights)
        self.later = Race(np.maximum(amounts - 1.0, 0.0), weights)
        self.opening = opening(amounts)


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
