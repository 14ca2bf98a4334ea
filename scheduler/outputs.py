"""The run directory: what a user finds when a job is done, and what a resumed job may build on.

Invariants: one job writes to it at a time; a directory made by another config, dataset or fitted policy is refused,
unless that job sent nothing, so that what kept it from starting can be corrected; so is one that holds what no run
wrote there (see `claim`); whole files are written beside and renamed, so a reader never sees half of one;
results.jsonl only grows, holds each prompt once, and a line torn by a crash is removed when the job is resumed.
summary.json is written last: where it is, the run is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from apportion.errors import RunDirectoryError
from apportion.scheduler.candidates import CandidateWriter, write_results
from apportion.scheduler.claim import (
    CANDIDATES,
    CONFIG,
    DATASET,
    JOURNAL,
    REPORT,
    RESULTS,
    RESULTS_TABLE,
    SET_ASIDE,
    SUMMARY,
    begins,
    read_object,
)
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.lock import lock_folder
from apportion.scheduler.plain import dumps
from apportion.scheduler.report import add_lines
from apportion.scheduler.responses import Responses
from apportion.scheduler.results import Committed, PromptResult
from apportion.scheduler.spec import FITTED_COPY
from apportion.scheduler.summary import add_responses

__all__ = ["CANDIDATES", "CONFIG", "JOURNAL", "RunDirectory", "read_summary", "write_whole"]

_AGAIN = "free space there, or make it writable, and run the same command again"


class RunDirectory:
    """One job's run directory, locked from `open` to `close`; a context manager.

    `written` holds the ids already in results.jsonl when it was opened.
    """

    def __init__(
        self, path: Path, resolved: Mapping[str, Any], fingerprint: str, fitted: str | Path | None = None
    ) -> None:
        """Open or make the directory; `fitted` is the job's fitted policy, of which a copy is kept.

        Raises RunDirectoryError where it is locked, of another config, dataset or fitted policy, or of no job; and,
        then as in all its methods, where it cannot be written to.
        """
        self.path = path
        with _writing(path, "choose another output"):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        try:
            with _writing(path):
                self._adopt(resolved, fingerprint, Path(fitted) if fitted is not None else None)
                self.written = _repair(path / RESULTS)
                self._results: IO[str] = open(path / RESULTS, "a", encoding="utf-8")  # noqa: SIM115 - held until close
        except BaseException:
            self._lock.close()
            raise
        self._resolved = resolved
        self._committed: list[PromptResult] = []
        self._responses = Responses()
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
        with _writing(self.path):
            write_whole(self.path / SET_ASIDE, "".join(line + "\n" for line in lines))

    def commit(self, committed: Committed, correct: Sequence[bool | None]) -> None:
        """Keep one prompt's judged result and its candidates; `correct` is of each candidate.

        A resumed job commits its earlier prompts again: their lines are there and are not written twice.
        """
        result = committed.result
        self._committed.append(result)
        self._responses.add(committed, correct)
        with _writing(self.path):
            self._candidates.add(committed, correct)
            if result.prompt_id not in self.written:
                self._results.write(dumps(result.as_row()) + "\n")
                self._results.flush()
                self.written.add(result.prompt_id)

    def finish(self, summary: dict[str, Any], page: str | None = None) -> None:
        """Write the tables, the report's page where there is one, and the summary last.

        Adds to the summary, and says on the page, what the responses came to.
        """
        told = add_responses(summary, self._responses, self._resolved)
        with _writing(self.path):
            self._candidates.finish()
            write_results(self.path / RESULTS_TABLE, sorted(self._committed, key=lambda one: one.index))
            if page is not None:
                write_whole(self.path / REPORT, add_lines(page, told))
            write_whole(self.path / SUMMARY, dumps(summary, indent=2) + "\n")

    def close(self) -> None:
        """Let go of the directory. What a full disk keeps from being written has been told of."""
        for each in (self._candidates, self._results, self._lock):
            with suppress(OSError):
                each.close()

    def _adopt(self, resolved: Mapping[str, Any], fingerprint: str, fitted: Path | None) -> None:
        if not begins(self.path, resolved, fingerprint, fitted):
            return
        for suffix in ("", "-wal", "-shm"):
            # It is without work, and names the job it was made for.
            (self.path / f"{JOURNAL}{suffix}").unlink(missing_ok=True)
        # First, as it tells whose the others are where this is cut short.
        write_whole(self.path / DATASET, dumps({"fingerprint": fingerprint}) + "\n")
        (self.path / FITTED_COPY).unlink(missing_ok=True)
        if fitted is not None:
            write_whole(self.path / FITTED_COPY, fitted.read_text(encoding="utf-8"))
        write_whole(self.path / CONFIG, yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True))


@contextmanager
def _writing(path: Path, advice: str = _AGAIN) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"output: {path} cannot be written ({error}); {advice}") from error


def read_summary(path: Path) -> dict[str, Any] | None:
    """The summary of a finished run directory; None where there is none, or the folder is no run directory.

    Raises RunDirectoryError for a summary.json that no run wrote.
    """
    file = path / SUMMARY
    if not (path / CONFIG).is_file() or not file.is_file():
        return None
    summary = read_object(file)
    if not {"prompts", "answered", "budget"} <= summary.keys():
        raise RunDirectoryError(f"{file} is not the summary of a run; choose another output, or move the file away")
    return summary


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


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
