"""What an allocation policy may know beside the problem it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from apportion.difficulty.estimator import Start
from apportion.difficulty.fitted import FittedPolicy
from apportion.policies.settings import build
from apportion.scheduler.allocation import Allocation, Floats, Problem


@dataclass(frozen=True, slots=True)
class Truth:
    """What only a replay knows: the mean objective after each amount of each arm, [prompts, amounts], by arm name.

    `amounts` are numbers of candidates, ascending, by arm name; the mean is over random orders of what was recorded,
    nan beyond it.
    """

    amounts: Mapping[str, tuple[int, ...]]
    curves: Mapping[str, Floats]
    costs: Mapping[str, Floats] = field(default_factory=dict)
    """mean cost of one candidate of each prompt in the budget's unit, [prompts], for the arms where it is known"""


@dataclass(frozen=True, slots=True)
class Known:
    """What a policy may know beside the problem: the size of a probe, the beliefs to start from, and where there are
    any, a fitted policy and the truth about the prompts."""

    probe: int
    start: Start
    fitted: FittedPolicy | None
    truth: Truth | None


T = TypeVar("T")


def own_settings(cls: type[T], settings: Mapping[str, Any]) -> T:
    """A policy's settings from the config's `allocation`, of which `policy` is taken. Raises ConfigError."""
    return build(cls, settings, "allocation", beside=("policy",))


Builder = Callable[[Mapping[str, Any], Problem, Known], Allocation]
