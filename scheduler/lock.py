"""The lock of a run directory: one job writes to it at a time, on one machine. It dies with its process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from apportion.errors import RunDirectoryError

LOCK = ".lock"
LOCK_SECONDS = 30.0
"""A killed process is gone well before; one that holds the lock for longer is at work."""
_POLL_SECONDS = 0.1


def lock_folder(path: Path) -> IO[str]:
    """The folder's lock, held until it is closed. Raises OSError where the folder cannot be written to, and
    RunDirectoryError where another process holds the lock."""
    lock = open(path / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - held until close
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with lock:
            raise _held(path, lock) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def wait_unlocked(path: Path) -> None:
    """Wait for up to `LOCK_SECONDS` until no job writes to a run directory; RunDirectoryError where one still does."""
    deadline = time.monotonic() + LOCK_SECONDS
    while (path / LOCK).exists():
        with open(path / LOCK, encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise _held(path, lock) from error
        time.sleep(_POLL_SECONDS)


def _held(path: Path, lock: IO[str]) -> RunDirectoryError:
    lock.seek(0)
    holder = lock.read().strip() or "unknown"
    return RunDirectoryError(
        f"output: another job (process {holder}) writes to {path}; wait for it or choose another output"
    )
