"""A fitted policy: what labelled candidates taught about a task, in one readable JSON file.

It holds the prior over pass@1 and collisions, a prior from the prompt's text, the verifier's calibration, how much
votes weigh, and each arm's lift. It survives a round trip exactly; a file of another version is refused, not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.estimator import MODEL_DEVIATION, Start, default_start
from apportion.difficulty.grid import POINTS
from apportion.difficulty.race import Weights
from apportion.difficulty.scores import Calibration
from apportion.difficulty.text import TextPrior
from apportion.errors import ConfigError, nearest
from apportion.policies.arm import Arm

FORMAT = "apportion-policy"
VERSION = 2
FIT = "fit it again: apportion fit POOL -o policy.json"
KNOWN_DEVIATION = 0.2
"""A lift that was measured may still drift this much, in logits, on another dataset of the same task."""


@dataclass(frozen=True, slots=True)
class FittedArm:
    """One arm of the pools. `lift` is relative to the reference arm, in logits."""

    lift: float
    pass_rate: float
    candidates: int
    tokens: float | None
    dollars: float | None


@dataclass(frozen=True, slots=True)
class FittedPolicy:
    """See the module. `prior` is [POINTS][concentrations] for the reference arm."""

    reference: str
    arms: Mapping[str, FittedArm]
    prior: tuple[tuple[float, ...], ...]
    unparsed: float
    calibration: Calibration | None
    weights: Weights | None
    text: TextPrior | None
    fitted_on: Mapping[str, Any]
    error: Mapping[str, float]

    def start(self, arms: Sequence[Arm], texts: Sequence[str]) -> Start:
        """The beliefs a job starts from. Arms are matched by name, then by the name of their policy model.

        Raises ConfigError where no arm of the job is known.
        """
        base = default_start(arms)
        known = [self.arms.get(arm.name) or self.arms.get(arm.policy) for arm in arms]
        if not any(known):
            named = ", ".join(arm.name for arm in arms)
            hint = nearest(arms[0].name, self.arms)
            raise ConfigError(f"difficulty.fitted knows none of this job's arms ({named}): {hint}; {FIT}")
        lifts, deviations = base.lifts.copy(), base.deviations.copy()
        for at, (arm, found) in enumerate(zip(arms, known, strict=True)):
            same = arm.name in self.arms
            if found is not None and (same or arm.strategy.name == "best_of_n"):
                lifts[at], deviations[at] = found.lift, KNOWN_DEVIATION
            elif found is not None:
                lifts[at] = found.lift + (base.lifts[at] - base.lifts[0])
            else:
                deviations[at] = max(deviations[at], MODEL_DEVIATION)
        return Start(
            prior=np.array(self.prior),
            calibration=self.calibration or base.calibration,
            lifts=lifts,
            deviations=deviations,
            text=None if self.text is None else self.text.factor(texts),
            weights=self.weights or base.weights,
            unparsed=self.unparsed,
            verified=self.calibration is not None and self.weights is not None,
            trained=True,
        )

    def save(self, path: Path) -> None:
        """Write the file; floats keep every bit."""
        path.write_text(json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n")


def load(path: str | Path) -> FittedPolicy:
    """Read a fitted policy. Raises ConfigError for a missing, broken or other version's file."""
    where = Path(path)
    try:
        raw = json.loads(where.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"difficulty.fitted names {path}, which does not exist; {FIT}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"difficulty.fitted: {path} is not readable JSON ({error}); {FIT}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ConfigError(f"difficulty.fitted: {path} is no fitted policy (no format {FORMAT!r}); {FIT}")
    if raw.get("version") != VERSION:
        raise ConfigError(
            f"difficulty.fitted: {path} has version {raw.get('version')!r}, and this apportion reads {VERSION}; {FIT}"
        )
    try:
        return _parse(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"difficulty.fitted: {path} is damaged ({type(error).__name__}: {error}); {FIT}") from error


def _parse(raw: Mapping[str, Any]) -> FittedPolicy:
    prior = np.array(raw["prior"], dtype=np.float64)
    if prior.shape != (POINTS, len(CONCENTRATIONS)) or not np.isfinite(prior).all() or (prior < 0).any():
        raise ValueError(f"prior has shape {prior.shape}; it must be {(POINTS, len(CONCENTRATIONS))}, none negative")
    text: dict[str, Any] | None = raw["text"]
    if text is not None:
        text = {key: tuple(value) if isinstance(value, list) else float(value) for key, value in text.items()}
    return FittedPolicy(
        reference=str(raw["reference"]),
        arms={str(name): FittedArm(**arm) for name, arm in raw["arms"].items()},
        prior=tuple(map(tuple, prior.tolist())),
        unparsed=float(raw["unparsed"]),
        calibration=None if raw["calibration"] is None else Calibration(**raw["calibration"]),
        weights=None if raw["weights"] is None else Weights(**raw["weights"]),
        text=None if text is None else TextPrior(**text),
        fitted_on=dict(raw["fitted_on"]),
        error={str(k): float(v) for k, v in raw["error"].items()},
    )
