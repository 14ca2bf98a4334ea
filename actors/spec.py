"""One model of a job, resolved: plain data that crosses to the actor that loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What a model is asked for."""

    POLICY = "policy"
    SCORER = "scorer"
    EMBEDDER = "embedder"
    """tells the hidden state at the end of a prompt, and nothing else"""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One row of the config's `models`. `path` is a local folder, or whatever the engine takes as a model's name.

    There are at most `replicas`, and the job goes on with `least_replicas` (None: all are asked for) where the cluster
    holds no more. `cpus` and `gpus` are reserved for each; `gpus` below 1 is a share of one GPU, and `tensor_parallel`
    replicas have their GPUs on one node. `max_batch` bounds the sequences a replica runs at once. No request takes
    longer than `timeout_s`: a replica that is silent for so long is hung (see `watch`); so is one that has not loaded
    the model within `load_timeout_s` of its start. `dollars_per_hour` is for one replica. `engine_args` go to the
    engine as they are.
    """

    name: str
    engine: str
    role: Role
    path: str
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    tensor_parallel: int = 1
    least_replicas: int | None = None
    timeout_s: float = 1800.0
    load_timeout_s: float = 7200.0
    max_batch: int = 256
    dollars_per_hour: float = 0.0
    dollars_per_million_input: float = 0.0
    dollars_per_million_output: float = 0.0
    engine_args: Mapping[str, Any] = field(default_factory=dict)
