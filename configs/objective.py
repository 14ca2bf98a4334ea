"""What a job is after, from the config's `objective`: a name, or a mapping with the name and its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from apportion.configs.rules import known_name
from apportion.configs.schema import ObjectiveConfig
from apportion.difficulty.checkable import check_scored
from apportion.difficulty.objectives import COUNTING, OBJECTIVES, Objective
from apportion.errors import ConfigError
from apportion.policies.arm import Arm

DEFAULT_ACCEPT = 0.5
"""As good as not: what a calibrated verifier gives to a candidate of which it cannot tell."""


def build_objective(config: ObjectiveConfig, arms: Sequence[Arm]) -> Objective:
    """The objective of a job with these arms.

    Raises ConfigError for an unknown name, a number that is out of range or means nothing to the objective, or an arm
    without a verifier where candidates are counted by their score.
    """
    name = known_name("objective", config.name, OBJECTIVES, "objective")
    for key, value, can in (("k", config.k, COUNTING), ("accept", config.accept, ("coverage", *COUNTING))):
        if value is not None and name not in can:
            raise ConfigError(
                f"objective.{key} is {value:g}, but {name} knows no {key}; leave it out, or use {' or '.join(can)}"
            )
    if name not in COUNTING and config.accept is None:
        return Objective(name)
    if name == "quota" and config.k is None:
        raise ConfigError("objective.k is missing: how many accepted candidates a prompt shall have, such as k: 4")
    k = 1 if config.k is None else config.k
    if k < 1:
        raise ConfigError(f"objective.k is {k}, but must be a whole number of at least 1")
    accept = DEFAULT_ACCEPT if config.accept is None else config.accept
    if not (math.isfinite(accept) and 0.0 < accept <= 1.0):
        raise ConfigError(
            f"objective.accept is {accept:g}, but must be above 0 and at most 1: it is the least score of an accepted "
            "candidate"
        )
    found = Objective(name, k, accept)
    check_scored(arms, found)
    return found
