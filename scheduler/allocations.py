"""The allocation policies by name, chosen by the config's `allocation.policy`. To add one: a file, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apportion.difficulty.estimator import Start
from apportion.difficulty.registry import estimate
from apportion.errors import ConfigError, nearest
from apportion.policies.settings import build
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.uniform import Uniform, UniformSettings

Builder = Callable[[Mapping[str, Any], Problem, int, Start], Allocation]
"""Settings, the problem, the size of a probe, and the beliefs to start from."""


def _price(settings: Mapping[str, Any], problem: Problem, probe: int, start: Start) -> Allocation:
    return Price(build(PriceSettings, settings, "allocation"), Outlook.begin(problem, start), probe)


def _uniform(settings: Mapping[str, Any], problem: Problem, probe: int, start: Start) -> Allocation:
    return Uniform(build(UniformSettings, settings, "allocation"), problem, start)


ALLOCATIONS: dict[str, Builder] = {"price": _price, "uniform": _uniform}


def build_allocation(
    name: str, settings: Mapping[str, Any], problem: Problem, probe: int, fitted_path: str | None = None
) -> Allocation:
    """The allocation policy of a job. `settings` are the config's `allocation` without its `policy`.

    Raises ConfigError for an unknown policy or setting, an objective without a response, or an unusable fitted policy.
    """
    if name not in ALLOCATIONS:
        raise ConfigError(f"allocation.policy {name!r} is unknown: {nearest(name, ALLOCATIONS)}")
    if not problem.arms:
        raise ConfigError("the job has no arms; name at least one under `arms`")
    start = estimate(problem.arms, problem.texts, fitted_path)
    return ALLOCATIONS[name](settings, problem, probe, start)
