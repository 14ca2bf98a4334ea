"""Choosing one answer from a prompt's candidates: majority, weighted vote, max score.

Invariants: the choice does not depend on the order of the candidates; ties go to the answer whose candidates have the
higher total score, then to the one seen first (lowest `Candidate.index`); a candidate without an answer never wins,
but counts in the denominator of `Choice.confidence`. Each candidate votes once, as in the papers: `Draft.weight` is
evidence about difficulty and no part of the vote. A candidate without a score votes with the mean score of those that
have one; where none has, or all scores are 0, the weighted vote and max score are the majority.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from apportion.policies.arm import Choice
from apportion.types import Candidate

NOTHING = Choice(answer=None, confidence=0.0)

PREDICTED_AS: Mapping[str, str] = {"borda": "majority", "hierarchical": "weighted"}
"""Selectors whose choice is predicted as another's, the nearest that beliefs have a form for: self-certainty is known
of a candidate only once it is there."""


def majority(candidates: Sequence[Candidate]) -> Choice:
    """The most frequent answer (self-consistency, Wang et al. 2022, arXiv 2203.11171)."""
    groups = _groups(candidates)
    if not groups:
        return NOTHING
    totals = {answer: _total(group) for answer, group in groups.items()}
    answer = min(groups, key=lambda a: (-len(groups[a]), -totals[a], _first(groups[a])))
    return _choice(candidates, answer, len(groups[answer]) / len(candidates))


def weighted(candidates: Sequence[Candidate]) -> Choice:
    """The answer with the highest sum of scores (best-of-n weighted, Li et al. 2023; Snell et al. 2024)."""
    groups = _groups(candidates)
    scores = _imputed(candidates)
    if not groups or scores is None:
        return majority(candidates)
    shares = {answer: math.fsum(scores[c.index] for c in group) for answer, group in groups.items()}
    answer = min(groups, key=lambda a: (-shares[a], _first(groups[a])))
    return _choice(candidates, answer, shares[answer] / math.fsum(scores[c.index] for c in candidates))


def max_score(candidates: Sequence[Candidate]) -> Choice:
    """The answer of the candidate with the highest score; its confidence is that answer's share of all scores."""
    groups = _groups(candidates)
    scores = _imputed(candidates)
    if not groups or scores is None:
        return majority(candidates)
    shares = {answer: math.fsum(scores[c.index] for c in group) for answer, group in groups.items()}
    tops = {answer: max(scores[c.index] for c in group) for answer, group in groups.items()}
    answer = min(groups, key=lambda a: (-tops[a], -shares[a], _first(groups[a])))
    return _choice(candidates, answer, shares[answer] / math.fsum(scores[c.index] for c in candidates))


def predicted_as(name: str) -> str:
    """The selector by which the choice of the selector of this name is predicted."""
    return PREDICTED_AS.get(name, name)


def choice_of(candidates: Sequence[Candidate], answer: str) -> Choice:
    """An answer that was chosen elsewhere, with its share of the candidates as its confidence."""
    return _choice(candidates, answer, sum(candidate.answer == answer for candidate in candidates) / len(candidates))


def _groups(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.answer is not None:
            groups.setdefault(candidate.answer, []).append(candidate)
    return groups


def _first(group: Sequence[Candidate]) -> int:
    return min(candidate.index for candidate in group)


def _total(group: Sequence[Candidate]) -> float:
    return math.fsum(candidate.score for candidate in group if candidate.score is not None)


def _imputed(candidates: Sequence[Candidate]) -> dict[int, float] | None:
    """Candidate index to score, the mean standing in for missing ones; None where there is nothing to weigh by."""
    known = [candidate.score for candidate in candidates if candidate.score is not None]
    total = math.fsum(known)
    if total <= 0.0 or not any(c.answer is not None and c.score != 0.0 for c in candidates):
        return None
    mean = total / len(known)
    return {c.index: mean if c.score is None else c.score for c in candidates}


def _choice(candidates: Sequence[Candidate], answer: str, confidence: float) -> Choice:
    holders = [at for at, candidate in enumerate(candidates) if candidate.answer == answer]
    best = min(holders, key=lambda at: (-(candidates[at].score or 0.0), candidates[at].index))
    return Choice(answer, min(1.0, confidence), best)
