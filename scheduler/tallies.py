"""Counts of each prompt's answers, for the policies that decide by them: plain Python, a microsecond a candidate."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.types import Candidate


class Tallies:
    """`first` and `second` are the two highest counts of a prompt's answers; an unparsed answer counts for none."""

    def __init__(self, prompts: int) -> None:
        self.seen = [0] * prompts
        self.first = [0] * prompts
        self.second = [0] * prompts
        self._leader: list[str | None] = [None] * prompts
        self._counts: list[dict[str, int]] = [{} for _ in range(prompts)]

    def add(self, prompt: int, candidates: Sequence[Candidate]) -> None:
        """Count the answers of new candidates."""
        counts = self._counts[prompt]
        for candidate in candidates:
            self.seen[prompt] += 1
            answer = candidate.answer
            if answer is None:
                continue
            count = counts[answer] = counts.get(answer, 0) + 1
            if answer == self._leader[prompt]:
                self.first[prompt] = count
            elif count > self.first[prompt]:
                # The old leader is second: no other answer was above it.
                self.second[prompt] = self.first[prompt]
                self.first[prompt] = count
                self._leader[prompt] = answer
            elif count > self.second[prompt]:
                self.second[prompt] = count

    def share(self, prompt: int) -> float:
        """The leading answer's share of all candidates, unparsed ones included; 0 before any."""
        return self.first[prompt] / self.seen[prompt] if self.seen[prompt] else 0.0
