"""What the machine holds of one prompt while a job runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from apportion.costs import ZERO_COST, Cost
from apportion.scheduler.results import Ended
from apportion.types import Candidate, Prompt, Purchase


@dataclass(slots=True)
class PromptState:
    """`purchases` are those granted, ended or not; `ended` is how those that ended did, in order.

    `error` is set when a request failed for good.
    """

    index: int
    prompt: Prompt
    purchases: list[Purchase] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    spent: Cost = ZERO_COST
    error: str | None = None
    committed: bool = False
    short: bool = False
    """whether work of it was lost that the budget did not cover again"""
    answered: bool = False
    """whether a candidate has an answer"""
    canonical: dict[str, str] | None = None
    """the answers read so far, each with the first answer it equals; None before there is one"""
    _drawn: dict[str, int] | None = None
    _texts: dict[str, int] | None = None

    def drawn(self, arm: str) -> int:
        """Samples of an arm bought so far: where the next purchase's seeds begin."""
        return self._drawn.get(arm, 0) if self._drawn is not None else 0

    def grant(self, purchase: Purchase) -> None:
        """Take in one more purchase."""
        if self._drawn is None:
            self._drawn = {}
        self._drawn[purchase.arm] = self._drawn.get(purchase.arm, 0) + purchase.n
        self.purchases.append(purchase)

    def take(self, new: Sequence[Candidate]) -> bool:
        """Take in what a purchase drew; whether it holds the first answer."""
        self.candidates.extend(new)
        before = self.answered
        self.answered = before or any(candidate.answer is not None for candidate in new)
        return self.answered and not before

    def repeats(self, text: str) -> int:
        """How often this was asked of the same text before, white space around it aside."""
        if self._texts is None:
            self._texts = {}
        before = self._texts.get(bare := text.strip(), 0)
        self._texts[bare] = before + 1
        return before

    def forget(self) -> None:
        """Drop what a prompt that is committed needs no more."""
        self.candidates = []
        self.canonical = self._drawn = self._texts = None
