"""The allocation policies by name, chosen by the config's `allocation.policy`. To add one: a file, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.difficulty.estimator import Start
from apportion.difficulty.fitted import FittedPolicy, load
from apportion.difficulty.registry import estimate
from apportion.errors import ConfigError, nearest
from apportion.policies.settings import build
from apportion.scheduler.allocation import Allocation, Floats, Problem
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.uniform import Uniform, UniformSettings


@dataclass(frozen=True, slots=True)
class Truth:
    """What only a replay knows: the mean objective after each amount of each arm, [prompts, amounts], by arm name.

    `amounts` are numbers of candidates, ascending, by arm name; the mean is over random orders of what was recorded.
    """

    amounts: Mapping[str, tuple[int, ...]]
    curves: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Known:
    """What a policy may know beside the problem: the size of a probe, the beliefs to start from, and where there are
    any, a fitted policy and the truth about the prompts."""

    probe: int
    start: Start
    fitted: FittedPolicy | None
    truth: Truth | None


Builder = Callable[[Mapping[str, Any], Problem, Known], Allocation]


def _price(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    outlook = Outlook.begin(problem, known.start)
    return Price(build(PriceSettings, settings, "allocation"), outlook, known.probe)


def _uniform(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    return Uniform(build(UniformSettings, settings, "allocation"), problem, known.start)


ALLOCATIONS: dict[str, Builder] = {"price": _price, "uniform": _uniform}


def build_allocation(
    name: str,
    settings: Mapping[str, Any],
    problem: Problem,
    probe: int,
    fitted: FittedPolicy | str | Path | None = None,
    truth: Truth | None = None,
) -> Allocation:
    """The allocation policy of a job. `settings` are the config's `allocation` without its `policy`.

    Raises ConfigError for an unknown policy or setting, an objective without a response, or an unusable fitted policy.
    """
    if name not in ALLOCATIONS:
        raise ConfigError(f"allocation.policy {name!r} is unknown: {nearest(name, ALLOCATIONS)}")
    if not problem.arms:
        raise ConfigError("the job has no arms; name at least one under `arms`")
    policy = load(fitted) if isinstance(fitted, str | Path) else fitted
    start = estimate(problem.arms, problem.texts, policy)
    return ALLOCATIONS[name](settings, problem, Known(probe, start, policy, truth))
