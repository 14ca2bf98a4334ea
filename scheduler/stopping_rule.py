"""Per-prompt stopping rules under one total budget: of the prompts that have not stopped, the one with the fewest
samples buys next.

The papers stop each prompt alone, at a cap of samples, and let the total come out as it may. Ours is the total: all
prompts are undecided at first, and buy in turn until each has stopped or the budget is gone. Once all have stopped the
job ends, whatever is left. Offers are ranked by gain over cost, so an offer's `gain` is its cost times the rule's
urgency, which is no expected objective.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.one_arm import OneArm
from apportion.scheduler.tallies import Tallies
from apportion.types import Candidate, Purchase

LOOK = 0.9
"""Whether the budget has become short is looked at when what is left has fallen to this share: a look asks every
prompt, and with this much to spare the next look comes in time."""


class Rule:
    """When a prompt stops, and what it buys until then. A rule sees the answers' counts in `tallies`."""

    def __init__(self, prompts: int) -> None:
        self.tallies = Tallies(prompts)

    def take(self, prompt: int, candidates: Sequence[Candidate]) -> None:
        """Learn from new candidates."""
        self.tallies.add(prompt, candidates)

    def wants(self, prompt: int) -> int:
        """Samples to buy next, before which the rule cannot stop the prompt; 0 where it has stopped."""
        return 1

    def urgency(self, prompt: int, bought: int) -> float:
        """The prompt with the highest buys next."""
        return 1.0 / (1.0 + bought)

    def difficulty(self, prompt: int) -> float:
        """What is thought of the prompt's pass rate: the leading answer's share."""
        return self.tallies.share(prompt)

    def progress(self, share: float) -> None:
        """Told now and then which share of the budget is spent, in [0, 1]."""


class StoppingRule:
    """The allocation policy that follows a rule on one arm."""

    def __init__(self, problem: Problem, arm: OneArm, rule: Rule) -> None:
        self._arm = arm
        self._rule = rule
        self._budget = problem.budget
        self._bought = [0] * problem.prompts
        self._stopped = bytearray(problem.prompts)
        self._short = False
        self._look_again = float("inf")

    @property
    def price(self) -> float:
        return 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        bought = self._bought[prompt]
        wants = 0 if self._stopped[prompt] or self._arm.exhausted(prompt, bought) else self._rule.wants(prompt)
        if wants < 1:
            self._stopped[prompt] = 1
            return Rest.STOP
        found = self._arm.purchase(prompt, 1 if self._short else wants, bought, most)
        if found is None:
            return Rest.WAIT
        purchase, cost = found
        return Offer(purchase, cost * self._rule.urgency(prompt, bought), cost)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._bought[prompt] += purchase.n
        self._rule.take(prompt, candidates)

    def reprice(self, available: float) -> None:
        """Whether all that is wanted now can be paid for: else prompts buy as little as they can, in turn."""
        self._rule.progress(1.0 - available / self._budget if self._budget > 0 else 1.0)
        if available > self._look_again:
            return
        self._look_again = available * LOOK
        active = np.flatnonzero(np.frombuffer(self._stopped, dtype=np.uint8) == 0)
        if len(active):
            wanted = sum(map(self._rule.wants, active.tolist()))
            self._short = wanted * self._arm.cost_per_sample(active) > available * LOOK

    def difficulty(self, prompt: int) -> float:
        return self._rule.difficulty(prompt)

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """None: a stopping rule has no model of what it will find."""
        return ()
