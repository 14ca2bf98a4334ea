"""The votes of every prompt: what each answer's candidates weigh, who leads, and by what.

Plain dictionaries: a prompt has few answers, and a job asks for one prompt at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from apportion.difficulty.playbook import Playbook
from apportion.difficulty.vote_length import tilted_one
from apportion.types import Candidate


class Ballots:
    """Votes as a playbook weighs them."""

    def __init__(self, prompts: int, book: Playbook) -> None:
        self._votes = book.votes
        # Slope x log length over the votes of each answer.
        self._lengths: list[dict[str, float]] = [{} for _ in range(prompts if book.votes.slope else 0)]
        self._weights: list[dict[str, float]] = [{} for _ in range(prompts)]
        self._standing = [(0.0, 0.0)] * prompts
        self._drawn = [0.0] * prompts
        self._scores, self._scored = 0.0, 0
        self._sum = {arm: [0.0, 0] for arm in book.arms}

    def add(self, prompt: int, arm: str, candidates: Sequence[Candidate]) -> None:
        """Count the candidates of one purchase."""
        weights, seen = self._weights[prompt], self._sum[arm]
        slope = self._votes.slope
        for candidate in candidates:
            score = candidate.score
            if score is not None:
                self._scores += score
                self._scored += 1
            mean = self._scores / self._scored if self._scores > 0.0 else 1.0
            vote = self._votes.of(arm, score, mean)
            seen[0] += vote
            seen[1] += 1
            self._drawn[prompt] += vote
            if candidate.answer is not None:
                weights[candidate.answer] = weights.get(candidate.answer, 0.0) + vote
                if slope:
                    lengths, length = self._lengths[prompt], slope * math.log(max(1, candidate.draft.length))
                    lengths[candidate.answer] = lengths.get(candidate.answer, 0.0) + vote * length
        first = second = 0.0
        for weight in self._strengths(prompt).values():
            if weight > first:
                first, second = weight, first
            elif weight > second:
                second = weight
        self._standing[prompt] = (first, second)

    def standing(self, prompt: int) -> tuple[float, float]:
        """Weight of the leading answer and of the next."""
        return self._standing[prompt]

    def leader(self, prompt: int) -> str | None:
        """The answer with the most weight, of equals the first seen; None where there is none."""
        strengths = self._strengths(prompt)
        return max(strengths, key=strengths.__getitem__) if strengths else None

    def _strengths(self, prompt: int) -> dict[str, float]:
        """Weight of each answer, tilted by length where that counts."""
        weights = self._weights[prompt]
        if not self._lengths or len(weights) < 2:
            return weights
        strengths = tilted_one(tuple(weights.values()), tuple(self._lengths[prompt].values()))
        return dict(zip(weights, strengths, strict=True))

    def share(self, prompt: int) -> float:
        """The leading answer's share of all votes, unparsed ones included."""
        return min(1.0, self._standing[prompt][0] / self._drawn[prompt]) if self._drawn[prompt] > 0.0 else 0.0

    def typical(self, arm: str) -> float:
        """Mean weight of one vote of an arm."""
        total, count = self._sum[arm]
        return total / count if count else 1.0
