"""What the candidates of every prompt have shown, label-free: who agrees with whom, and what the verifier thinks.

Arrays over prompts, with a few slots for the distinct answers of each; slots are added as any prompt needs them.
Invariants: `count` sums to `total` minus `unparsed`; slots are filled from the left; nothing is ever removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import score_logit
from apportion.types import Candidate

MOST_ANSWERS = 64
"""Distinct answers remembered for a prompt; a prompt with more has no agreement worth knowing. Later ones count as
wrong answers that agree with nothing."""

UNPARSED_WORTH = 0.25
"""An unreadable answer is wrong, but says little of how hard its prompt is: mostly it is a matter of form. (On the
addsub pool a prompt with one unreadable answer beside two that agree is as good as one without.)"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The evidence of some prompts; see `Evidence` for the shapes."""

    count: NDArray[np.float64]
    """weight of the candidates that gave an answer, [rows, answers, arms]"""
    logit: NDArray[np.float64]
    """sum of clipped score logits, by weight, [rows, answers]"""
    scored: NDArray[np.float64]
    """weight of the candidates that have a score, [rows, answers]"""
    tally: NDArray[np.float64]
    """candidates that gave each answer, the majority's vote, [rows, answers]"""
    score: NDArray[np.float64]
    """sum of scores, the weighted vote, [rows, answers]"""
    squares: NDArray[np.float64]
    """sum of squared score logits by weight, and of squared scores, [rows, 2]"""
    best: NDArray[np.float64]
    """greatest score, [rows, answers]; -inf where there is none"""
    total: NDArray[np.float64]
    """weight of all candidates as evidence, [rows, arms]"""
    unparsed: NDArray[np.float64]
    """part of it from candidates that agree with nothing, [rows]"""

    @property
    def votes(self) -> NDArray[np.float64]:
        """Weight of each answer over all arms, [rows, answers]."""
        return np.asarray(self.count.sum(axis=2))


class Evidence:
    """The evidence of all prompts of a job."""

    def __init__(self, prompts: int, arms: int) -> None:
        self.prompts = prompts
        self.arms = arms
        self.used = np.zeros(prompts, dtype=np.int16)
        self._keys = np.zeros((prompts, 2), dtype=np.uint64)
        self._count = np.zeros((prompts, 2, arms), dtype=np.float32)
        self._logit = np.zeros((prompts, 2), dtype=np.float32)
        self._scored = np.zeros((prompts, 2), dtype=np.float32)
        self._tally = np.zeros((prompts, 2), dtype=np.float32)
        self._score = np.zeros((prompts, 2), dtype=np.float32)
        self._best = np.full((prompts, 2), -np.inf, dtype=np.float32)
        self._squares = np.zeros((prompts, 2), dtype=np.float32)
        self.total = np.zeros((prompts, arms), dtype=np.float32)
        self.unparsed = np.zeros(prompts, dtype=np.float32)

    def _widen(self) -> None:
        # Doubling keeps the cost of growing linear in the number of answers.
        extra = self._keys.shape[1]
        pad = ((0, 0), (0, extra))
        self._keys = np.pad(self._keys, pad)
        self._count = np.pad(self._count, (*pad, (0, 0)))
        self._logit = np.pad(self._logit, pad)
        self._scored = np.pad(self._scored, pad)
        self._tally = np.pad(self._tally, pad)
        self._score = np.pad(self._score, pad)
        self._best = np.pad(self._best, pad, constant_values=-np.inf)

    def part(self, prompts: NDArray[np.int64]) -> Evidence:
        """A copy for some prompts, in which the answers are called "0", "1", ... by slot."""
        found = Evidence(len(prompts), self.arms)
        found.used = self.used[prompts].copy()
        names = np.array([_key(str(slot)) for slot in range(self._keys.shape[1])], dtype=np.uint64)
        found._keys = np.broadcast_to(names, (len(prompts), len(names))).copy()
        found._count, found._logit = self._count[prompts].copy(), self._logit[prompts].copy()
        found._scored, found._tally = self._scored[prompts].copy(), self._tally[prompts].copy()
        found._score, found._best = self._score[prompts].copy(), self._best[prompts].copy()
        found._squares = self._squares[prompts].copy()
        found.total, found.unparsed = self.total[prompts].copy(), self.unparsed[prompts].copy()
        return found

    def _slot(self, prompt: int, answer: str) -> int | None:
        key = _key(answer)
        used = int(self.used[prompt])
        found = np.flatnonzero(self._keys[prompt, :used] == key)
        if found.size:
            return int(found[0])
        if used >= MOST_ANSWERS:
            return None
        if used == self._keys.shape[1]:
            self._widen()
        self._keys[prompt, used] = key
        self.used[prompt] = used + 1
        return used

    def add(self, prompt: int, arm: int, candidates: Sequence[Candidate]) -> None:
        """Count candidates of one arm; each is worth its `Draft.weight`."""
        for candidate in candidates:
            weight = candidate.draft.weight
            slot = None if candidate.answer is None else self._slot(prompt, candidate.answer)
            if slot is None:
                self.unparsed[prompt] += weight * UNPARSED_WORTH
                self.total[prompt, arm] += weight * UNPARSED_WORTH
                continue
            self.total[prompt, arm] += weight
            self._count[prompt, slot, arm] += weight
            self._tally[prompt, slot] += 1.0
            if candidate.score is not None:
                logit = score_logit(candidate.score)
                self._logit[prompt, slot] += weight * logit
                self._squares[prompt] += (weight * logit**2, candidate.score**2)
                self._scored[prompt, slot] += weight
                self._score[prompt, slot] += candidate.score
                self._best[prompt, slot] = max(self._best[prompt, slot], candidate.score)

    def signatures(self, prompts: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Rows that are equal where unscored evidence is, whatever the answers' names, [prompts, columns]."""
        width = max(1, int(self.used[prompts].max(initial=0)))
        count, tally = self._count[prompts, :width], self._tally[prompts, :width]
        # Any injective-enough order will do: the names of the answers must not matter, nor their order of arrival.
        place = tally + count @ np.sqrt(np.arange(2.0, 2.0 + self.arms), dtype=np.float32)
        order = np.argsort(-place, axis=1, kind="stable")
        line = np.arange(len(order))[:, None]
        parts = [count[line, order].reshape(len(order), -1), tally[line, order], self.total[prompts]]
        return np.concatenate([*parts, self.unparsed[prompts, None]], axis=1)

    def rows(self, prompts: NDArray[np.int64] | slice) -> Rows:
        """The evidence of some prompts, with as many answer slots as the fullest of them needs (at least one)."""
        used = self.used[prompts]
        width = max(1, int(used.max(initial=0)))
        wide = np.float64
        return Rows(
            count=self._count[prompts, :width].astype(wide),
            logit=self._logit[prompts, :width].astype(wide),
            scored=self._scored[prompts, :width].astype(wide),
            tally=self._tally[prompts, :width].astype(wide),
            score=self._score[prompts, :width].astype(wide),
            squares=self._squares[prompts].astype(wide),
            best=self._best[prompts, :width].astype(wide),
            total=self.total[prompts].astype(wide),
            unparsed=self.unparsed[prompts].astype(wide),
        )


def _key(answer: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(answer.encode(), digest_size=8).digest(), "big"))
