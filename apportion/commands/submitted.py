"""The cluster's side of `apportion submit`: runs the job whose files came with it, as `apportion run` does.

Started by Ray as `python -m apportion.commands.submitted`. Imports nothing but the standard library and `packaging`,
which Ray brings, until it has seen that the cluster has what apportion needs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

_SHOWN_PATHS = 5
"""Of files that are not there: enough to see which line leaves them out."""


def main() -> int:
    """Run the job; returns the exit code of `apportion run`."""
    lacking = missing(_job_file("requirements.txt").read_text(encoding="utf-8").splitlines())
    if lacking:
        needs = ", ".join(f"{line} (has {has})" if has else line for line, has in lacking.items())
        _complain(
            f"this cluster's Python ({sys.executable}) lacks what apportion needs: {needs}; install it on "
            f"every node, for example pip install {shlex.join(lacking)}, or start Ray with a Python that has it first "
            "on its PATH"
        )
        return 2
    shipped = json.loads(_job_file("shipped.json").read_text(encoding="utf-8"))
    if shipped is None:
        # Ray puts the current directory first on its workers' path; without a folder it is where the head was started.
        os.chdir(_job_file("."))
    absent = [path for path in shipped or () if not Path(path).exists()]
    if absent:
        more = f" and {len(absent) - _SHOWN_PATHS:,} more" if len(absent) > _SHOWN_PATHS else ""
        _complain(
            f"{', '.join(absent[:_SHOWN_PATHS])}{more} did not travel with --working-dir: a .gitignore or .rayignore "
            "there leaves it out; change that line, or submit with RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1 to ship what git "
            "ignores"
        )
        return 2
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apportion", "ray"))
    print(f"{versions} on {socket.gethostname()}", flush=True)
    from apportion.cli import main as command_line

    fitted = _job_file("fitted.json")
    overrides = [f"difficulty.fitted={fitted}"] if fitted.is_file() else []
    return command_line(["run", str(_job_file("config.yaml")), *overrides])


def missing(requirements: Iterable[str]) -> dict[str, str | None]:
    """Those of the requirements that this Python does not meet, with the version it has, None for none."""
    from packaging.requirements import Requirement

    lacking: dict[str, str | None] = {}
    for line in requirements:
        one = Requirement(line)
        if one.marker is not None and not one.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            lacking[line] = None
            continue
        if not one.specifier.contains(version, prereleases=True):
            lacking[line] = version
    return lacking


def _job_file(name: str) -> Path:
    return Path(str(importlib.resources.files("apportion_job") / name))


def _complain(message: str) -> None:
    print(f"apportion: SubmissionError: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
