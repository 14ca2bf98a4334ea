"""Building a frozen dataclass from a config's settings, with every key and type checked.

Invariant: what is wrong is named (key, value, rule, nearest valid key) before anything is spent.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, cast

from apportion.errors import ConfigError, nearest

T = TypeVar("T")


def build(cls: type[T], settings: Mapping[str, Any], where: str, beside: Sequence[str] = ()) -> T:
    """An instance of a settings dataclass; `where` names its place in the config, and `beside` the keys that
    stand there with the settings, for messages.

    Field types may be bool, int, float, str, None, Literal and unions of these; an int is taken where a float is
    due. Raises ConfigError for an unknown or missing key and for a value of another type.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in fields(cast("Any", cls)) if field.init}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"{where} has no setting {key!r} (= {value!r}): {nearest(str(key), [*beside, *known])}")
        if not _fits(value, hints[key]):
            raise ConfigError(f"{where}.{key} is {value!r}; it must be {_describe(hints[key])}")
        values[key] = float(value) if _takes_float(value, hints[key]) else value
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where} lacks the setting {name!r}; it must be {_describe(hints[name])}")
    return cls(**values)


def one_or_more(key: str, value: int, why: str = "") -> None:
    """ConfigError for a number below 1; `why` says what it is, or what to use where none is meant."""
    if value < 1:
        raise ConfigError(f"{key} is {value}; it must be 1 or more" + (f": {why}" if why else ""))


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_one(value, member) for member in _members(hint))


def _fits_one(value: object, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    return isinstance(value, hint)


def _takes_float(value: object, hint: Any) -> bool:
    members = _members(hint)
    return float in members and int not in members and isinstance(value, int) and not isinstance(value, bool)


def _describe(hint: Any) -> str:
    parts: list[str] = []
    for member in _members(hint):
        if typing.get_origin(member) is Literal:
            parts.extend(repr(allowed) for allowed in typing.get_args(member))
        elif member is type(None):
            parts.append("null")
        else:
            names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
            parts.append(names.get(member, getattr(member, "__name__", str(member))))
    return " or ".join(parts)
