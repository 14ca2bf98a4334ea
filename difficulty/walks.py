"""How the evidence of a prompt grows along a fixed sequence of purchases: many walks, real or imagined.

A walk is one prompt with its candidates in one order. After each step of the sequence it stands somewhere: the strength
of the leading answer and of the next, whether the leading one is right, and whether it is the one that leads in the
end. Walks come from recorded candidates (every prompt in several random orders) or from beliefs alone (pass rate and
concentration drawn from a prior); the tables of `apportion.difficulty.stopping` are averages over either, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.grid import PASS
from apportion.difficulty.vote_length import tilted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

FIRST_SINGLES = 12
"""Up to here a sequence goes by one sample at a time."""
GROWTH = 0.1
"""Beyond, each step is a tenth of what was drawn: one sample more or less then hardly moves a vote."""

LEVEL = 1e-9
"""Tilted strengths nearer than this share are equal."""


@dataclass(frozen=True, slots=True)
class Walks:
    """Where each walk stands after each step (0: before any candidate); all but `weight` [walks, steps + 1]."""

    first: Singles
    """strength of the leading answer"""
    second: Singles
    """strength of the next"""
    right: Singles
    """objective if the prompt stopped here: 1 where the leading answer is right"""
    final: Singles
    """1 where the leading answer is the one that leads at the end of the sequence"""
    weight: Floats
    """how many prompts each walk stands for, [walks]"""

    def some(self, chosen: NDArray[np.bool_]) -> Walks:
        """Some of the walks."""
        return Walks(
            self.first[chosen], self.second[chosen], self.right[chosen], self.final[chosen], self.weight[chosen]
        )


def checkpoints(most: int) -> tuple[int, ...]:
    """Amounts after which a sequence of samples of one arm looks again: 1, 2, ..., from 12 on by tenths, to `most`."""
    found, at = [], 0
    while at < most:
        at = min(most, at + max(1, int(at * GROWTH) if at >= FIRST_SINGLES else 1))
        found.append(at)
    return tuple(found)


def walk_votes(
    answers: Ints,
    votes: Floats,
    right: NDArray[np.bool_],
    stops: Sequence[int],
    weight: Floats,
    lengths: Floats | None = None,
) -> Walks:
    """Walks of a vote.

    `answers` numbers each walk's answers from 0, -1 where unparsed, [walks, draws]; `votes` are positive, the same
    shape, the strength each candidate adds; `right` says which of a walk's answers are right, [walks, answers];
    `stops` are the draws after which there is a look. `lengths` is slope x log length of each candidate, where that
    tilts its vote, [walks, draws].
    """
    if lengths is not None:
        return _walk_tilted(answers, votes, votes * lengths, right, stops, weight)
    walks, draws = answers.shape
    strength = np.zeros((walks, right.shape[1]), dtype=np.float32)
    line = np.arange(walks)
    first, second = np.zeros(walks, dtype=np.float32), np.zeros(walks, dtype=np.float32)
    leader = np.full(walks, -1, dtype=np.int64)
    shape = (walks, len(stops) + 1)
    out = {name: np.zeros(shape, dtype=np.float32) for name in ("first", "second", "right")}
    leaders = np.full(shape, -1, dtype=np.int64)
    look = {stop: at for at, stop in enumerate(stops, start=1)}
    for draw in range(draws):
        answer = answers[:, draw]
        voted = answer >= 0
        slot = np.maximum(answer, 0)
        own = strength[line, slot] + np.where(voted, votes[:, draw], 0.0).astype(np.float32)
        strength[line, slot] = own
        leads = voted & (slot == leader)
        passes = voted & ~leads & (own > first)
        second = np.where(passes, first, np.where(voted & ~leads, np.maximum(second, own), second))
        first = np.where(leads | passes, own, first)
        leader = np.where(passes, slot, leader)
        at = look.get(draw + 1)
        if at is not None:
            out["first"][:, at], out["second"][:, at], leaders[:, at] = first, second, leader
            out["right"][:, at] = (leader >= 0) & right[line, np.maximum(leader, 0)]
    final = ((leaders == leaders[:, -1:]) & (leaders >= 0)).astype(np.float32)
    return Walks(out["first"], out["second"], out["right"], final, weight)


def _walk_tilted(
    answers: Ints, votes: Floats, lengths: Floats, right: NDArray[np.bool_], stops: Sequence[int], weight: Floats
) -> Walks:
    """Where strengths depend on all candidates so far, they are worked out anew at every look."""
    walks, width = len(answers), right.shape[1]
    line = np.arange(walks)
    shape = (walks, len(stops) + 1)
    out = {name: np.zeros(shape, dtype=np.float32) for name in ("first", "second", "right")}
    leaders = np.full(shape, -1, dtype=np.int64)
    count, long = np.zeros((walks, width)), np.zeros((walks, width))
    seen_at = np.full((walks, width), answers.shape[1], dtype=np.int64)
    for at, (begin, end) in enumerate(pairwise((0, *stops)), start=1):
        for draw in range(begin, end):
            voted = np.flatnonzero(answers[:, draw] >= 0)
            answer = answers[voted, draw]
            seen_at[voted, answer] = np.minimum(seen_at[voted, answer], draw)
            count[voted, answer] += votes[voted, draw]
            long[voted, answer] += lengths[voted, draw]
        strength = tilted(count, long)
        first = strength.max(axis=1)
        # Of equals the first seen leads.
        equal = np.where(strength >= first[:, None] * (1.0 - LEVEL), seen_at, answers.shape[1] + 1)
        leader = np.where(first > 0.0, equal.argmin(axis=1), -1)
        strength[line, leader] = 0.0
        out["first"][:, at], out["second"][:, at] = first, np.where(leader >= 0, strength.max(axis=1), 0.0)
        leaders[:, at] = leader
        out["right"][:, at] = (leader >= 0) & right[line, np.maximum(leader, 0)]
    final = ((leaders == leaders[:, -1:]) & (leaders >= 0)).astype(np.float32)
    return Walks(out["first"], out["second"], out["right"], final, weight)


def imagine(prior: Floats, unparsed: float, walks: int, draws: int, seed: int) -> tuple[Ints, NDArray[np.bool_], Ints]:
    """Imaginary prompts: answers [walks, draws] (0 is the right one), right [walks, draws], their cell of the prior.

    `prior` is over pass rate and concentration, [POINTS, concentrations]. Wrong answers collide as in a Chinese
    restaurant process: a wrong vote opens a new answer, or repeats a wrong vote drawn before.
    """
    rng = np.random.default_rng(seed)
    cell = rng.choice(prior.size, size=walks, p=prior.ravel() / prior.sum())
    passing, alpha = PASS[cell // prior.shape[1]], CONCENTRATIONS[cell % prior.shape[1]]
    right = rng.random((walks, draws)) < passing[:, None]
    blank = ~right & (rng.random((walks, draws)) < unparsed)
    chance, which = rng.random((walks, draws)), rng.random((walks, draws))
    answers = np.zeros((walks, draws), dtype=np.int64)
    past = np.zeros((walks, draws), dtype=np.int64)
    seated, names = np.zeros(walks, dtype=np.int64), np.ones(walks, dtype=np.int64)
    line = np.arange(walks)
    for draw in range(draws):
        opens = (chance[:, draw] * (alpha + seated) < alpha) | (seated == 0)
        repeated = past[line, (which[:, draw] * np.maximum(seated, 1)).astype(np.int64)]
        answer = np.where(opens, names, repeated)
        wrong = ~right[:, draw] & ~blank[:, draw]
        past[line[wrong], seated[wrong]] = answer[wrong]
        seated += wrong
        names += wrong & opens
        answers[:, draw] = np.where(right[:, draw], 0, np.where(blank[:, draw], -1, answer))
    return answers, right, cell
