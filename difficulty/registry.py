"""The difficulty estimators: what is believed of a job's prompts before any evidence. To add one: a file, a line here.

An estimator sees the arms and the prompts' texts, never a reference, and gives a `Start`, which
`apportion.difficulty.conformance` checks. The config's `difficulty.fitted` chooses between the two there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from apportion.difficulty.estimator import Start, default_start
from apportion.difficulty.fitted import FittedPolicy
from apportion.policies.arm import Arm

Estimator = Callable[[Sequence[Arm], Sequence[str], FittedPolicy | None], Start]
"""Arms, the prompts' texts, and the policy that `difficulty.fitted` names."""


def _flat(arms: Sequence[Arm], texts: Sequence[str], fitted: FittedPolicy | None) -> Start:
    return default_start(arms)


def _fitted(arms: Sequence[Arm], texts: Sequence[str], fitted: FittedPolicy | None) -> Start:
    return default_start(arms) if fitted is None else fitted.start(arms, texts)


ESTIMATORS: Mapping[str, Estimator] = {"flat": _flat, "fitted": _fitted}


def estimate(arms: Sequence[Arm], texts: Sequence[str], fitted: FittedPolicy | None) -> Start:
    """The start of a job: from the fitted policy where there is one, else flat. Raises ConfigError."""
    return ESTIMATORS["flat" if fitted is None else "fitted"](arms, texts, fitted)
