"""From a job's spec to its machine: reading the data, counting tokens, building costs, allocation and ledger.

Shared by `run`, `plan` and `check`: nothing here loads a model or spends anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.actors.registry import describe
from apportion.actors.spec import Role
from apportion.difficulty.fitted import FittedPolicy, load
from apportion.errors import BudgetError
from apportion.scheduler.allocation import Allocation, CostModel, Problem
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.dataset import Dataset, read_dataset, set_aside_too_long
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.finish import Finisher
from apportion.scheduler.ledger import Ledger
from apportion.scheduler.machine import Machine, Settings
from apportion.scheduler.meter import Meter
from apportion.scheduler.revisers import check_revisers
from apportion.scheduler.spec import JobSpec

SEQUENCES_PER_SLOT = 2.0
"""Purchases kept under way for each sequence the policy replicas can run at once, divided by `TYPICAL_PURCHASE`: twice
what fills them, so that a reply is always followed by work that is ready."""
TYPICAL_PURCHASE = 4
FEWEST_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job's data, models and fitted policy, read and counted. `prompt_tokens` are [prompts] for each model."""

    spec: JobSpec
    dataset: Dataset
    meter: Meter
    prompt_tokens: dict[str, NDArray[np.float64]]
    fitted: FittedPolicy | None = None


def prepare(spec: JobSpec, rows: Iterable[Any] | None = None) -> Prepared:
    """Read the dataset and describe the models. Raises DataError, ModelError or ConfigError; spends nothing."""
    fitted = load(spec.fitted) if spec.fitted is not None else None
    describers = {name: describe(model) for name, model in spec.models.items()}
    meter = Meter(describers)
    dataset = set_aside_too_long(read_dataset(spec.dataset, rows), describers)
    counts = {
        name: np.array([meter.prompt_tokens(name, prompt.messages) for prompt in dataset.prompts], dtype=np.float64)
        for name in spec.models
    }
    check_revisers(spec.arms, describers, dataset.prompts, counts)
    return Prepared(spec, dataset, meter, counts, fitted)


def build_costs(prepared: Prepared) -> ExpectedCosts:
    """The job's cost model, before any experience but the lengths that a fitted policy knows."""
    spec = prepared.spec
    lengths = {} if prepared.fitted is None else prepared.fitted.lengths(spec.arms)
    return ExpectedCosts(spec.arms, prepared.meter, spec.unit, prepared.prompt_tokens, lengths)


def problem_of(prepared: Prepared, costs: CostModel) -> Problem:
    """What the job's allocation policy is given."""
    spec = prepared.spec
    return Problem(
        texts=[prompt.text for prompt in prepared.dataset.prompts],
        arms=spec.arms,
        costs=costs,
        budget=spec.budget,
        goal=spec.goal,
        seed=spec.seed,
        checked=all(arm.scored for arm in spec.arms),
    )


def build_policy(prepared: Prepared, costs: ExpectedCosts) -> Allocation:
    """The job's allocation policy.

    Raises ConfigError for settings or a fitted file it cannot use, BudgetError for a budget that buys nothing.
    """
    spec = prepared.spec
    _check_budget(prepared, costs)
    problem = problem_of(prepared, costs)
    return build_allocation(spec.allocation, spec.allocation_settings, problem, spec.probe, prepared.fitted)


def build_machine(prepared: Prepared) -> Machine:
    """A fresh machine over a prepared job."""
    spec = prepared.spec
    costs = build_costs(prepared)
    counted = spec.goal if problem_of(prepared, costs).counts else None
    return Machine(
        # The machine decides, so it must not be able to read a reference.
        prompts=[replace(prompt, reference=None) for prompt in prepared.dataset.prompts],
        arms=spec.arms,
        allocation=build_policy(prepared, costs),
        ledger=Ledger(spec.budget, spec.unit),
        meter=prepared.meter,
        costs=costs,
        finisher=Finisher(spec.answer, {arm.name: arm for arm in spec.arms}, counted),
        settings=Settings(in_flight=in_flight(spec), seed=spec.seed),
    )


def _check_budget(prepared: Prepared, costs: ExpectedCosts) -> None:
    """A job must be able to buy its cheapest purchase at least once."""
    spec = prepared.spec
    everyone = np.arange(len(prepared.dataset.prompts))
    offers = [(float(costs.predict(everyone, arm.name, arm.amounts[0]).min()), arm) for arm in spec.arms]
    cheapest, arm = min(offers, key=lambda offer: offer[0])
    if cheapest > spec.budget:
        raise BudgetError(
            f"budget.amount {spec.budget:g} {spec.unit} is less than the cheapest purchase, {arm.amounts[0]} of arm "
            f"{arm.name!r}, is expected to cost ({cheapest:g}); raise the budget, or lower max_tokens or n"
        )


def in_flight(spec: JobSpec) -> int:
    """How many prompts have a purchase under way at once: as configured, else what keeps the replicas busy."""
    if spec.in_flight is not None:
        return spec.in_flight
    slots = sum(model.replicas * model.max_batch for model in spec.models.values() if model.role is Role.POLICY)
    return max(FEWEST_IN_FLIGHT, int(SEQUENCES_PER_SLOT * slots / TYPICAL_PURCHASE))
