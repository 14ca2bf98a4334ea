"""What the baselines that learn from labels read from a fitted policy, and what they say where it is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.table import COVERAGE, Table
from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.policies.selectors import predicted_as
from apportion.scheduler.allocation import Floats

FIT = (
    "apportion fit POOL -o policy.json, and name the file under difficulty.fitted, or in a replay with --fit, which "
    "also takes cross"
)


def labelled(policy: str, fitted: FittedPolicy | None) -> FittedPolicy:
    """The fitted policy. Raises ConfigError where there is none."""
    if fitted is None:
        raise ConfigError(
            f"allocation.policy {policy!r} learns from labels, and no fitted policy is named: {FIT}. The policy "
            "'price' works without"
        )
    return fitted


def table_of(policy: str, fitted: FittedPolicy) -> Table:
    """Its table of amounts. Raises ConfigError where it has none."""
    if fitted.table is None:
        raise ConfigError(
            f"allocation.policy {policy!r} needs the table of a pool, and the fitted policy has none: {FIT}"
        )
    return fitted.table


def known_as(table: Table, arm: Arm) -> str | None:
    """The name under which a table knows an arm: its own, or that of its policy model; None where it does not."""
    return next((name for name in (arm.name, arm.policy) if name in table.arms), None)


def chooses(objective: str, arm: Arm) -> str:
    """What decides what candidates are worth: the arm's selector, or the nearest that has curves; or any right one."""
    return COVERAGE if objective == "coverage" else predicted_as(arm.select)


def stretched(rows: Sequence[Sequence[float]], amounts: Sequence[int], wanted: Sequence[int]) -> Floats:
    """Curves at other amounts, [rows, wanted]: linear in log n between those known, level beyond."""
    places = np.interp(np.log(wanted), np.log(amounts), np.arange(len(amounts)))
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, len(amounts) - 1)
    curves = np.array(rows, dtype=np.float64)
    return np.asarray(curves[:, low] + (places - low) * (curves[:, high] - curves[:, low]))
