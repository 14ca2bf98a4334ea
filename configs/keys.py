"""Checking a config's keys against the schema before its types, so that a mistyped key is named with its nearest.

Works on plain containers. A section that takes settings of its own (an arm, the allocation, the answer) may hold keys
the schema does not list; they are moved under `settings`, and are checked by the class they belong to.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from apportion.configs.schema import AllocationConfig, AnswerConfig, ArmConfig, JobConfig, ObjectiveConfig
from apportion.errors import ConfigError, nearest

SETTINGS = "settings"
TEXTS = ("text", "text or null")
"""What `expected_type` says of keys that hold text."""
_WITH_SETTINGS = (ArmConfig, AllocationConfig, AnswerConfig)


def conform(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The config with own settings moved under `settings`; ConfigError for an unknown key or a misplaced section."""
    return _section(raw, JobConfig, "")


def flatten(container: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse: settings written beside the other keys again, as a user writes them."""
    flat = dict(container)
    flat["objective"] = _short(flat["objective"])
    for name in ("allocation", "answer"):
        flat[name] = _inline(flat[name])
    flat["arms"] = {name: _inline(arm) for name, arm in flat["arms"].items()}
    return flat


def written_keys(section: Any) -> list[str]:
    """The keys of a section as a user may write them."""
    return [f.name for f in dataclasses.fields(section) if not (f.name == SETTINGS and section in _WITH_SETTINGS)]


def expected_type(key: str) -> str:
    """What the schema wants at a dotted key, in words."""
    hint: Any = JobConfig
    for part in key.replace("[", ".").replace("]", "").split("."):
        if dataclasses.is_dataclass(hint):
            hint = typing.get_type_hints(hint).get(part)
        elif typing.get_origin(hint) in (dict, list):
            hint = typing.get_args(hint)[-1]
        else:
            hint = None
        if hint is None:
            return "another type"
    return _words(hint)


def _words(hint: Any) -> str:
    if hint is ObjectiveConfig:
        return f"a name, or a mapping with the keys {', '.join(written_keys(hint))}"
    if dataclasses.is_dataclass(hint):
        return f"a mapping with the keys {', '.join(written_keys(hint))}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if hint in names:
        return names[hint]
    inner = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if typing.get_origin(hint) is list:
        return f"a list, each item {_words(inner[0])}"
    if typing.get_origin(hint) is dict:
        return "a mapping"
    return f"{_words(inner[0])} or null" if inner else "another type"


def _section(raw: Any, schema: Any, prefix: str) -> dict[str, Any]:
    """One section of the config, checked and conformed."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{prefix} is {raw!r}, but must be {_words(schema)}")
    hints = typing.get_type_hints(schema)
    known = written_keys(schema)
    conformed: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for key, value in raw.items():
        full = f"{prefix}.{key}" if prefix else str(key)
        if key not in known:
            if schema in _WITH_SETTINGS and key != SETTINGS:
                settings[str(key)] = value
                continue
            raise ConfigError(f"unknown key {full!r} (value {value!r}): {_suggest(str(key), prefix, known)}")
        conformed[key] = _value(value, hints[key], full)
    if schema in _WITH_SETTINGS:
        conformed[SETTINGS] = settings
    return conformed


def _value(value: Any, hint: Any, full: str) -> Any:
    if hint is ObjectiveConfig and isinstance(value, str):
        return {"name": value}
    if dataclasses.is_dataclass(hint):
        return _section(value, hint, full)
    if full.startswith(("models", "arms")) and typing.get_origin(hint) is dict and "." not in full:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{full} is {value!r}, but must be a mapping from names to {full}")
        inner = typing.get_args(hint)[1]
        # A row set to null is taken out, so that `arms.beam=null` on the command line drops an arm.
        kept = {name: row for name, row in value.items() if row is not None}
        return {str(name): _section(row, inner, f"{full}.{name}") for name, row in kept.items()}
    if full.endswith(".n") and isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if any(isinstance(one, bool) for one in _texts(value, hint)):
        raise ConfigError(
            f"{full} holds a truth value where text belongs, as YAML reads no, yes, on and off; put it in quotes: 'no'"
        )
    return value


def _texts(value: Any, hint: Any) -> list[Any]:
    """What is to be text: the value, or the items of a list."""
    if hint == list[str]:
        return value if isinstance(value, list) else []
    return [value] if _words(hint) in TEXTS else []


def _suggest(key: str, prefix: str, known: list[str]) -> str:
    """The nearest key of the same section, or the section that has this very key."""
    places = [
        f"{name}.{key}"
        for name, hint in typing.get_type_hints(JobConfig).items()
        if dataclasses.is_dataclass(hint) and key in written_keys(hint)
    ]
    advice = nearest(key, known)
    if places and not advice.startswith("did you mean"):
        advice = f"did you mean {places[0]!r}? {advice}"
    return advice if not prefix else f"{advice} (under {prefix})"


def _short(objective: Mapping[str, Any]) -> Any:
    """The name alone, where no number was given with it."""
    given = {key: value for key, value in objective.items() if value is not None}
    return given["name"] if given.keys() == {"name"} else given


def _inline(section: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in section.items() if key != SETTINGS}, **section.get(SETTINGS, {})}
