"""A run directory behind a URL: the job runs in a folder of this machine, and what it writes is published to the URL.

SQLite needs a local disk, and an object store has no locks. So `run_folder` gives the job a folder of its own, and a
`Publisher` copies it to the URL every `EVERY_SECONDS`, at the end, and when the job stops; where the folder is not
here, it is fetched from there first, which is how another machine resumes. Invariants:
- each published file is whole, and no prompt in the published results.jsonl lacks its replies in the published journal:
  whoever resumes from it answers no published prompt again;
- a folder that is ahead of the URL is never overwritten: the one that published last goes on, any other is put aside;
- one machine at a time: a job that another one published lately is not taken over, unless it stopped there and said so,
  and the one that lost it stops.

What a machine did after its last publication is lost with it, unless it stopped and said so: those replies are bought
again, and their cost is in no journal. Over all machines a job that is taken over may so spend more than its budget, by
at most what one machine can spend between two publications; the summary says how often it was (`taken_over`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import socket
import sqlite3
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from apportion.cache import user_cache
from apportion.errors import ConfigError, RunDirectoryError
from apportion.scheduler.lock import lock_folder
from apportion.scheduler.plain import masked
from apportion.scheduler.store import Store

RUNS_VARIABLE, EVERY_VARIABLE = "APPORTION_RUNS", "APPORTION_PUBLISH_SECONDS"
EVERY_SECONDS = 60.0
"""So much work is lost with a machine; a fraction of what a machine with a GPU takes to start."""
PATIENCE = 9.0
"""Times as long as publishing took is waited before the next one, so that it takes a tenth of the time at most."""
MISSED = 3.0
"""Publications a job may miss, and `GRACE_SECONDS` more, before it is held to be dead."""
GRACE_SECONDS = 60.0
HOLDER = ".holder.json"
JOURNAL, RESULTS = "journal.sqlite", "results.jsonl"
RUNNING = ("config.yaml", "dataset.json", "fitted.json", JOURNAL, RESULTS, "set_aside.jsonl")
FINISHED = ("results.parquet", "candidates.parquet", "report.html", "summary.json")
_log = logging.getLogger(__name__)


def run_folder(output: str) -> tuple[Path, str | None]:
    """The folder that a job runs in, and the URL that it is published to: None where `output` is a path.

    The folders of URLs lie in APPORTION_RUNS, else in the user's cache, and are named by their URL.
    """
    if "://" not in output:
        return Path(output).expanduser(), None
    url = output.rstrip("/")
    runs = Path(os.environ.get(RUNS_VARIABLE) or user_cache() / "runs").expanduser()
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", url.rpartition("/")[2]) or "run"
    return runs / f"{name}-{hashlib.blake2b(url.encode(), digest_size=6).hexdigest()}", url


class Publisher:
    """Keeps one URL up to date with one folder, from `with` to its end. Raises ConfigError where the URL cannot be used
    and RunDirectoryError where another job publishes there."""

    def __init__(self, url: str, folder: Path, every: float | None = None) -> None:
        """`every` is in seconds; APPORTION_PUBLISH_SECONDS or `EVERY_SECONDS` unless given."""
        self._shown = masked(url)
        self._folder = folder
        self._every = _every_seconds() if every is None else every
        self._pause = self._every
        self._store = Store(url)
        self._complete = False
        self._lost: RunDirectoryError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_publishing, name="apportion-publish", daemon=True)
        self.taken_over = 0

    def __enter__(self) -> Publisher:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(self._folder):
                self._adopt(self._store.lease())
            if self._complete:
                return self
            self._publish()
        except (ConfigError, RunDirectoryError):
            raise
        except Exception as error:  # every remote filesystem has exceptions of its own
            raise self._failed(error) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if error is None:
            self.check()
        if self._complete or self._lost is not None:
            return
        try:
            self._publish(stopped=True)
        except Exception as second:  # as above
            told = second if isinstance(second, RunDirectoryError) else self._failed(second)
            if error is None:
                raise told from second
            _log.warning("%s", told)

    def check(self) -> None:
        """Raise RunDirectoryError where another job has taken this one over: it must not go on."""
        if self._lost is not None:
            raise self._lost

    def _failed(self, error: Exception) -> RunDirectoryError:
        return RunDirectoryError(
            f"output: {self._shown} cannot be written to or read ({type(error).__name__}: {masked(str(error))}). What "
            f"the job did is in {self._folder}; run the same command again to publish it"
        )

    def _adopt(self, lease: dict[str, Any] | None) -> None:
        """Make the folder the one that goes on."""
        mine = _read(self._folder / HOLDER)
        if lease is None:
            there = next((name for name in (*RUNNING, *FINISHED) if self._store.exists(name)), None)
            if there is not None:
                raise RunDirectoryError(
                    f"output: {self._shown} holds {there}, which no job published; choose another output"
                )
            if mine is None:
                self._hold({"holder": uuid.uuid4().hex, "taken_over": 0})
        elif mine is None or mine["holder"] != lease["holder"]:
            self._take_over(lease)
        holder = _read(self._folder / HOLDER) or {}
        self.taken_over = int(holder["taken_over"])
        self._complete = lease is not None and bool(lease["complete"]) and lease["holder"] == holder["holder"]

    def _take_over(self, lease: dict[str, Any]) -> None:
        """Go on from what another machine published, unless it is at work."""
        age, stopped = time.time() - lease["at"], bool(lease.get("stopped"))
        if not (lease["complete"] or stopped) and age < MISSED * lease["pause"] + GRACE_SECONDS:
            raise RunDirectoryError(
                f"output: a job on {lease['host']} published to {self._shown} {age:.0f} s ago; wait for it, choose "
                f"another output, or, where it is dead, try again in {MISSED * lease['pause'] + GRACE_SECONDS:.0f} s"
            )
        aside = self._folder / f"superseded-{int(time.time())}"
        for name in (*RUNNING, *FINISHED, f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
            if (self._folder / name).exists():
                aside.mkdir(exist_ok=True)
                (self._folder / name).rename(aside / name)
        for name in (*RUNNING, *FINISHED):
            self._store.get(name, self._folder / name)
        if lease["complete"]:
            self._hold({"holder": lease["holder"], "taken_over": lease["taken_over"]})
            return
        if not stopped:
            _log.warning(
                "%s: going on from what %s published %.0f s ago; what it spent after that is not known and is not "
                "counted",
                self._shown,
                lease["host"],
                age,
            )
        self._hold({"holder": uuid.uuid4().hex, "taken_over": lease["taken_over"] + (not stopped)})
        # At once, so that the one that lost it notices.
        self._store.put_lease(self._lease(complete=False))

    def _hold(self, holder: dict[str, Any]) -> None:
        """Written last: a folder without it was not fetched whole."""
        (self._folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")

    def _lease(self, complete: bool, stopped: bool = False) -> dict[str, Any]:
        holder, said = _read(self._folder / HOLDER) or {}, {"complete": complete, "stopped": stopped}
        return {**holder, "host": socket.gethostname(), "at": time.time(), "pause": self._pause, **said}

    def _keep_publishing(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                self._publish()
            except RunDirectoryError as error:
                self._lost = error
                return
            except Exception as error:  # the job goes on, and the next time may be better
                _log.warning("%s; trying again in %.0f s", self._failed(error), self._pause)

    def _publish(self, stopped: bool = False) -> None:
        """`stopped`: this machine has ended, and has nothing beyond what it publishes now."""
        began = time.monotonic()
        lease = self._store.lease()
        if lease is not None and lease["holder"] != self._lease(False)["holder"]:
            raise RunDirectoryError(
                f"output: {self._shown} was taken over by a job on {lease['host']}; this one stops. What it did since "
                f"is in {self._folder}"
            )
        complete = (self._folder / FINISHED[-1]).exists()
        with tempfile.TemporaryDirectory(prefix="apportion-") as scratch:
            for name in (*RUNNING, *FINISHED) if complete else RUNNING:
                copy = Path(scratch) / name
                if name == JOURNAL:
                    # The results first: the journal may be ahead of them, never behind.
                    _copy(self._folder / RESULTS, Path(scratch) / RESULTS)
                    _snapshot(self._folder / JOURNAL, copy)
                elif name != RESULTS:
                    _copy(self._folder / name, copy)
                self._store.put(copy, name)
        self._store.put_lease(self._lease(complete, stopped))
        self._complete = complete
        self._pause = max(self._every, PATIENCE * (time.monotonic() - began))


def _every_seconds() -> float:
    """How often to publish, as the environment says; ConfigError where that is no number of seconds."""
    text = os.environ.get(EVERY_VARIABLE)
    if not text:
        return EVERY_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise ConfigError(f"{EVERY_VARIABLE} is {text!r}, but must be a number of seconds of at least 0, as in 60")
    return seconds


def _snapshot(journal: Path, copy: Path) -> None:
    """The journal as it is at one moment, in one file; the job goes on writing meanwhile."""
    if not journal.exists():
        return
    source = sqlite3.connect(f"file:{quote(str(journal.absolute()))}?mode=ro", uri=True)
    target = sqlite3.connect(copy)
    try:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    finally:
        source.close()
        target.close()


def _copy(file: Path, copy: Path) -> None:
    if file.exists():
        copy.write_bytes(file.read_bytes())


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
