"""Reading a job's config: a YAML file by path or by packaged name, a mapping, or an OmegaConf config, with overrides.

What comes out is checked for unknown keys, missing keys and types; names and values are checked in
`apportion.configs.build`. Nothing heavy is imported. Text that came from an interpolation under a key that may hold a
secret is kept as it was written in `resolved`, so that the run directory's config.yaml never holds a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from apportion.configs.keys import conform, expected_type, flatten
from apportion.configs.overrides import read_overrides
from apportion.configs.schema import JobConfig
from apportion.errors import ConfigError, nearest
from apportion.scheduler.plain import masked

ConfigSource = str | Path | Mapping[str, Any] | DictConfig

PACKAGED = Path(__file__).resolve().parent
"""Where the configs and fitted policies that ship with the package lie."""

_SECRET_KEYS = ("dataset.path", "output", "cluster.address")
_SECRET_SECTION = "engine_args"
_INTERPOLATION = re.compile(r"(\\*)\$\{")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config whose keys and types are right. `resolved` is what the run directory keeps."""

    job: JobConfig
    resolved: Mapping[str, Any]
    source: str


def packaged_names(suffix: str) -> list[str]:
    """Names of the files of one suffix that ship with the package, without the suffix."""
    return sorted(path.stem for path in PACKAGED.glob(f"*{suffix}"))


def load_config(source: ConfigSource, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config and apply `key=value` overrides, later ones last. Raises ConfigError."""
    written, name = _read(source)
    if overrides:
        plain_written = cast("dict[str, Any]", OmegaConf.to_container(written, resolve=False))
        written = _merge(written, read_overrides(overrides, plain_written), overrides)
    try:
        plain = cast("dict[str, Any]", OmegaConf.to_container(written, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {error.full_key or 'the config'}: {_first_line(error)}") from error
    merged = _typed(conform(_literal(plain)), name)
    job = cast("JobConfig", OmegaConf.to_object(merged))
    resolved = flatten(cast("dict[str, Any]", OmegaConf.to_container(merged)))
    kept = cast("dict[str, Any]", OmegaConf.to_container(written, resolve=False))
    return LoadedConfig(job, cast("dict[str, Any]", _keep_written(resolved, kept, "")), name)


def _merge(written: DictConfig, changes: DictConfig, overrides: Sequence[str]) -> DictConfig:
    try:
        return cast("DictConfig", OmegaConf.merge(written, changes))
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigError(
            f"the overrides {' '.join(overrides)!r} do not fit the config: {_first_line(error)}"
        ) from error


def _typed(conformed: dict[str, Any], name: str) -> DictConfig:
    """The conformed config merged into the schema; ConfigError for a wrong type or a missing key."""
    try:
        merged = cast("DictConfig", OmegaConf.merge(OmegaConf.structured(JobConfig), OmegaConf.create(conformed)))
    except (OmegaConfBaseException, TypeError) as error:
        key = getattr(error, "full_key", None)
        if not key:
            raise ConfigError(f"{name}: {_first_line(error)}") from error
        raise ConfigError(f"{key} is {_lookup(conformed, key)!r}, but must be {expected_type(key)}") from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise ConfigError(f"{name} lacks {', '.join(missing)}; add the key or give it as {missing[0]}=VALUE")
    return merged


def _read(source: ConfigSource) -> tuple[DictConfig, str]:
    """The config as it was written, and what to call it in messages."""
    if isinstance(source, DictConfig):
        return source, "the config"
    if isinstance(source, Mapping):
        try:
            return OmegaConf.create(dict(source)), "the config"
        except OmegaConfBaseException as error:
            raise ConfigError(f"{error.full_key or 'the config'}: {_first_line(error)}") from error
    path = _find(source)
    try:
        loaded = OmegaConf.create(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}{_where(error)}: {error.problem}; fix the YAML there") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {_first_line(error)}") from error
    except (OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} holds a list, but a config is a mapping of keys to values")
    return loaded, str(path)


def _find(source: str | Path) -> Path:
    """A bare word is the name of a packaged config first, so that a user's folder of that name cannot shadow it."""
    text = str(source)
    bare = isinstance(source, str) and Path(text).name == text and not Path(text).suffix
    packaged = packaged_names(".yaml")
    if bare and text in packaged:
        return PACKAGED / f"{text}.yaml"
    path = Path(text).expanduser()
    if path.is_file():
        return path
    what = "is a folder, not a YAML file" if path.is_dir() else f"is no file in {Path.cwd()}"
    raise ConfigError(f"config {text!r} {what}; configs that ship with apportion: {nearest(text, packaged)}")


def _literal(value: Any, key: str = "") -> Any:
    """Plain values only, and text that happens to read like an interpolation escaped: it was resolved already."""
    if isinstance(value, Mapping):
        return {name: _literal(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner, key) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return _INTERPOLATION.sub(r"\1\1\\${", value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ConfigError(f"{key} is {value!r}, a {type(value).__name__}, but a config holds only what YAML can: give text")


def _keep_written(resolved: Any, written: Any, key: str) -> Any:
    """`resolved` with the written interpolation put back wherever a secret may stand."""
    if isinstance(resolved, Mapping):
        source = written if isinstance(written, Mapping) else {}
        return {
            name: _keep_written(value, source.get(name), f"{key}.{name}" if key else str(name))
            for name, value in resolved.items()
        }
    if isinstance(resolved, list) and isinstance(written, list) and len(written) == len(resolved):
        return [_keep_written(one, other, key) for one, other in zip(resolved, written, strict=True)]
    return written if _may_be_secret(key) and isinstance(written, str) and "${" in written else resolved


def without_secrets(resolved: Any, key: str = "") -> Any:
    """A resolved config for a file that others may read: passwords and queries of URLs as `***`.

    Interpolations stay, as they hold none.
    """
    if isinstance(resolved, Mapping):
        return {name: without_secrets(value, f"{key}.{name}" if key else str(name)) for name, value in resolved.items()}
    if isinstance(resolved, list):
        return [without_secrets(one, key) for one in resolved]
    shown = isinstance(resolved, str) and _may_be_secret(key) and "${" not in resolved
    return masked(resolved) if shown else resolved


def _may_be_secret(key: str) -> bool:
    return key in _SECRET_KEYS or _SECRET_SECTION in key.split(".")


def _lookup(container: Any, key: str) -> Any:
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(container, Mapping):
            container = container.get(part)
        elif isinstance(container, list) and part.isdigit() and int(part) < len(container):
            container = container[int(part)]
    return container


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
