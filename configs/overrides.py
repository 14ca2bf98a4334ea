"""`key=value` changes to a config: the value is YAML, except where the key holds text, which is taken as it is written.

YAML would make 7 of 007, 100000.0 of 1e5 and False of no. `null` is still nothing, and so is an empty value of a key
of the schema (a forgotten variable must not name the current folder); quotes around text are taken off as YAML does.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from apportion.configs.keys import TEXTS, expected_type
from apportion.configs.schema import AllocationConfig, AnswerConfig
from apportion.errors import ConfigError

_NULL = ("null", "Null", "NULL", "~")


def read_overrides(overrides: Sequence[str], written: Mapping[str, Any]) -> DictConfig:
    """The changes as a config of their own, later ones last; `written` is the config they are made to.

    Raises ConfigError for what is not key=value, and for a value that is not YAML.
    """
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip() or ".." in key or key.startswith(".") or key.endswith("."):
            raise ConfigError(f"override {override!r} is not key=value; write for example budget.amount=1e12")
    pairs = [(key, value) for key, _, value in (override.partition("=") for override in overrides)]
    try:
        return OmegaConf.from_dotlist([_quoted(key, value, dict(pairs), written) for key, value in pairs])
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"one of the overrides {' '.join(overrides)!r} is not YAML: {first}") from error


def _quoted(key: str, value: str, given: Mapping[str, str], written: Mapping[str, Any]) -> str:
    """The override, where its key holds text in quotes that YAML takes off again."""
    text = (value and expected_type(key) in TEXTS) or _is_own_text(key, given, written, empty=not value)
    if not text or value in _NULL or _is_in_quotes(value):
        return f"{key}={value}"
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _is_in_quotes(value: str) -> bool:
    """Whether YAML reads the value as text in quotes, with nothing beside."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "\"'":
        return False
    try:
        return isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        return False


def _is_own_text(key: str, given: Mapping[str, str], written: Mapping[str, Any], empty: bool) -> bool:
    """Whether a key is a setting of an arm's strategy, of the answers' kind or of the allocation's policy that holds
    text: those are no keys of the schema. An `empty` value is text only where null cannot be meant."""
    from apportion.policies.registry import ANSWER_KINDS, STRATEGIES
    from apportion.scheduler.allocation_settings import SETTINGS

    section, _, name = key.rpartition(".")
    owners: Mapping[str, type[Any]]
    if section.startswith("arms.") and section.count(".") == 1:
        beside, default, owners = "strategy", None, STRATEGIES
    elif section == "answer":
        beside, default, owners = "kind", AnswerConfig.kind, ANSWER_KINDS
    elif section == "allocation":
        beside, default, owners = "policy", AllocationConfig.policy, SETTINGS
    else:
        return False
    chosen = given.get(f"{section}.{beside}", _look_up(written, section, beside) or default)
    owner = owners.get(chosen) if isinstance(chosen, str) else None
    hint = typing.get_type_hints(owner).get(name) if owner is not None else None
    return hint is str if empty else _holds_text(hint)


def _look_up(written: Mapping[str, Any], section: str, name: str) -> Any:
    found: Any = written
    for part in (*section.split("."), name):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _holds_text(hint: Any) -> bool:
    """Whether a setting is text, some words, or either or null: then no value of another type can be meant."""
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(word, str) for word in typing.get_args(hint))
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    return hint is str or (bool(members) and all(map(_holds_text, members)))
