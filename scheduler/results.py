"""What a job says of one prompt when it is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from apportion.costs import Cost
from apportion.policies.answers import AnswerType
from apportion.types import Candidate, Prompt, Purchase


@dataclass(frozen=True, slots=True)
class PromptResult:
    """The committed result of one prompt.

    `response` is the text of the candidate that stands for the answer, and `candidate` its index. `confidence` is the
    answer's share of the selector's vote, `difficulty` the posterior mean of pass@1. `correct` is None without a
    reference, and is filled by `judge` after the decision. `reason` says why buying stopped; `error` why the prompt has
    no answer. Where the objective counts candidates, `accepted` are the indices of those whose score reaches its
    threshold, and for pairs `rejected` those of the others; else None. `repeated` are in neither: an earlier candidate
    has the same text.
    """

    prompt_id: str
    index: int
    answer: str | None
    response: str | None
    confidence: float
    difficulty: float
    spent: Cost
    purchases: tuple[Purchase, ...]
    candidates: int
    reason: str
    error: str | None = None
    correct: bool | None = None
    candidate: int | None = None
    accepted: tuple[int, ...] | None = None
    rejected: tuple[int, ...] | None = None
    repeated: tuple[int, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """A flat row for results.jsonl."""
        return {
            "prompt_id": self.prompt_id,
            "answer": self.answer,
            "correct": self.correct,
            "confidence": self.confidence,
            "difficulty": self.difficulty,
            "response": self.response,
            "candidates": self.candidates,
            "purchases": [{"arm": p.arm, "n": p.n} for p in self.purchases],
            "spent": self.spent.as_dict(),
            "reason": self.reason,
            "error": self.error,
            "accepted": None if self.accepted is None else list(self.accepted),
            "rejected": None if self.rejected is None else list(self.rejected),
        }


def is_correct(answer: str | None, prompt: Prompt, answers: AnswerType) -> bool | None:
    """Whether an answer equals the prompt's reference; None without one. An unparsed answer is wrong."""
    if prompt.reference is None:
        return None
    if answer is None:
        return False
    reference = answers.extract(prompt.reference) or prompt.reference
    return answers.same(answer, reference)


def judge(result: PromptResult, prompt: Prompt, answers: AnswerType) -> PromptResult:
    """The result with `correct` filled in. The only place, with `is_correct`, that reads a reference."""
    return replace(result, correct=is_correct(result.answer, prompt, answers))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a purchase ended: what it cost, and whether a failure or the end of the budget cut it off."""

    cost: Cost
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """A prompt's result together with every candidate that was paid for, and how each purchase ended."""

    result: PromptResult
    candidates: Sequence[Candidate]
    ended: Sequence[Ended] = ()
