"""What reading the prompt adds to a purchase of samples: it costs the same whatever the purchase's size.

Fitted playbooks know it: the first candidate of an arm costs it more. Those without labels are for candidates alone;
there first purchases grow until reading is a small part of them. Later ones cost no reading (see
`apportion.scheduler.expected`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.fitted import is_search
from apportion.difficulty.playbook import Playbook
from apportion.policies.strategy import draws_independently
from apportion.scheduler.allocation import UNBOUNDED, Floats, Problem

FIXED_SHARE = 0.5
"""A purchase grows until what it costs whatever its size (reading the prompt) is at most this share of it."""
ROUNDING = 1e-6
"""A fixed cost below this share of one candidate's is rounding."""


class BookCosts:
    """A job's expected costs, by a playbook's names of its arms."""

    def __init__(self, problem: Problem, sold: Mapping[str, str]) -> None:
        self._costs = problem.costs
        self._sold = sold

    def predict(self, prompts: NDArray[np.int64], arm: str, n: int) -> Floats:
        return self._costs.predict(prompts, self._sold[arm], n)

    def predict_one(self, prompt: int, arm: str, n: int) -> float:
        return self._costs.predict_one(prompt, self._sold[arm], n)


class Reading:
    """What reading costs the arms of playbooks over a job; `sold` names the job's arm behind each of theirs.

    `fixed` is the part of each prompt's purchase of an arm that is the same whatever its size, [prompts].
    """

    def __init__(self, problem: Problem, sold: Mapping[str, str]) -> None:
        at = {arm.name: place for place, arm in enumerate(problem.arms)}
        self.costs = BookCosts(problem, sold)
        self._everyone = np.arange(problem.prompts)
        # Samples that were recorded an amount at a time are bought as they were recorded.
        self.single = {
            name: draws_independently(problem.arms[at[arm]].strategy) and (name == arm or not is_search(name))
            for name, arm in sold.items()
        }
        self._most = {name: problem.most(at[arm]) for name, arm in sold.items()}
        self.fixed = {name: self._fixed_cost(name) for name in sold}
        self._free = {name: not fixed.any() for name, fixed in self.fixed.items()}

    def _fixed_cost(self, arm: str) -> Floats:
        """What a purchase of the arm costs whatever its size, as far as it is more than rounding, [prompts]."""
        if not self.single[arm]:
            return np.zeros(len(self._everyone))
        once, twice = (self.costs.predict(self._everyone, arm, n) for n in (1, 2))
        return fixed_part(once, twice)

    def worthwhile(self, prompt: int, arm: str, n: int) -> int:
        """At least n, and enough that the fixed part of the cost is at most FIXED_SHARE of it."""
        if self._free[arm]:
            return n
        return _grown(n, *(self.costs.predict_one(prompt, arm, amount) for amount in (n, 2 * n)))

    def opening(self, book: Playbook) -> float:
        """What the first purchase of a book costs a usual prompt; 0 where reading is free."""
        name, n = book.steps[0]
        if self._free[name]:
            return 0.0
        ahead = sum(n for one, n in book.steps if one == name)
        n = max(1, min(_grown(n, self._mean(name, n), self._mean(name, 2 * n)), ahead, self._most[name]))
        return self._mean(name, n)

    def _mean(self, arm: str, n: int) -> float:
        return float(self.costs.predict(self._everyone, arm, n).mean())


def fixed_part(once: Floats, twice: Floats) -> Floats:
    """What a purchase costs whatever its size, from what one and two samples cost; rounding is nothing."""
    fixed = 2.0 * once - twice
    return np.where(fixed > ROUNDING * once, fixed, 0.0)


def _grown(n: int, once: float, twice: float) -> int:
    """At least n, and enough that the fixed part of a purchase is FIXED_SHARE of it; `twice` is what 2n cost."""
    each, fixed = (twice - once) / n, 2.0 * once - twice
    return max(n, int(min(UNBOUNDED, fixed / each * (1.0 / FIXED_SHARE - 1.0)))) if each > 0.0 else n
