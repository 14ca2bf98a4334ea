"""Borda voting by self-certainty: the surer the model was while it wrote a response, the more its answer weighs.

Kang et al. 2025 (arXiv 2502.18581, "Scalable Best-of-N Selection for Large Language Models via Self-Certainty"): of N
candidates ranked by self-certainty the one of rank r gives its answer (N - r + 1)^p votes. p = 0 is the majority, and a
large p the answer of the surest. The paper's best is p = 0.3 up to N = 16 and 1.2 from N = 32 on; between the two p is
on the straight line here. No verifier is read.

Invariants and choices:
- Candidates that are equally sure share the votes of their ranks, so that their order does not matter. One without
  statistics has the mean vote of those that have them; where none has any the vote is the majority.
- Ties and what was not parsed are as in `apportion.policies.selectors`.
- Where an engine sees a top-k of the vocabulary (`LogprobStats.exact` False) self-certainty is an approximation from
  below. It is one model's measure: between candidates of different models ranks mean little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from apportion.policies.arm import Choice
from apportion.policies.selectors import NOTHING, majority
from apportion.types import Candidate

FEW, FEW_EXPONENT = 16, 0.3
MANY, MANY_EXPONENT = 32, 1.2
"""Kang et al., section 4: up to 16 candidates a gentle ranking does best, and from 32 on a steep one."""


def borda(candidates: Sequence[Candidate], p: float | None = None) -> Choice:
    """The answer with the most votes by rank of self-certainty; `p` None goes by the number of candidates."""
    votes = votes_of(candidates, p)
    if votes is None:
        return majority(candidates)
    groups: dict[str, list[int]] = {}
    for at, candidate in enumerate(candidates):
        if candidate.answer is not None:
            groups.setdefault(candidate.answer, []).append(at)
    if not groups:
        return NOTHING

    def strength(answer: str) -> tuple[float, float, int]:
        own = [candidates[at] for at in groups[answer]]
        scores = math.fsum(one.score for one in own if one.score is not None)
        return -math.fsum(votes[at] for at in groups[answer]), -scores, min(one.index for one in own)

    answer = min(groups, key=strength)
    best = min(groups[answer], key=lambda at: (-votes[at], -(candidates[at].score or 0.0), candidates[at].index))
    share = -strength(answer)[0] / math.fsum(votes)
    return Choice(answer, min(1.0, share), best)


def votes_of(candidates: Sequence[Candidate], p: float | None = None) -> list[float] | None:
    """The votes of each candidate, whether it has an answer or not; None where no self-certainty is known."""
    sure = [(one.draft.stats.self_certainty, at) for at, one in enumerate(candidates) if one.draft.stats is not None]
    if not sure:
        return None
    power = exponent(len(sure)) if p is None else p
    found: dict[int, float] = {}
    below = 0
    for _, level in groupby(sorted(sure), key=lambda pair: pair[0]):
        alike = [at for _, at in level]
        each = math.fsum((below + place) ** power for place in range(1, len(alike) + 1)) / len(alike)
        found |= dict.fromkeys(alike, each)
        below += len(alike)
    mean = math.fsum(found.values()) / len(found)
    return [found.get(at, mean) for at in range(len(candidates))]


def exponent(n: int) -> float:
    """p for n candidates."""
    part = min(1.0, max(0.0, (n - FEW) / (MANY - FEW)))
    return FEW_EXPONENT + part * (MANY_EXPONENT - FEW_EXPONENT)
