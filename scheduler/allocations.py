"""The allocation policies by name, chosen by the config's `allocation.policy`. To add one: a file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from apportion.difficulty.fitted import FittedPolicy, load
from apportion.difficulty.objectives import COUNTING, Objective
from apportion.difficulty.registry import estimate
from apportion.errors import ConfigError, nearest
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.asc import asc
from apportion.scheduler.binned import binned
from apportion.scheduler.blend_asc import blend_asc
from apportion.scheduler.calibration import calibration
from apportion.scheduler.damani import damani
from apportion.scheduler.elimination import elimination
from apportion.scheduler.esc import esc
from apportion.scheduler.known import Builder, Known, Truth, own_settings
from apportion.scheduler.oracle import oracle
from apportion.scheduler.pricing import price
from apportion.scheduler.uniform import Uniform, UniformSettings

__all__ = ["ALLOCATIONS", "Builder", "Known", "Truth", "build_allocation", "check_serves"]


def _uniform(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    return Uniform(own_settings(UniformSettings, settings), problem, known.start)


ALLOCATIONS: dict[str, Builder] = {
    "asc": asc,
    "binned": binned,
    "blend_asc": blend_asc,
    "calibration": calibration,
    "damani": damani,
    "elimination": elimination,
    "esc": esc,
    "oracle": oracle,
    "price": price,
    "uniform": _uniform,
}
COUNT = ("price", "uniform")
"""Those that serve objectives which count candidates. The others stop at one good answer, or know curves of no other
objective than accuracy and coverage."""


def check_serves(name: str, goal: Objective) -> None:
    """Raises ConfigError for an unknown policy, and for one that knows nothing of the objective."""
    if name not in ALLOCATIONS:
        raise ConfigError(f"allocation.policy {name!r} is unknown: {nearest(name, ALLOCATIONS)}")
    if goal.name in COUNTING and name not in COUNT:
        raise ConfigError(
            f"allocation.policy {name!r} knows nothing of the objective {goal.name!r}, which counts candidates: use "
            "allocation.policy=price, or uniform to compare with"
        )


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
    check_serves(name, problem.goal)
    if not problem.arms:
        raise ConfigError("the job has no arms; name at least one under `arms`")
    policy = load(fitted) if isinstance(fitted, str | Path) else fitted
    start = estimate(problem.arms, problem.texts, policy)
    if problem.guessed is not None and policy is not None and policy.hidden is not None:
        # What a text says is in the state of a model that has read it.
        start = replace(start, text=policy.hidden.weigh(problem.guessed))
    return ALLOCATIONS[name](settings, problem, Known(probe, start, policy, truth))
