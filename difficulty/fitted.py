"""A fitted policy: what labelled candidates taught about a task, in one readable JSON file.

It holds the prior over pass@1 and collisions, a prior from the prompt's text, the verifier's calibration, how much
votes weigh, the response of each arm, and how well all this predicted prompts it was not fitted on. It survives a round
trip exactly; a file of another version is refused, not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.estimator import MODEL_DEVIATION, Start, default_start
from apportion.difficulty.fiterror import FitError
from apportion.difficulty.grid import POINTS
from apportion.difficulty.hidden import HiddenPrior
from apportion.difficulty.keep import kept
from apportion.difficulty.race import Weights
from apportion.difficulty.readable import dumps
from apportion.difficulty.scores import Calibration
from apportion.difficulty.table import Table
from apportion.difficulty.text import TextPrior
from apportion.errors import ConfigError, nearest
from apportion.policies.arm import Arm

FORMAT = "apportion-policy"
VERSION = 2
FIT = "fit it again: apportion fit POOL -o policy.json"
DIGITS = 6
"""Significant digits of a policy's numbers: more than any pool determines, and a file that people can read."""
KNOWN_DEVIATION = 0.2
"""A lift that was measured may still drift this much, in logits, on another dataset of the same task."""
FEW_PROMPTS = 40
"""With fewer labelled prompts, halves to measure an error on are too small, and so is what is learned."""
AT = "@"
"""A pool calls a search by its amount, beam@16: a smaller search cannot be dealt from a larger one."""


def is_search(name: str) -> bool:
    """Whether a pool's arm is one amount of a search: NAME@N."""
    return name.rpartition(AT)[0] != "" and name.rpartition(AT)[2].isdigit()


def search_size(name: str) -> int:
    """How many candidates of a pool's arm are bought at once: N of NAME@N, else 1."""
    return max(1, int(name.rpartition(AT)[2])) if is_search(name) else 1


@dataclass(frozen=True, slots=True)
class FittedArm:
    """One arm of the pools. `lift` is relative to the reference arm, in logits; `pass_rate`, `tokens` and `dollars`
    are those of a candidate, on the mean of prompts, None where unknown."""

    lift: float
    pass_rate: float
    candidates: int
    tokens: float | None
    dollars: float | None


@dataclass(frozen=True, slots=True)
class FittedPolicy:
    """See the module. `prior` is [POINTS][concentrations] for the reference arm.

    `hidden` is what hidden states say, None where that is nothing or the pools have none. `table` says what amounts
    reach, by probe and by pass rate; `pool` is what playbooks are found on, as `apportion.difficulty.keep` writes it;
    `marks` are of the prompts it was fitted on (`apportion.difficulty.marks`).
    """

    reference: str
    arms: Mapping[str, FittedArm]
    prior: tuple[tuple[float, ...], ...]
    unparsed: float
    calibration: Calibration | None
    weights: Weights | None
    text: TextPrior | None
    fitted_on: Mapping[str, Any]
    error: FitError = field(default_factory=FitError)
    pool: Mapping[str, Any] | None = None
    table: Table | None = None
    marks: tuple[str, ...] = ()
    hidden: HiddenPrior | None = None

    @property
    def prompts(self) -> int:
        """How many labelled prompts it was fitted on; 0 where that is not known."""
        return int(self.fitted_on.get("prompts", 0))

    def arm(self, arm: Arm) -> FittedArm | None:
        """What is known of an arm: by its name, by those of its amounts (beam@4, beam@16), or by its policy model's."""
        if arm.name in self.arms:
            return self.arms[arm.name]
        searches = self._amounts(arm)
        return _mean([self.arms[name] for name in searches]) if searches else self.arms.get(arm.policy)

    def knows(self, arm: Arm) -> bool:
        """Whether the arm itself is known, not only its policy model."""
        return arm.name in self.arms or bool(self._amounts(arm))

    def shared(self, arms: Sequence[Arm]) -> dict[str, tuple[str, ...]]:
        """The known arms that several arms of a job that sample are taken for, and the names of those: it cannot tell
        them apart, whatever their settings."""
        found: dict[str, list[str]] = {}
        for arm in arms:
            if arm.samples and self.arm(arm) is not None and not self._amounts(arm):
                found.setdefault(arm.name if arm.name in self.arms else arm.policy, []).append(arm.name)
        return {name: tuple(some) for name, some in found.items() if len(some) > 1}

    def lengths(self, arms: Sequence[Arm]) -> dict[str, float]:
        """Mean tokens of a response, by name, of those of the arms where they are known."""
        found = {arm.name: self.arm(arm) for arm in arms}
        return {name: one.tokens for name, one in found.items() if one is not None and one.tokens is not None}

    def _amounts(self, arm: Arm) -> list[str]:
        """The names under which amounts of an arm are known: those it sells, or all there are where it sells none."""
        there = [name for name in self.arms if is_search(name) and name.rpartition(AT)[0] == arm.name]
        sold = [name for name in there if int(name.rpartition(AT)[2]) in arm.amounts]
        return sold or there

    def start(self, arms: Sequence[Arm], texts: Sequence[str]) -> Start:
        """The beliefs a job starts from, for each arm from what `arm` finds.

        Raises ConfigError where no arm of the job is known.
        """
        base = default_start(arms)
        known = [self.arm(arm) for arm in arms]
        if not any(known):
            raise ConfigError(self._strangers(arms))
        lifts, deviations = base.lifts.copy(), base.deviations.copy()
        alike = {name for names in self.shared(arms).values() for name in names}
        for at, (arm, found) in enumerate(zip(arms, known, strict=True)):
            if found is not None and (self.knows(arm) or arm.samples):
                # What is known of another's settings says as little of this arm's as it would of another model's.
                own = self.knows(arm) or arm.name not in alike
                lifts[at], deviations[at] = found.lift, max(KNOWN_DEVIATION, 0.0 if own else deviations[at])
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
            prompts=self.prompts,
        )

    def _strangers(self, arms: Sequence[Arm]) -> str:
        job = ", ".join(f"{arm.name} (model {arm.policy})" for arm in arms)
        pools = ", ".join(map(str, self.fitted_on.get("pools", ()))) or "unnamed pools"
        return (
            f"difficulty.fitted knows none of this job's arms ({job}). It was fitted on other arms, of {pools}: "
            f"{nearest(arms[0].name, self.arms)}. Name an arm or its policy model as there, or record this job's arms "
            "(apportion calibrate) and fit them (apportion fit)"
        )

    def rounded(self) -> FittedPolicy:
        """The policy with its numbers as short as the file's."""
        return _parse(_short(asdict(self)))

    def text_file(self) -> str:
        """What the file holds; floats keep every bit."""
        return dumps({"format": FORMAT, "version": VERSION, **asdict(self)}) + "\n"

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text(self.text_file(), encoding="utf-8")


def load(path: str | Path, key: str = "difficulty.fitted") -> FittedPolicy:
    """Read a fitted policy; `key` is where the user named it.

    Raises ConfigError for a missing, broken or other version's file.
    """
    where = Path(path)
    try:
        raw = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{key} names {path}, which does not exist; {FIT}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{key}: {path} is not readable JSON ({error}); {FIT}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ConfigError(f"{key}: {path} is no fitted policy (no format {FORMAT!r}); {FIT}")
    if raw.get("version") != VERSION:
        raise ConfigError(
            f"{key}: {path} has version {raw.get('version')!r}, and this apportion reads {VERSION}; {FIT}"
        )
    try:
        return _parse(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{key}: {path} is damaged ({type(error).__name__}: {error}); {FIT}") from error


def _checked(raw: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The kept pool, once it is known to be readable. Raises KeyError, TypeError or ValueError."""
    if raw is not None:
        kept(raw)
    return raw


def _mean(arms: Sequence[FittedArm]) -> FittedArm:
    """Several arms as one, each counted by its candidates."""
    share = np.array([one.candidates for one in arms], dtype=np.float64)

    def over(values: Sequence[float | None]) -> float | None:
        some = [(value, weight) for value, weight in zip(values, share, strict=True) if value is not None]
        return float(np.average([value for value, _ in some], weights=[weight for _, weight in some])) if some else None

    return FittedArm(
        lift=over([one.lift for one in arms]) or 0.0,
        pass_rate=over([one.pass_rate for one in arms]) or 0.0,
        candidates=int(share.sum()),
        tokens=over([one.tokens for one in arms]),
        dollars=over([one.dollars for one in arms]),
    )


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a linear model: lists are of numbers."""
    return {name: tuple(map(float, one)) if isinstance(one, list | tuple) else one for name, one in raw.items()}


def _parse(raw: Mapping[str, Any]) -> FittedPolicy:
    prior = np.array(raw["prior"], dtype=np.float64)
    if prior.shape != (POINTS, len(CONCENTRATIONS)) or not np.isfinite(prior).all() or (prior < 0).any():
        raise ValueError(f"prior has shape {prior.shape}; it must be {(POINTS, len(CONCENTRATIONS))}, none negative")
    return FittedPolicy(
        reference=str(raw["reference"]),
        arms={str(name): FittedArm(**arm) for name, arm in raw["arms"].items()},
        prior=tuple(map(tuple, prior.tolist())),
        unparsed=float(raw["unparsed"]),
        calibration=None if raw["calibration"] is None else Calibration(**raw["calibration"]),
        weights=None if raw["weights"] is None else Weights(**raw["weights"]),
        text=None if raw["text"] is None else TextPrior(**_tuples(raw["text"])),
        fitted_on=dict(raw["fitted_on"]),
        error=FitError.parse(raw["error"]),
        pool=_checked(raw["pool"]),
        table=None if raw["table"] is None else Table.from_json(raw["table"]),
        marks=tuple(map(str, raw.get("marks", ()))),
        hidden=None if raw.get("hidden") is None else HiddenPrior(**_tuples(raw["hidden"])),
    )
