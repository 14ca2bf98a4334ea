"""Responses: what the objective is expected to be after an arm gives a prompt n more candidates.

`ArmResponse` is the interface the allocator buys by; the responses here are closed forms of the belief, for when no
calibration exists. A fitted response takes their place by implementing the same method.

The vote: the answer will be right if the right one wins the arm's vote. The right one is one of the three leading
answers, one of the others seen, or unseen; against each rival it runs a race (`apportion.difficulty.race`), and the
chance to beat them all is 1 / (1 + sum of the odds of losing to each): exact for ties, the union bound for long shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import Belief
from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT, PASS, POINTS, shifted, sigmoid
from apportion.difficulty.race import UNSEEN_LEAD, Race, Weights, share_weights
from apportion.errors import ConfigError, nearest

Floats = NDArray[np.float64]

LEADERS = 3
"""Answers followed one by one; the rest run as one group. The fourth answer of a prompt hardly ever ends up first."""
NEGLIGIBLE = 1e-7
"""A hypothesis less probable than this cannot change a purchase."""


class ArmResponse(Protocol):
    """The expected objective of prompts after one more purchase of one arm."""

    def value(self, rows: Rows, belief: Belief) -> Floats:
        """Expected objective after each amount this response was made for, [rows, amounts]."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How the vote of some prompts stands: hypotheses (who is right) and rivals, LEADERS + 2 of each.

    The last two are "the other answers seen" and, for hypotheses, "not seen", for rivals, "a new wrong answer".
    """

    chance: Floats
    """probability of each hypothesis, [rows, hypotheses]"""
    passing: Floats
    """belief over p under each, [rows, hypotheses, POINTS]"""
    lead: Floats
    """votes of the hypothesis less the rival's, [rows, hypotheses, rivals]; nan where there is no such pair"""
    own: Floats
    """Beta parameter of the rival's share of wrong answers, [rows, hypotheses, rivals]"""
    others: Floats
    """the other Beta parameter"""
    rivals: Floats
    """how many rivals of this kind there are, [rows, hypotheses, rivals]"""
    present: Floats
    """probability that the leading answer is right now, [rows]"""
    empty: NDArray[np.bool_]
    """whether no answer has been seen, [rows]"""
    collisions: Floats
    """probability of each concentration given p, before any evidence, [POINTS, concentrations]"""


def standing(rows: Rows, belief: Belief, strength: Floats, prior: Floats) -> Standing:
    """Sort the answers of each prompt by `strength`, their votes in units of one vote, [rows, answers].

    `prior` is the dataset's over pass rate and concentration, [POINTS, concentrations].
    """
    votes = rows.votes
    count, answers = votes.shape
    order = np.argsort(-strength, axis=1, kind="stable")
    width = LEADERS + 1
    if answers < width:
        pad = np.zeros((count, width - answers))
        strength, votes = np.concatenate([strength, pad], axis=1), np.concatenate([votes, pad], axis=1)
        order = np.concatenate([order, np.broadcast_to(np.arange(answers, width), pad.shape)], axis=1)
        parted = np.zeros((count, width + 1, POINTS))
        parted[:, :answers], parted[:, -1] = belief.joint[:, :-1], belief.joint[:, -1]
        joint, alpha = parted, np.concatenate([belief.concentration[:, :-1], pad + 1.0], axis=1)
    else:
        joint, alpha = belief.joint, belief.concentration[:, :-1]
    top = order[:, :width]
    line = np.arange(count)[:, None]
    sizes, marks = votes[line, top], strength[line, top]
    parts = joint[line, top[:, :LEADERS]]
    rest = joint[:, :-1].sum(axis=1) - parts.sum(axis=1)
    passing = np.concatenate([parts, np.maximum(rest, 0.0)[:, None], joint[:, -1:]], axis=1)
    chance = passing.sum(axis=2)
    passing = passing / np.maximum(chance, 1e-300)[..., None]
    concentration = np.concatenate([alpha[line, top], belief.concentration[:, -1:]], axis=1)
    # Hypotheses and rivals in one order: leaders, the rest (as strong as its best), nobody seen so far.
    nothing = np.zeros((count, 1))
    mine = np.concatenate([marks, nothing], axis=1)
    lead = mine[:, :, None] - mine[:, None, :]
    size = np.concatenate([sizes, nothing], axis=1)
    everyone = votes.sum(axis=1)[:, None]
    seats = (everyone - size + concentration)[..., None]
    fresh = (concentration / (1.0 + concentration))[..., None]
    own = np.concatenate([np.broadcast_to(sizes[:, None, :], (count, width + 1, width)), fresh], axis=2)
    own = np.minimum(own, 0.999 * seats)
    tail = np.maximum(1.0, (votes > 0).sum(axis=1) - LEADERS)[:, None]
    rivals = np.ones((count, width + 1, width + 1))
    rivals[:, :, LEADERS] = tail
    rivals[:, LEADERS, LEADERS] = tail[:, 0] - 1.0
    lead[:, width, width] = UNSEEN_LEAD
    real = np.concatenate([sizes > 0, np.ones((count, 1), dtype=bool)], axis=1)
    here = (chance > NEGLIGIBLE)[:, :, None] & real[:, :, None] & real[:, None, :]
    here[:, np.arange(LEADERS), np.arange(LEADERS)] = False
    here &= rivals > 0.0
    tied = (marks >= marks[:, :1] - 1e-9) & (sizes > 0)
    present = (chance[:, :width] * tied).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
    empty = np.asarray(votes.max(axis=1) <= 0)
    here[empty] = False
    given = prior / prior.sum(axis=1, keepdims=True)
    lead = np.where(here, lead, np.nan)
    return Standing(chance, passing, lead, own, seats - own, rivals, present, empty, given)


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """A vote, plain or weighted by scores. `lift` shifts the pass rate; `worth` is one candidate's worth as evidence.

    Candidates that share ancestors come in bundles: n of them are n * worth independent votes of 1 / worth each.
    """

    race: Race
    lift: float
    worth: float

    def after(self, at: Standing) -> Floats:
        """Expected accuracy after each amount, [rows, amounts], from a standing that arms may share."""
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


def strength(rows: Rows, weights: Weights, scores: bool) -> Floats:
    """Votes of each answer in units of one vote, [rows, answers]: summed scores where the vote is weighted by them."""
    if not scores:
        return rows.tally
    unscored = np.maximum(rows.tally - rows.scored, 0.0) if not rows.scored.any() else 0.0
    return np.asarray(rows.score / weights.unit + unscored)


@dataclass(frozen=True, slots=True)
class CoverageResponse:
    """Whether any candidate is right: 1 - (1 - p)^k of what is still unseen. `amounts` are effective samples."""

    amounts: Floats
    lift: float

    def value(self, rows: Rows, belief: Belief) -> Floats:
        unseen = belief.joint[:, -1]
        miss = 1.0 - sigmoid(LOGIT + self.lift)
        return np.asarray(1.0 - unseen @ miss[:, None] ** self.amounts)


OBJECTIVES = ("accuracy", "coverage")


def check_objective(name: str) -> None:
    """Raises ConfigError unless the objective has a response."""
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r} is unknown: {nearest(name, OBJECTIVES)}")


def rounded_amounts(amounts: Sequence[int], worth: float) -> Floats:
    """Effective samples of each amount; a purchase is never worth less than one."""
    return np.maximum(1.0, np.asarray(amounts, dtype=np.float64) * worth)
