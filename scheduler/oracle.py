"""The oracle: knows each prompt's mean curve of every arm, and spends the budget on the best static plan.

It is the bound that recorded pools allow a policy which decides before it looks: the knapsack over all prompts and
arms, one purchase each (what then is left goes to further steps of the same arm). A policy that looks at candidates
can beat it, in principle: it learns which prompts were lucky. Only a replay can run it, for it needs the truth
(`apportion.scheduler.curves`); where that holds costs too, it knows what a candidate of each prompt costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known, Truth, own_settings
from apportion.scheduler.planned import FixedPlan, Planned


@dataclass(frozen=True, slots=True)
class OracleSettings:
    """None."""


class Oracle(FixedPlan):
    """The oracle; see the module. Its difficulty is the true value of the first arm's least amount."""

    def __init__(self, problem: Problem, truth: Truth) -> None:
        planned = Planned(problem, truth.amounts, truth.costs)
        everyone = np.arange(problem.prompts)
        pass_rate = np.zeros(problem.prompts)
        for at, name in reversed(list(enumerate(planned.arms))):
            if name in truth.curves:
                planned.know(everyone, at, truth.curves[name])
                pass_rate = np.nan_to_num(truth.curves[name][:, 0])
        super().__init__(planned, pass_rate)


def oracle(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `oracle`. Raises ConfigError where the truth is not known."""
    own_settings(OracleSettings, settings)
    if known.truth is None:
        raise ConfigError(
            "allocation.policy 'oracle' needs the truth about the prompts, which only a replay of recorded candidates "
            "has: compare it there with `apportion replay`, and run a job with another policy"
        )
    lacking = [arm.name for arm in problem.arms if arm.name not in known.truth.curves]
    if lacking:
        raise ConfigError(
            f"allocation.policy 'oracle' has no true curve of the arms {', '.join(lacking)}: replay a pool with them"
        )
    return Oracle(problem, known.truth)
