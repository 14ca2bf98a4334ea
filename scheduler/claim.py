"""Whose a run directory is: whether a job may begin there, goes on there, or must leave it alone.

Only looks, writes nothing: a run decides by it, and so does `check`. A folder is a job's where it holds config.yaml and
the dataset.json that a job writes. Anything else that a run would write over is somebody else's, a recorded pool or a
user's own file, and is never written over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from apportion.errors import RunDirectoryError
from apportion.scheduler.journal import has_work
from apportion.scheduler.plain import masked
from apportion.scheduler.spec import FITTED_COPY

CONFIG, DATASET, JOURNAL = "config.yaml", "dataset.json", "journal.sqlite"
RESULTS, RESULTS_TABLE, CANDIDATES = "results.jsonl", "results.parquet", "candidates.parquet"
SET_ASIDE, REPORT, SUMMARY = "set_aside.jsonl", "report.html", "summary.json"

AT_THE_START = (DATASET, FITTED_COPY)
"""What a job writes before its config.yaml: all that there may be of one that was killed in its first moment."""
AT_THE_END = (CANDIDATES, RESULTS_TABLE, REPORT, SUMMARY)
WRITTEN = (*AT_THE_END, RESULTS, JOURNAL, SET_ASIDE, *AT_THE_START)
_OF_A_POOL = "prompts.parquet"

_WHERE_IT_RUNS = ("output", "cluster", "calibration")
"""Keys that never change what a job decides. (What is recorded to calibrate is an allocation of its own.)"""
_MODEL_WHERE_IT_RUNS = ("cpus", "timeout_s", "load_timeout_s")
"""The same for a row of models. Its gpus stay compared: gpu_seconds are charged by them."""
_MODEL_SETS_IN_FLIGHT = ("replicas", "max_batch")
"""These set how many prompts are in flight, and so decide, unless `execution.in_flight` does."""
_COMPARED_BY_CONTENT = "difficulty.fitted"
"""A fitted policy is the same wherever its file lies."""
_SHOWN_DIFFERENCES = 8


def begins(path: Path, resolved: Mapping[str, Any], fingerprint: str, fitted: Path | None) -> bool:
    """Whether a job begins in this folder; False where it goes on with what it did there.

    It begins in a folder that is not there, is empty of what a run writes, or was left by a job that sent nothing.
    Raises RunDirectoryError where the folder belongs to another config, dataset or fitted policy, or to no job.
    """
    if not (path / CONFIG).exists():
        _refuse_others(path, AT_THE_START if _is_ours(path / DATASET) else ())
        return True
    if _is_unspent(path):
        _refuse_others(path, [name for name in WRITTEN if name not in AT_THE_END])
        return True
    found = differences(_read_config(path / CONFIG), resolved)
    if found:
        shown = "; ".join(found[:_SHOWN_DIFFERENCES])
        more = f"; and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
        raise RunDirectoryError(
            f"output: {path} belongs to another config: {shown}{more}. "
            f"Restore these values to resume it, or {_anew(resolved)}"
        )
    if read_object(path / DATASET).get("fingerprint") != fingerprint:
        raise RunDirectoryError(
            f"output: {path} was begun on other prompts: the dataset has changed since. "
            f"Restore the dataset to resume, or {_anew(resolved)}"
        )
    copy = path / FITTED_COPY
    if fitted is not None and copy.is_file() and copy.read_bytes() != fitted.read_bytes():
        raise RunDirectoryError(
            f"output: {path} was begun with another fitted policy: {fitted} has changed since. Resume with "
            f"the copy it kept, difficulty.fitted={copy}, or choose another output=..."
        )
    return False


def check_place(path: Path) -> None:
    """Raises RunDirectoryError where a folder is not there and cannot be made, or cannot be written to."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise RunDirectoryError(f"output: {path} cannot be written ({there} is no folder); choose another output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunDirectoryError(
            f"output: {path} cannot be written ({there} is not writable); make it so, or choose another output"
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two resolved configs, as `key: A there, B here`; where it runs is left out."""
    left, right = _flat(there), _flat(here)
    fixed = left.get("execution.in_flight") is not None
    keys = [key for key in dict.fromkeys([*left, *right]) if not _is_where_it_runs(key, fixed)]
    absent = object()
    return [
        f"{key}: {_shown(left.get(key, absent), absent)} there, {_shown(right.get(key, absent), absent)} here"
        for key in keys
        if left.get(key, absent) != right.get(key, absent)
        and not (key == _COMPARED_BY_CONTENT and left.get(key) is not None and right.get(key) is not None)
    ]


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a run directory, or RunDirectoryError."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); restore it or choose another output") from error
    if not isinstance(loaded, dict):
        raise RunDirectoryError(f"{path} does not hold an object; restore it or choose another output")
    return loaded


def _anew(resolved: Mapping[str, Any]) -> str:
    """How to begin beside what is there. The run directory of a recording is its pool's, and goes with it."""
    if _flat(resolved).get("allocation.policy") == "calibration":
        return "record another pool, with another -o POOL"
    return "choose another one with output=..."


def _refuse_others(path: Path, ours: Collection[str]) -> None:
    """RunDirectoryError for a file that a run would write over and that is none of `ours`."""
    name = next((name for name in WRITTEN if name not in ours and (path / name).exists()), None)
    if name is None:
        return
    pool = " (it is a recorded pool)" if name == CANDIDATES and (path / _OF_A_POOL).exists() else ""
    raise RunDirectoryError(
        f"output: {path} holds {name}, which no run wrote there{pool}, and a run would write over it; choose another "
        "one with output=..., or move the file away"
    )


def _is_unspent(path: Path) -> bool:
    """Whether the job that made this directory sent nothing: nothing that it wrote is worth keeping.

    Without its dataset.json, config.yaml may be somebody's own file.
    """
    results = path / RESULTS
    if (path / SUMMARY).exists() or (results.exists() and results.stat().st_size > 0):
        return False
    return _is_ours(path / DATASET) and not has_work(path / JOURNAL)


def _is_ours(dataset: Path) -> bool:
    """Whether a dataset.json is one that a job writes: its fingerprint and nothing else."""
    try:
        return set(read_object(dataset)) == {"fingerprint"}
    except RunDirectoryError:
        return False


def _read_config(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); restore it or choose another output") from error
    if not isinstance(loaded, dict):
        raise RunDirectoryError(f"{path} is not a config; restore it or choose another output")
    return loaded


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            name: leaf
            for key, inner in value.items()
            for name, leaf in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: value}


def _is_where_it_runs(key: str, in_flight_fixed: bool) -> bool:
    parts = key.split(".")
    of_models = (*_MODEL_WHERE_IT_RUNS, *_MODEL_SETS_IN_FLIGHT) if in_flight_fixed else _MODEL_WHERE_IT_RUNS
    return parts[0] in _WHERE_IT_RUNS or (len(parts) > 2 and parts[0] == "models" and parts[2] in of_models)


def _shown(value: Any, absent: object) -> str:
    return "absent" if value is absent else masked(repr(value))
