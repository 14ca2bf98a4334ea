"""From a job's spec to its machine: reading the data, counting tokens, building costs, allocation and ledger.

Shared by `run`, `plan` and `check`: nothing here loads a model or spends anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.actors.fingerprint import model_hash
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import attended, cost_of
from apportion.difficulty.bins import ABSOLUTE
from apportion.difficulty.fitted import FittedPolicy, load
from apportion.errors import BudgetError, ConfigError
from apportion.policies.arm import Arm
from apportion.scheduler.allocation import UNBOUNDED, Allocation, CostModel, Floats, Problem
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.dataset import Dataset, read_dataset, set_aside_too_long
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.finish import Finisher
from apportion.scheduler.ledger import Ledger
from apportion.scheduler.looking import Looking
from apportion.scheduler.machine import Machine, Settings
from apportion.scheduler.meter import Meter
from apportion.scheduler.revisers import check_revisers
from apportion.scheduler.spec import JobSpec
from apportion.types import Prompt, Usage

SEQUENCES_PER_SLOT = 2.0
"""Purchases kept under way for each sequence the policy replicas can run at once, divided by `TYPICAL_PURCHASE`: twice
what fills them, so that a reply is always followed by work that is ready."""
TYPICAL_PURCHASE = 4
BY_BELIEFS = ("price", "damani", "binned")
"""Allocation policies that begin with what is believed of each prompt; the others go by votes and probes alone."""
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


def problem_of(prepared: Prepared, costs: CostModel, guessed: Floats | None = None) -> Problem:
    """What the job's allocation policy is given; what looks at the prompts cost is not its to spend."""
    spec = prepared.spec
    most = [most_of(spec, arm) for arm in spec.arms]
    bounded = any(one < UNBOUNDED for one in most)
    return Problem(
        texts=[prompt.text for prompt in prepared.dataset.prompts],
        arms=spec.arms,
        costs=costs,
        budget=max(0.0, spec.budget - looks_cost(prepared)),
        goal=spec.goal,
        seed=spec.seed,
        checked=all(arm.scored for arm in spec.arms),
        guessed=guessed,
        limits=np.tile(np.array(most, dtype=np.int64), (len(prepared.dataset.prompts), 1)) if bounded else None,
    )


def most_of(spec: JobSpec, arm: Arm) -> int:
    """The most responses of an arm that a prompt may buy: one that says the same each time is bought once."""
    sent = "temperature" not in spec.models[arm.policy].engine_args.get("omit", ())
    return UNBOUNDED if arm.most is None or not sent else arm.most


def build_policy(prepared: Prepared, costs: ExpectedCosts, guessed: Floats | None = None) -> Allocation:
    """The job's allocation policy; `guessed` is what hidden states said, [prompts].

    Raises ConfigError for settings or a fitted file it cannot use, BudgetError for a budget that buys nothing.
    """
    spec = prepared.spec
    _check_looks(prepared)
    _check_budget(prepared, costs)
    if spec.looks_at is not None and guessed is None:
        guessed = np.full(len(prepared.dataset.prompts), np.nan)
    problem = problem_of(prepared, costs, guessed)
    return build_allocation(spec.allocation, spec.allocation_settings, problem, spec.probe, prepared.fitted)


def build_machine(prepared: Prepared) -> Machine | Looking:
    """A fresh machine over a prepared job, which looks at the prompts first where the config says so."""
    spec = prepared.spec
    ledger = Ledger(spec.budget, spec.unit)
    if spec.looks_at is None:
        return _machine(prepared, ledger, None)
    # What the config has wrong is found before anything is spent.
    build_policy(prepared, build_costs(prepared))
    head = None if prepared.fitted is None else prepared.fitted.hidden
    return Looking(
        prompts=_unlabelled(prepared),
        model=spec.looks_at,
        ledger=ledger,
        meter=prepared.meter,
        most=looks_in_flight(spec.models[spec.looks_at]),
        guess=_guess_nothing if head is None else head.guess,
        make=lambda guessed: _machine(prepared, ledger, guessed),
    )


def looks_in_flight(model: ModelSpec) -> int:
    """Looks asked for at once: as purchases are, what fills the replicas twice."""
    return max(FEWEST_IN_FLIGHT, int(SEQUENCES_PER_SLOT * model.replicas * model.max_batch))


def looks_cost(prepared: Prepared) -> float:
    """What the looks at all prompts are expected to cost, in the budget's unit; 0 where there are none."""
    spec, model = prepared.spec, prepared.spec.looks_at
    if model is None:
        return 0.0
    profile = prepared.meter.profiles[model]
    lengths, counts = np.unique(prepared.prompt_tokens[model], return_counts=True)
    seconds = profile.seconds_per_token
    usages = [Usage(int(n), 0, int(attended(0, n)), 0, float(n) * seconds) for n in lengths]
    each = [cost_of(usage, profile).of(spec.unit) for usage in usages]
    return float(np.dot(each, counts))


def _guess_nothing(vector: Sequence[float]) -> float:
    return math.nan


def _unlabelled(prepared: Prepared) -> list[Prompt]:
    """The prompts without their references: what decides must not be able to read them."""
    return [replace(prompt, reference=None) for prompt in prepared.dataset.prompts]


def _machine(prepared: Prepared, ledger: Ledger, guessed: Floats | None) -> Machine:
    spec = prepared.spec
    costs = build_costs(prepared)
    counted = spec.goal if problem_of(prepared, costs).counts else None
    return Machine(
        prompts=_unlabelled(prepared),
        arms=spec.arms,
        allocation=build_policy(prepared, costs, guessed),
        ledger=ledger,
        meter=prepared.meter,
        costs=costs,
        finisher=Finisher(spec.answer, {arm.name: arm for arm in spec.arms}, counted),
        settings=Settings(in_flight=in_flight(spec), seed=spec.seed, afresh=spec.allocation == "calibration"),
    )


def _check_looks(prepared: Prepared) -> None:
    """Hidden states need a head that was fitted on the same model's, but where they are only recorded."""
    spec = prepared.spec
    if spec.looks_at is None or spec.allocation == "calibration":
        return
    if spec.allocation not in BY_BELIEFS or (spec.allocation == "binned" and not _by_bands(spec)):
        raise ConfigError(
            f"difficulty.features: hidden is paid for, and allocation.policy {spec.allocation!r} does not go by it; "
            "use allocation.policy=price, damani, or binned with allocation.bins=absolute, or difficulty.features=text"
        )
    record = (
        "record a pool with difficulty.features=hidden (apportion calibrate), fit it (apportion fit) and name the file "
        "under difficulty.fitted; or set difficulty.features: text"
    )
    if prepared.fitted is None:
        raise ConfigError(f"difficulty.features: hidden says nothing without a fitted policy: {record}")
    head = prepared.fitted.hidden
    if head is None:
        raise ConfigError(
            f"difficulty.features: hidden, but {spec.fitted} learned nothing from hidden states: its pools have none, "
            f"or they did not tell prompts apart; {record}"
        )
    if head.files != model_hash(spec.models[spec.looks_at]):
        raise ConfigError(
            f"difficulty.features: hidden asks models.{spec.looks_at} ({spec.models[spec.looks_at].path}), and "
            f"{spec.fitted} was fitted on the hidden states of another model, called {head.model!r} there, or of other "
            f"files of it: name that model in difficulty.model, or {record}"
        )


def _by_bands(spec: JobSpec) -> bool:
    return spec.allocation_settings.get("bins") == ABSOLUTE


def _check_budget(prepared: Prepared, costs: ExpectedCosts) -> None:
    """A job must be able to look at its prompts, and to buy its cheapest purchase at least once."""
    spec = prepared.spec
    everyone, looks = np.arange(len(prepared.dataset.prompts)), looks_cost(prepared)
    offers = [(float(costs.predict(everyone, arm.name, arm.amounts[0]).min()), arm) for arm in spec.arms]
    cheapest, arm = min(offers, key=lambda offer: offer[0])
    recording = spec.allocation == "calibration" and spec.calibration.budget is not None
    key = "calibration.budget" if recording else "budget.amount"
    beside = f", beside the hidden states of all prompts ({looks:g})" if looks else ""
    if cheapest + looks > spec.budget:
        raise BudgetError(
            f"{key} {spec.budget:g} {spec.unit} is less than the cheapest purchase, {arm.amounts[0]} of arm "
            f"{arm.name!r}, is expected to cost ({cheapest:g}){beside}; raise the budget, or lower max_tokens or n"
        )


def in_flight(spec: JobSpec) -> int:
    """How many prompts have a purchase under way at once: as configured, else what keeps the replicas busy."""
    if spec.in_flight is not None:
        return spec.in_flight
    slots = sum(model.replicas * model.max_batch for model in spec.models.values() if model.role is Role.POLICY)
    return max(FEWEST_IN_FLIGHT, int(SEQUENCES_PER_SLOT * slots / TYPICAL_PURCHASE))
