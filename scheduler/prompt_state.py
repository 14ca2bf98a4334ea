"""What the machine holds of one prompt while a job runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from apportion.costs import ZERO_COST, Cost
from apportion.types import Candidate, Prompt, Purchase


@dataclass(slots=True)
class PromptState:
    """`purchases` are those granted, ended or not; `paid` is what those that ended cost, in order. `error` is set when a request failed for good."""

    index: int
    prompt: Prompt
    purchases: list[Purchase] = field(default_factory=list)
    paid: list[Cost] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    spent: Cost = ZERO_COST
    error: str | None = None
    committed: bool = False

    def drawn(self, arm: str) -> int:
        """Samples of an arm bought so far: where the next purchase's seeds begin."""
        return sum(purchase.n for purchase in self.purchases if purchase.arm == arm)
