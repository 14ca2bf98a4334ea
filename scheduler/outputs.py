"""The run directory: what a user finds when a job is done, and what a resumed job may build on.

Invariants: one job writes to it at a time; a directory made by another config, dataset or fitted policy is refused,
unless that job got no reply, so that what kept it from starting can be corrected; whole files are written beside and
renamed, so a reader never sees half of one; results.jsonl only grows, holds each prompt once, and a line torn by a
crash is removed when the job is resumed. summary.json is written last: where it is, the run is done.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import quote

import yaml

from apportion.errors import RunDirectoryError
from apportion.scheduler.candidates import CandidateWriter, write_results
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.lock import lock_folder
from apportion.scheduler.plain import dumps, masked
from apportion.scheduler.results import Committed, PromptResult
from apportion.scheduler.spec import FITTED_COPY

CONFIG, DATASET, JOURNAL = "config.yaml", "dataset.json", "journal.sqlite"
RESULTS, RESULTS_TABLE, CANDIDATES = "results.jsonl", "results.parquet", "candidates.parquet"
SET_ASIDE, REPORT, SUMMARY = "set_aside.jsonl", "report.html", "summary.json"

_WHERE_IT_RUNS = ("output", "cluster", "calibration")
"""Keys that never change what a job decides. (What is recorded to calibrate is an allocation of its own.)"""
_MODEL_WHERE_IT_RUNS = ("cpus", "timeout_s")
"""The same for a row of models. Its gpus stay compared: gpu_seconds are charged by them."""
_MODEL_SETS_IN_FLIGHT = ("replicas", "max_batch")
"""These set how many prompts are in flight, and so decide, unless `execution.in_flight` does."""
_COMPARED_BY_CONTENT = "difficulty.fitted"
"""A fitted policy is the same wherever its file lies."""
_SHOWN_DIFFERENCES = 8


class RunDirectory:
    """One job's run directory, locked from `open` to `close`; a context manager.

    `written` holds the ids already in results.jsonl when it was opened.
    """

    def __init__(
        self, path: Path, resolved: Mapping[str, Any], fingerprint: str, fitted: str | Path | None = None
    ) -> None:
        """Open or make the directory; `fitted` is the job's fitted policy, of which a copy is kept.

        Raises RunDirectoryError where it is locked, or of another config, dataset or fitted policy.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except OSError as error:
            raise RunDirectoryError(f"output: {path} cannot be written ({error}); choose another output") from error
        try:
            self._adopt(resolved, fingerprint, Path(fitted) if fitted is not None else None)
            self.written = _repair(path / RESULTS)
            self._results: IO[str] = open(path / RESULTS, "a", encoding="utf-8")  # noqa: SIM115 - held until close
        except BaseException:
            self._lock.close()
            raise
        self._committed: list[PromptResult] = []
        self._candidates = CandidateWriter(path / CANDIDATES)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def journal(self) -> Path:
        """Where the job's journal lies."""
        return self.path / JOURNAL

    @property
    def config(self) -> str:
        """The resolved config, as its file has it: what is secret in it is masked."""
        return (self.path / CONFIG).read_text(encoding="utf-8")

    def complete(self) -> dict[str, Any] | None:
        """The summary of a run that is done; None where there is work left."""
        return read_summary(self.path)

    def set_aside(self, rows: Sequence[SetAside]) -> None:
        """Write the rows that are not answered."""
        lines = [dumps({"line": one.line, "id": one.id, "reason": one.reason}) for one in rows]
        write_whole(self.path / SET_ASIDE, "".join(line + "\n" for line in lines))

    def commit(self, committed: Committed, correct: Sequence[bool | None]) -> None:
        """Keep one prompt's judged result and its candidates; `correct` is of each candidate.

        A resumed job commits its earlier prompts again: their lines are there and are not written twice.
        """
        result = committed.result
        self._committed.append(result)
        self._candidates.add(committed, correct)
        if result.prompt_id not in self.written:
            self._results.write(dumps(result.as_row()) + "\n")
            self._results.flush()
            self.written.add(result.prompt_id)

    def finish(self, summary: Mapping[str, Any], page: str | None = None) -> None:
        """Write the tables, the report's page where there is one, and the summary last."""
        self._candidates.finish()
        write_results(self.path / RESULTS_TABLE, sorted(self._committed, key=lambda one: one.index))
        if page is not None:
            write_whole(self.path / REPORT, page)
        write_whole(self.path / SUMMARY, dumps(summary, indent=2) + "\n")

    def close(self) -> None:
        """Let go of the directory."""
        self._candidates.close()
        self._results.close()
        self._lock.close()

    def _adopt(self, resolved: Mapping[str, Any], fingerprint: str, fitted: Path | None) -> None:
        config, dataset = self.path / CONFIG, self.path / DATASET
        if not config.exists() or self._is_unspent():
            self._drop_journal()
            (self.path / FITTED_COPY).unlink(missing_ok=True)
            if fitted is not None:
                write_whole(self.path / FITTED_COPY, fitted.read_text(encoding="utf-8"))
            write_whole(dataset, dumps({"fingerprint": fingerprint}) + "\n")
            write_whole(config, yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True))
            return
        found = differences(_read_config(config), resolved)
        if found:
            shown = "; ".join(found[:_SHOWN_DIFFERENCES])
            more = f"; and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
            raise RunDirectoryError(
                f"output: {self.path} belongs to another config: {shown}{more}. "
                "Restore these values to resume it, or choose another one with output=..."
            )
        if _read_json(dataset).get("fingerprint") != fingerprint:
            raise RunDirectoryError(
                f"output: {self.path} was begun on other prompts: the dataset has changed since. "
                "Restore the dataset to resume, or choose another one with output=..."
            )
        copy = self.path / FITTED_COPY
        if fitted is not None and copy.is_file() and copy.read_bytes() != fitted.read_bytes():
            raise RunDirectoryError(
                f"output: {self.path} was begun with another fitted policy: {fitted} has changed since. Resume with "
                f"the copy it kept, difficulty.fitted={copy}, or choose another output=..."
            )

    def _is_unspent(self) -> bool:
        """Whether the job that made this directory got no reply: nothing in it is worth keeping.

        Without dataset.json, config.yaml may be somebody's own file.
        """
        results = self.path / RESULTS
        if (self.path / SUMMARY).exists() or (results.exists() and results.stat().st_size > 0):
            return False
        return (self.path / DATASET).exists() and not _has_events(self.journal)

    def _drop_journal(self) -> None:
        """Take away a journal without events: it names the job it was made for."""
        if not _has_events(self.journal):
            for suffix in ("", "-wal", "-shm"):
                self.journal.with_name(self.journal.name + suffix).unlink(missing_ok=True)


def read_summary(path: Path) -> dict[str, Any] | None:
    """The summary of a finished run directory, or None."""
    file = path / SUMMARY
    return _read_json(file) if file.is_file() else None


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


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); restore it or choose another output") from error
    if not isinstance(loaded, dict):
        raise RunDirectoryError(f"{path} is not a config; restore it or choose another output")
    return loaded


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); restore it or choose another output") from error
    if not isinstance(loaded, dict):
        raise RunDirectoryError(f"{path} does not hold an object; restore it or choose another output")
    return loaded


def _has_events(journal: Path) -> bool:
    """Whether a journal holds a reply; a file that cannot be read counts as one that does."""
    if not journal.exists() or journal.stat().st_size == 0:
        return False
    try:
        db = sqlite3.connect(f"file:{quote(str(journal.absolute()))}?mode=ro", uri=True)
        try:
            tables = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone()
            return tables is not None and db.execute("SELECT 1 FROM events LIMIT 1").fetchone() is not None
        finally:
            db.close()
    except sqlite3.Error:
        return True


def _repair(path: Path) -> set[str]:
    """Ids in results.jsonl; whatever a crash left of a last line is cut off."""
    if not path.exists():
        return set()
    ids: set[str] = set()
    whole = 0
    with open(path, "rb") as stream:
        for raw in stream:
            if not raw.endswith(b"\n"):
                break
            try:
                ids.add(str(json.loads(raw)["prompt_id"]))
            except (ValueError, KeyError, TypeError) as error:
                raise RunDirectoryError(
                    f"{path} holds a line that this job did not write; restore it or choose another output"
                ) from error
            whole += len(raw)
    os.truncate(path, whole)
    return ids
