"""Samples by the prompt's text alone: the marginal reward of the b-th sample, predicted before anything is drawn.

Damani, Shenfeld, Peng, Bobu, Andreas 2024, "Learning How Hard to Think" (arXiv 2410.04707), the best-of-k setting:
learn from labelled samples a model of a prompt's pass rate, and give each next sample to the prompt with the highest
marginal reward, which for a checkable reward is p (1 - p)^(b - 1), so that a greedy heap is optimal. Nothing is learned
while the job runs. Ours: the model of the text is the fitted policy's (`apportion.difficulty.text`), a distribution
over the pass rate, and the reward its mean; votes have the learned curve of a pass rate (`apportion.difficulty.table`),
which is not concave, so the plan is the knapsack on its hull, which for a concave curve is the heap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apportion.difficulty.curves import grid
from apportion.difficulty.grid import PASS, POINTS, shifted
from apportion.difficulty.table import COVERAGE, KNOTS
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Floats, Problem
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.labels import FIT, chooses, known_as, labelled, stretched, table_of
from apportion.scheduler.one_arm import MOST_SAMPLES, arm_at
from apportion.scheduler.planned import FixedPlan, Planned


@dataclass(frozen=True, slots=True)
class DamaniSettings:
    """`arm` defaults to the config's first."""

    arm: str | None = None


class Damani(FixedPlan):
    """A plan on curves that the texts gave; see the module. `chances` are over `PASS`, [prompts, POINTS]."""

    def __init__(self, problem: Problem, arm: int, amounts: Sequence[int], chances: Floats, curve: Floats) -> None:
        """`curve` is the expected objective at each pass rate of `PASS`, [POINTS, amounts]."""
        planned = Planned(problem, {problem.arms[arm].name: amounts})
        planned.know(np.arange(problem.prompts), arm, chances @ curve)
        super().__init__(planned, chances @ PASS)


def check_texts(texts: Sequence[str]) -> None:
    """Raise ConfigError where no prompt has a text."""
    if not any(texts):
        raise ConfigError(
            "allocation.policy 'damani' predicts from the prompts' texts, and these prompts have none: give the pool "
            "its texts (prompts.parquet, column text), or use allocation.policy=price"
        )


def damani(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `damani`. Raises ConfigError for a bad setting, and without labels or texts."""
    given = own_settings(DamaniSettings, settings)
    at = arm_at(problem, given.arm)
    fitted = labelled("damani", known.fitted)
    check_texts(problem.texts)
    chances = np.broadcast_to(known.start.prior.sum(axis=1), (problem.prompts, POINTS))
    if known.start.text is not None:
        # Where the fit found that texts tell nothing, all prompts are alike.
        chances = chances * known.start.text
    chances = shifted(chances / chances.sum(axis=1, keepdims=True), float(known.start.lifts[at]))
    most = min(MOST_SAMPLES, max(1, problem.most(at)))
    kind = chooses(problem.objective, problem.arms[at])
    if kind == COVERAGE:
        amounts = grid(most)
        return Damani(problem, at, amounts, chances, 1.0 - (1.0 - PASS[:, None]) ** np.array(amounts))
    table = table_of("damani", fitted)
    name = known_as(table, problem.arms[at])
    if name is None:
        raise ConfigError(
            f"allocation.policy 'damani' has no curve of arm {problem.arms[at].name!r} in the fitted policy, which "
            f"knows {', '.join(sorted(table.arms))}: fit on a pool with that arm ({FIT})"
        )
    arm = table.arms[name]
    amounts = grid(min(most, arm.amounts[-1]))
    knots = stretched(arm.knots.get(kind, arm.knots["majority"]), arm.amounts, amounts)
    curve = np.stack([np.interp(PASS, KNOTS, column) for column in knots.T], axis=1)
    return Damani(problem, at, amounts, chances, curve)
