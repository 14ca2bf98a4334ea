"""A job, resolved and typed: what `apportion.configs` makes of a YAML file and the job machine runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apportion.actors.spec import ModelSpec
from apportion.costs import Unit
from apportion.difficulty.objectives import Objective
from apportion.policies.answers import AnswerType
from apportion.policies.arm import Arm

FITTED_COPY = "fitted.json"
"""A run directory's copy of the job's fitted policy."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Where the prompts are and which columns to read. `path` is JSONL or Parquet, local or any fsspec URL."""

    path: str
    prompt: str = "prompt"
    id: str | None = None
    reference: str | None = None
    system: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class CalibrationSpec:
    """What `apportion calibrate` records: `samples` of every independent arm, into the folder `output`.

    `budget` is in the job's unit; None is the job's own.
    """

    output: Path | None = None
    samples: int = 16
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything one job needs. `resolved` is the config as it was run, defaults and overrides included.

    `objective` is the name of `goal`, which also has its numbers.
    `in_flight` bounds the prompts with a purchase under way; None lets the job choose from its replicas.
    `ordered` makes the machine take replies in the order their requests were sent, so that the same seed gives the
    same job whatever the timing, at the price of waiting for stragglers. Costs must not depend on timing either: turn
    prefix caches off, and count the budget in tokens, flops or samples, which are not measured times.
    `cluster` is `local` (start Ray here), `auto`, a Ray address, or `inline` (no Ray: models in this process).
    `publish` is the URL that the run directory is copied to, where the config's `output` is one (see `publish.py`).
    `looks_at` is the model whose hidden states tell how difficult prompts are; None where their texts do.
    `cluster_wait_s` is how long nodes that are not there yet are waited for.
    """

    dataset: DatasetSpec
    output: Path
    objective: str
    budget: float
    unit: Unit
    models: Mapping[str, ModelSpec]
    arms: tuple[Arm, ...]
    answer: AnswerType
    probe: int = 4
    fitted: str | None = None
    looks_at: str | None = None
    allocation: str = "price"
    allocation_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    in_flight: int | None = None
    ordered: bool = False
    cluster: str = "local"
    cluster_wait_s: float = 0.0
    resolved: Mapping[str, Any] = field(default_factory=dict)
    calibration: CalibrationSpec = CalibrationSpec()
    goal: Objective = field(default_factory=Objective)
    publish: str | None = None
