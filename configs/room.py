"""How many replicas a model has and what each takes of the cluster: the keys replicas, gpus, gpu_fraction and so on."""

from __future__ import annotations

from typing import Any

from apportion.configs.rules import at_least
from apportion.configs.schema import ModelConfig
from apportion.errors import ConfigError, nearest

_BOUNDS = ("min", "max")


def build_replicas(key: str, value: Any) -> tuple[int | None, int]:
    """The fewest and the most replicas; a number alone is both, and its fewest is None. Raises ConfigError."""
    if not isinstance(value, dict):
        return None, _count(key, value)
    for name in value:
        if name not in _BOUNDS:
            raise ConfigError(f"unknown key '{key}.{name}' (value {value[name]!r}): {nearest(str(name), _BOUNDS)}")
    missing = [name for name in _BOUNDS if name not in value]
    if missing:
        raise ConfigError(f"{key}.{missing[0]} is missing; write {{min: 1, max: 4}}, or one number")
    least, most = (_count(f"{key}.{name}", value[name]) for name in _BOUNDS)
    if least > most:
        raise ConfigError(f"{key}: min is {least} and max is {most}; min must not be more than max")
    return least, most


def build_gpus(key: str, config: ModelConfig) -> float:
    """GPUs of one replica: gpus, gpu_fraction or tensor_parallel, which must not say different things."""
    gpus, fraction, parallel = config.gpus, config.gpu_fraction, config.tensor_parallel
    if parallel is not None:
        at_least(f"{key}.tensor_parallel", parallel, 1)
    if fraction is not None:
        if gpus is not None:
            raise ConfigError(
                f"{key}: gpus is {gpus:g} and gpu_fraction {fraction:g}; give whole gpus, or a share of one, not both"
            )
        if parallel is not None and parallel > 1:
            raise ConfigError(
                f"{key}: gpu_fraction is {fraction:g} and tensor_parallel {parallel}; a replica on several GPUs takes "
                "them whole: leave gpu_fraction out"
            )
        if not 0.0 < fraction <= 1.0:
            raise ConfigError(f"{key}.gpu_fraction is {fraction:g}, but must be above 0 and at most 1")
        return fraction
    if gpus is None:
        return float(parallel) if parallel is not None else 0.0
    at_least(f"{key}.gpus", gpus, 0)
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"{key}.gpus is {gpus:g}; a replica takes whole GPUs, or with gpu_fraction a share of one")
    if parallel is not None and gpus != parallel:
        raise ConfigError(
            f"{key}: gpus is {gpus:g} and tensor_parallel {parallel}; a replica is split over all of its GPUs: make "
            "them equal, or leave gpus out"
        )
    return gpus


def _count(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} is {value!r}, but must be a whole number, or {{min: 1, max: 4}}")
    at_least(key, value, 1)
    return value
