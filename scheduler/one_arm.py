"""The arm of a policy that uses one: which it is, how much of it a prompt may still buy, and what that costs."""

from __future__ import annotations

import numpy as np

from apportion.errors import ConfigError, nearest
from apportion.scheduler.allocation import UNBOUNDED, Problem
from apportion.types import Purchase

MOST_SAMPLES = 4096
"""No prompt is given more, however large the budget."""


def arm_at(problem: Problem, name: str | None) -> int:
    """The place of the arm that `allocation.arm` names, by default the first. Raises ConfigError."""
    names = [arm.name for arm in problem.arms]
    if name is None:
        return 0
    if name not in names:
        raise ConfigError(f"allocation.arm is {name!r}, which is no arm of this job: {nearest(name, names)}")
    return names.index(name)


class OneArm:
    """Purchases of one arm. `caps` is how many samples each prompt may buy in all, [prompts]."""

    def __init__(self, problem: Problem, name: str | None, most: int | None, default_most: int) -> None:
        """`most` bounds the samples of a prompt; None: what the problem's limits allow, or `default_most`."""
        if most is not None and most < 1:
            raise ConfigError(f"allocation.most is {most}; it must be at least 1")
        self.at = arm_at(problem, name)
        self.arm = problem.arms[self.at]
        self.name = self.arm.name
        self._costs = problem.costs
        limits = [UNBOUNDED] * problem.prompts if problem.limits is None else problem.limits[:, self.at].tolist()
        if most is None:
            self.caps = [default_most if cap >= UNBOUNDED else cap for cap in limits]
        else:
            self.caps = [min(cap, most) for cap in limits]
        self._allowed = [0]
        """for each n, the largest amount up to n that the strategy takes"""
        for n in range(1, max(self.caps, default=0) + 1):
            self._allowed.append(n if self.arm.strategy.check(n) is None else self._allowed[-1])

    def purchase(self, prompt: int, n: int, bought: int, most: float) -> tuple[Purchase, float] | None:
        """A purchase of about `n`, with its expected cost; None where none is within the cap and `most`.

        The strategy's next amount from `n` on where the cap allows one, else its last below; fewer where `most` asks.
        """
        room = self.caps[prompt] - bought
        amount = self._allowed[min(n, room)] if room > 0 else 0
        while amount < n and n <= room:
            n += 1
            amount = self._allowed[min(n, room)]
        while amount >= 1:
            cost = self._costs.predict_one(prompt, self.name, amount)
            if cost <= most:
                return Purchase(self.name, amount), cost
            amount = self._allowed[min(amount - 1, int(amount * most / cost) + 1)]
        return None

    def exhausted(self, prompt: int, bought: int) -> bool:
        """Whether the cap leaves the prompt no purchase."""
        return self._allowed[max(0, self.caps[prompt] - bought)] < 1

    def cost_per_sample(self, prompts: np.ndarray) -> float:
        """Mean expected cost of a single sample, or of the strategy's least amount per sample."""
        least = next((n for n in self._allowed if n >= 1), 1)
        return float(self._costs.predict(prompts, self.name, least).mean()) / least
