"""The config's `models` as `ModelSpec`s, their files found: a missing model is named before anything loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apportion.actors.registry import ENGINES, engines_for
from apportion.actors.score_format import fetched_config, local_config
from apportion.actors.spec import ModelSpec, Role
from apportion.configs.room import build_gpus, build_replicas
from apportion.configs.rules import at_least, known_name, more_than_zero
from apportion.configs.schema import ModelConfig
from apportion.errors import ConfigError, ModelError
from apportion.lab import lab_path

LAB_PREFIX = "lab:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IN_PROCESS = ("embedded",)
"""Engines that read a folder of this machine, or the hub's local cache: they never download."""
WITHOUT_FILES = ("fake", "openai")
"""Engines whose model is only a name."""


def find_file(key: str, text: str) -> str:
    """`lab:NAME` as the path it stands for, a URL as it is, and any other path made absolute."""
    if text.startswith(LAB_PREFIX):
        try:
            return str(lab_path(text))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from error
    return text if "://" in text else str(Path(text).expanduser().absolute())


def check_model(name: str, config: ModelConfig) -> None:
    """The names in a model's row, which arms rely on. Raises ConfigError."""
    key = f"models.{name}"
    known_name(f"{key}.engine", config.engine, ENGINES, "engine")
    known_name(f"{key}.role", config.role, [role.value for role in Role], "role")


def build_model_spec(name: str, config: ModelConfig, away: bool = False) -> ModelSpec:
    """One model, checked. Raises ConfigError for a bad value, ModelError where its files are missing.

    `away` says that its files are on another machine: they are not looked for.
    """
    key = f"models.{name}"
    check_model(name, config)
    role = Role(config.role)
    if config.engine not in (able := engines_for(role)):
        raise ConfigError(f"{key}.engine: {config.engine} runs no {role} models; these do: {', '.join(able)}")
    least, most = build_replicas(f"{key}.replicas", config.replicas)
    at_least(f"{key}.max_batch", config.max_batch, 1)
    more_than_zero(f"{key}.timeout_s", config.timeout_s, "give the seconds that no request takes longer than")
    more_than_zero(f"{key}.load_timeout_s", config.load_timeout_s, "give the seconds that loading takes no longer than")
    for field in ("cpus", "dollars_per_hour", "dollars_per_million_input", "dollars_per_million_output"):
        at_least(f"{key}.{field}", getattr(config, field), 0)
    return ModelSpec(
        name=name,
        engine=config.engine,
        role=role,
        path=config.model if away else _model_path(key, config),
        replicas=most,
        least_replicas=least,
        cpus=config.cpus,
        gpus=build_gpus(key, config),
        tensor_parallel=config.tensor_parallel or 1,
        timeout_s=config.timeout_s,
        load_timeout_s=config.load_timeout_s,
        max_batch=config.max_batch,
        dollars_per_hour=config.dollars_per_hour,
        dollars_per_million_input=config.dollars_per_million_input,
        dollars_per_million_output=config.dollars_per_million_output,
        engine_args=dict(config.engine_args),
    )


def _model_path(key: str, config: ModelConfig) -> str:
    """The folder of a model, or its hub id where the engine can use one."""
    text = config.model
    if config.engine in WITHOUT_FILES:
        return text
    path = Path(find_file(f"{key}.model", text))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{key}.model: {path} has no config.json; give a Hugging Face model folder")
        return str(path)
    hub_id = _HUB_ID.fullmatch(text) is not None
    if hub_id and config.engine not in _IN_PROCESS:
        return text
    snapshot = _cached(text) if hub_id else None
    if snapshot is not None:
        return str(snapshot)
    if text.startswith(LAB_PREFIX) and not path.exists():
        raise ModelError(f"{key}.model: {text} should lie in {path}, which is not there; reinstall apportion")
    if hub_id:
        raise ModelError(
            f"{key}.model: {text!r} is neither a folder of {Path.cwd()} nor in the local Hugging Face cache, and the "
            f"{config.engine} engine downloads nothing; run `hf download {text}` first, or give a folder"
        )
    what = "is a file" if path.exists() else "is not there"
    raise ModelError(f"{key}.model: the model folder {path} {what}; give a Hugging Face model folder or a hub id")


def model_config_of(key: str, config: ModelConfig) -> Mapping[str, Any] | None:
    """config.json of a model of an engine that takes hub ids; fetched from the hub where only that has it.

    None where it cannot be had: whoever describes the model says why.
    """
    folder = find_file(key, config.model)
    if Path(folder).is_dir() or not _HUB_ID.fullmatch(config.model):
        return local_config(folder)
    return local_config(config.model) or fetched_config(config.model, config.engine_args.get("revision"))


def _cached(hub_id: str) -> Path | None:
    """The model's folder in the hub's local cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None
