"""A checked `JobSpec` from a config: what can be known to be wrong without a model or the data is found here.

No framework is imported and nothing is started. Relative paths are relative to the current directory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from apportion.actors.registry import ENGINES, engines_for
from apportion.actors.spec import ModelSpec, Role
from apportion.configs.arms import build_arms
from apportion.configs.load import (
    PACKAGED,
    ConfigSource,
    LoadedConfig,
    load_config,
    packaged_names,
    without_secrets,
)
from apportion.configs.models import build_model_spec, check_model, find_file
from apportion.configs.objective import build_objective
from apportion.configs.rules import at_least, known_name, known_settings, local_path, more_than_zero
from apportion.configs.schema import CalibrationConfig, DatasetConfig, DifficultyConfig, JobConfig, ModelConfig
from apportion.costs import Unit
from apportion.errors import ConfigError, DataError, nearest
from apportion.policies.answers import AnswerType
from apportion.policies.arm import Arm
from apportion.policies.registry import ANSWER_KINDS
from apportion.policies.settings import build
from apportion.policies.strategy import continues_text, goes_by_step
from apportion.scheduler.allocations import ALLOCATIONS, check_serves
from apportion.scheduler.publish import run_folder
from apportion.scheduler.rows import data_files
from apportion.scheduler.spec import FITTED_COPY, CalibrationSpec, DatasetSpec, JobSpec

IN_MEMORY = "<rows>"
"""The dataset path of a job whose rows were handed over in Python."""

HIDDEN = "hidden"
FEATURES = ("text", HIDDEN)
"""What a fitted policy predicts difficulty from before a prompt is tried."""
_ADDRESS_WORDS = ("local", "auto", "inline")


def load_job(source: ConfigSource, overrides: Sequence[str] = (), rows_given: bool = False) -> JobSpec:
    """Read and check a config. `rows_given` says that the dataset is handed over in Python, not read from a path.

    Raises ConfigError, DataError (dataset file missing) or ModelError (model folder missing).
    """
    return build_job(load_config(source, overrides), rows_given)


def build_job(loaded: LoadedConfig, rows_given: bool = False, away: Collection[str] = ()) -> JobSpec:
    """The job of a loaded config; raises as `load_job`. The files of models in `away` are on another machine."""
    job = loaded.job
    unit = _budget(job)
    output, publish = run_folder(job.output)
    for key, table in (("models", job.models), ("arms", job.arms)):
        if not table:
            raise ConfigError(f"{key} is empty; name at least one, as in the packaged config quickstart")
    for name, model in job.models.items():
        check_model(name, model)
    arms = build_arms(job)
    objective = build_objective(job.objective, arms)
    looks_at = _looks_at(job.difficulty, arms, job.models)
    used = models_of(arms) | ({looks_at} if looks_at is not None else set())
    jobs = [name for name in ALLOCATIONS if name != "calibration"]  # which is what `apportion calibrate` runs
    known_name("allocation.policy", job.allocation.policy, jobs, "allocation policy")
    check_serves(job.allocation.policy, objective)
    at_least("seed", job.seed, 0)
    at_least("difficulty.probe", job.difficulty.probe, 1)
    at_least("cluster.wait_s", job.cluster.wait_s, 0)
    if job.execution.in_flight is not None:
        at_least("execution.in_flight", job.execution.in_flight, 1)
    models = {name: build_model_spec(name, model, name in away) for name, model in job.models.items() if name in used}
    _check_engines(models, arms, unit)
    _check_prices(job, unit, used)
    return JobSpec(
        dataset=_dataset(job.dataset, rows_given),
        output=output,
        publish=publish,
        objective=objective.name,
        goal=objective,
        budget=job.budget.amount,
        unit=unit,
        models=models,
        arms=arms,
        answer=_answer(job),
        probe=job.difficulty.probe,
        looks_at=looks_at,
        fitted=_fitted(job.difficulty.fitted, output),
        allocation=job.allocation.policy,
        allocation_settings=dict(job.allocation.settings),
        seed=job.seed,
        in_flight=job.execution.in_flight,
        ordered=job.execution.ordered,
        cluster=_address(job.cluster.address),
        cluster_wait_s=job.cluster.wait_s,
        resolved=without_secrets(loaded.resolved),
        calibration=_calibration(job.calibration),
    )


def _budget(job: JobConfig) -> Unit:
    unit = known_name("budget.unit", job.budget.unit, [unit.value for unit in Unit], "unit")
    more_than_zero("budget.amount", job.budget.amount, f"give what the whole job may spend, in {unit}")
    return Unit(unit)


def _check_engines(models: Mapping[str, ModelSpec], arms: Sequence[Arm], unit: Unit) -> None:
    """What engines themselves know to be wrong of a job."""
    for name, spec in models.items():
        check = ENGINES[spec.engine].check
        if check is not None:
            asking = [arm.strategy for arm in arms if name in (arm.policy, arm.second)]
            check(spec, unit, any(map(continues_text, asking)), any(map(goes_by_step, asking)))


def _check_prices(job: JobConfig, unit: Unit, used: set[str]) -> None:
    """A budget in dollars binds nothing where a model costs nothing."""
    if unit is not Unit.DOLLARS:
        return
    for name in sorted(used):
        model = job.models[name]
        prices = (model.dollars_per_hour, model.dollars_per_million_input, model.dollars_per_million_output)
        if not any(price > 0.0 and math.isfinite(price) for price in prices):
            raise ConfigError(
                f"models.{name} has no price, so a budget in dollars would never bind; give it dollars_per_hour or "
                "dollars_per_million_input and dollars_per_million_output"
            )


def _dataset(config: DatasetConfig, rows_given: bool) -> DatasetSpec:
    if config.limit is not None:
        at_least("dataset.limit", config.limit, 1)
    path = IN_MEMORY if rows_given else _dataset_path(config)
    return DatasetSpec(path, config.prompt, config.id, config.reference, config.system, config.limit)


def _dataset_path(config: DatasetConfig) -> str:
    if config.path is None:
        raise ConfigError("dataset.path is missing; give a JSONL or Parquet file, local or a URL")
    path = find_file("dataset.path", config.path)
    if "://" not in path and not all(Path(file).is_file() for file in data_files(path)):
        raise DataError(f"dataset.path: {path} is not there; give a JSONL or Parquet file (now in {Path.cwd()})")
    return path


def _answer(job: JobConfig) -> AnswerType:
    kind = known_name("answer.kind", job.answer.kind, ANSWER_KINDS, "kind of answer")
    known_settings("answer", job.answer.settings, ANSWER_KINDS[kind], ["kind"])
    return build(ANSWER_KINDS[kind], job.answer.settings, "answer")


def _looks_at(config: DifficultyConfig, arms: Sequence[Arm], models: Mapping[str, ModelConfig]) -> str | None:
    """The model whose hidden states are asked for; None where difficulty goes by texts."""
    features = known_name("difficulty.features", config.features, FEATURES, "kind of features")
    if features != HIDDEN:
        if config.model is not None:
            raise ConfigError(
                f"difficulty.model is {config.model!r}, but difficulty.features: {features} asks no model; leave it "
                f"out, or set difficulty.features: {HIDDEN}"
            )
        return None
    may = {name: model for name, model in models.items() if model.role != Role.SCORER}
    name = known_name("difficulty.model", config.model or arms[0].policy, may, "policy model or embedder")
    if models[name].role == Role.POLICY and not ENGINES[models[name].engine].embeds:
        able = ", ".join(engine for engine, kind in ENGINES.items() if kind.embeds)
        raise ConfigError(
            f"difficulty.features: {HIDDEN} needs the hidden states of models.{name}, and the {models[name].engine} "
            f"engine does not tell them while it writes; set difficulty.features: text, run the model with an engine "
            f"that does ({able}), or name in difficulty.model one more model on the same files with role: "
            f"{Role.EMBEDDER} ({', '.join(engines_for(Role.EMBEDDER))})"
        )
    return name


def _fitted(text: str | None, output: Path) -> str | None:
    """A fitted policy file by path, or by the name of one that ships with the package.

    Where it is gone, the copy in the run directory is named.
    """
    if text is None:
        return None
    packaged = packaged_names(".json")
    if text in packaged:
        return str(PACKAGED / f"{text}.json")
    path = Path(text).expanduser()
    if not path.is_file():
        copy = output / FITTED_COPY
        hint = f"; this job kept a copy: difficulty.fitted={copy}" if copy.is_file() else ""
        raise ConfigError(
            f"difficulty.fitted: {path.absolute()} is no file, and no fitted policy of that name ships with apportion; "
            f"{nearest(text, packaged)}{hint}"
        )
    return str(path.absolute())


def _calibration(config: CalibrationConfig) -> CalibrationSpec:
    at_least("calibration.samples", config.samples, 1)
    if config.budget is not None:
        more_than_zero("calibration.budget", config.budget, "give what recording may spend, in budget.unit")
    output = local_path("calibration.output", config.output) if config.output is not None else None
    return CalibrationSpec(output, config.samples, config.budget)


def _address(address: str) -> str:
    if address in _ADDRESS_WORDS or ":" in address:
        return address
    raise ConfigError(
        f"cluster.address: {address!r} is no Ray address; {nearest(address, _ADDRESS_WORDS)}, or HOST:PORT"
    )


def models_of(arms: Sequence[Arm]) -> set[str]:
    """Names of the models that some arm uses."""
    return {name for arm in arms for name in arm.models}
