"""How the vote of a prompt stands: who may be right, who competes, and by how far each is ahead.

The right answer is one of the LEADERS, one of the other answers seen, or one not seen yet; each hypothesis has its own
belief over the pass rate and the rivals' shares. Arms that choose answers alike share a standing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import Belief
from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import POINTS
from apportion.difficulty.race import Weights

Floats = NDArray[np.float64]

LEADERS = 3
"""Answers followed one by one; the rest run as one group. The fourth answer of a prompt hardly ever ends up first."""
NEGLIGIBLE = 1e-7
"""A hypothesis less probable than this cannot change a purchase."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the vote of some prompts stands: hypotheses (who is right) and rivals, LEADERS + 2 of each.

    The last two are "the other answers seen" and, for hypotheses, "not seen", for rivals, "a new wrong answer".
    """

    chance: Floats
    """probability of each hypothesis, [rows, hypotheses]"""
    passing: Floats
    """belief over p under each, [rows, hypotheses, POINTS]"""
    marks: Floats
    """votes (or score) of each hypothesis' answer, [rows, hypotheses]"""
    lead: Floats
    """votes of the hypothesis less the rival's, [rows, hypotheses, rivals]; nan where there is no such pair

    A new wrong answer counts as having its first vote."""
    own: Floats
    """Beta parameter of the rival's share of wrong answers, [rows, hypotheses, rivals]"""
    others: Floats
    """the other Beta parameter"""
    rivals: Floats
    """how many rivals of this kind there are, [rows, hypotheses, rivals]"""
    fresh: Floats
    """share of the wrong candidates that give an answer not seen before, [rows, hypotheses]"""
    present: Floats
    """probability that the leading answer is right now, [rows]"""
    empty: NDArray[np.bool_]
    """whether no answer has been seen, [rows]"""
    collisions: Floats
    """probability of each concentration given p, before any evidence, [POINTS, concentrations]"""


class Scene:
    """Some prompts as they are now, with the standings that several arms ask for worked out once."""

    def __init__(self, rows: Rows, belief: Belief, prior: Floats) -> None:
        self.rows = rows
        self.belief = belief
        self._prior = prior
        self._standings: dict[tuple[str, Weights], Standing] = {}

    def standing(self, select: str, weights: Weights) -> Standing:
        """How the prompts stand for a selector whose votes weigh `weights`."""
        key = (select, weights)
        if key not in self._standings:
            self._standings[key] = standing(self.rows, self.belief, strength(self.rows, select, weights), self._prior)
        return self._standings[key]


def strength(rows: Rows, select: str, weights: Weights) -> Floats:
    """What the selector goes by, for each answer, [rows, answers]: votes, summed scores, or the best score.

    Scores are in units of the prompt's mean score. A candidate without a score votes with the mean, as one vote.
    """
    if select == "majority":
        return rows.tally
    mean = prompt_mean(rows)[:, None]
    if select == "max_score":
        return np.asarray(np.maximum(rows.best, 0.0) / mean)
    return np.asarray(rows.score / mean / weights.unit + rows.tally - scored_candidates(rows))


def scored_candidates(rows: Rows) -> Floats:
    """How many candidates of each answer have a score, [rows, answers]."""
    share = np.divide(rows.scored, rows.votes, out=np.zeros_like(rows.scored), where=rows.votes > 0)
    return np.asarray(rows.tally * np.minimum(share, 1.0))


def prompt_mean(rows: Rows) -> Floats:
    """Mean score of each prompt's scored candidates, [rows]; 1 where there is none.

    A verifier scores all responses to an easy prompt high, so votes are measured in their own prompt's mean.
    """
    many = scored_candidates(rows).sum(axis=1)
    mean = np.divide(rows.score.sum(axis=1), many, out=np.ones_like(many), where=many > 0)
    return np.asarray(np.maximum(mean, 1e-6))


def standing(rows: Rows, belief: Belief, strength: Floats, prior: Floats) -> Standing:
    """Sort the answers of each prompt by `strength`, their votes in units of one vote, [rows, answers].

    `prior` is the dataset's over pass rate and concentration, [POINTS, concentrations]; it speaks for prompts without
    an answer.
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
    own = np.concatenate([sizes, np.ones((count, 1))], axis=1)[:, None, :]
    own = np.minimum(np.broadcast_to(own, (count, width + 1, width + 1)), 0.999 * seats)
    # Once there is a new wrong answer, it has one vote.
    others = seats - own
    others[:, :, width] = seats[:, :, 0]
    fresh = concentration / seats[..., 0]
    tail = np.maximum(1.0, (votes > 0).sum(axis=1) - LEADERS)[:, None]
    rivals = np.ones((count, width + 1, width + 1))
    rivals[:, :, LEADERS] = tail
    rivals[:, LEADERS, LEADERS] = tail[:, 0] - 1.0
    lead[:, :, width] -= 1.0
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
    return Standing(chance, passing, mine, lead, own, others, rivals, fresh, present, empty, given)
