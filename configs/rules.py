"""Small rules on config values. Each raises ConfigError with the key, the value and the rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apportion.errors import ConfigError, nearest
from apportion.scheduler.plain import masked


def known_name(key: str, value: str, known: Iterable[str], what: str) -> str:
    """`value`, which must be one of `known`."""
    names = list(known)
    if value not in names:
        raise ConfigError(f"{key}: no {what} is called {value!r}; {nearest(value, names)}")
    return value


def at_least(key: str, value: float, least: float) -> None:
    """A finite number of at least `least`."""
    if not (math.isfinite(value) and value >= least):
        raise ConfigError(f"{key} is {value:g}, but must be a number of at least {least:g}")


def more_than_zero(key: str, value: float, advice: str) -> None:
    """A finite number above zero."""
    if not (math.isfinite(value) and value > 0.0):
        raise ConfigError(f"{key} is {value:g}, but must be a finite number above 0; {advice}")


def local_path(key: str, text: str) -> Path:
    """A path on this machine: a URL would be taken for a folder of that name."""
    if "://" in text:
        raise ConfigError(f"{key} is {masked(text)}, but must be a path on this machine; copy it to the URL afterwards")
    return Path(text).expanduser()


def known_settings(key: str, settings: Mapping[str, Any], owner: Any, beside: Iterable[str]) -> None:
    """Own settings must be fields of the dataclass they belong to; `beside` are the keys written beside them."""
    known = [field.name for field in dataclasses.fields(owner) if field.init]
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(f"unknown key '{key}.{name}' (value {value!r}): {nearest(name, [*known, *beside])}")
