"""A policy as a replay is asked for it: `NAME`, or with settings `NAME:KEY=VALUE:KEY=VALUE`, as `binned:bins=absolute`.

One policy may so be played with several settings side by side; rows and pictures call each as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import OmegaConf

from apportion.configs.overrides import read_overrides
from apportion.errors import ConfigError, nearest
from apportion.policies.settings import build
from apportion.scheduler.allocation_settings import SETTINGS
from apportion.scheduler.contest import PLAYED

_ARM = "arm"


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """`text` is how it was written; `settings` are as under a config's `allocation`."""

    text: str
    policy: str
    settings: Mapping[str, Any]


def choice_of(text: str) -> PolicyChoice:
    """The policy that a text stands for. Raises ConfigError for an unknown policy or setting, or a value of a wrong
    type; what else a value must be, the policy says when it is played."""
    policy, *given = text.split(":")
    if policy not in PLAYED:
        raise ConfigError(f"policy {policy!r} is unknown: {nearest(policy, PLAYED)}")
    known = [name for name in SETTINGS[policy].__dataclass_fields__ if name != _ARM]
    settings: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key and equals and value):
            example = f"{policy}:{known[0]}=VALUE" if known else f"{policy} alone, which has no settings"
            raise ConfigError(f"policy {text!r} has {one!r} where a setting belongs; write {example}")
        if key == _ARM:
            raise ConfigError(
                f"policy {text!r} names an arm, but a replay plays policies of one arm on each by itself; choose arms "
                f"with --arms {value}"
            )
        if key in settings:
            raise ConfigError(f"policy {text!r} sets {key!r} twice; name the policy once for each value")
        read = read_overrides([f"allocation.{key}={value}"], {"allocation": {"policy": policy}})
        settings |= cast("dict[str, Any]", OmegaConf.to_container(read.allocation))
    build(SETTINGS[policy], settings, f"policy {policy!r}")
    return PolicyChoice(text, policy, settings)
