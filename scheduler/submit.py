"""Sending a job to a cluster, and following it there.

What travels by Ray's runtime_env: the wheel of apportion, and a folder with the resolved config, the fitted policy it
names and what apportion requires, both as `py_modules`; the user's folder only where `--working-dir` says so. The
cluster's side is `apportion.commands.submitted`.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from apportion.errors import SubmissionError
from apportion.scheduler.submit_cluster import Cluster, JobState
from apportion.scheduler.submit_config import Parcel
from apportion.scheduler.submit_wheel import build_wheel, requirements

FOLDER = "apportion_job"
"""The package that holds a job's own files on the cluster."""
CONFIG, FITTED, REQUIREMENTS, SHIPPED = "config.yaml", "fitted.json", "requirements.txt", "shipped.json"

ENTRYPOINT = "exec python -P -m apportion.commands.submitted"
"""exec: signals reach the driver itself. -P: no folder called apportion is taken for ours, be it where the head was
started or in the user's own folder."""
STOP_SECONDS = 60
"""Ray kills a job that has not ended so long after it was asked to (3 s unless told): enough to write down what has
arrived and to leave the cluster."""
_KILLED_SECONDS = 30.0
"""Beyond that until Ray has noticed."""
_LOOK_SECONDS = 0.5
RECONNECTS = 5
"""Failures in a row, after which following gives up; each is waited for a little longer."""
_RECONNECT_SECONDS = 2.0


def submit_parcel(cluster: Cluster, parcel: Parcel, working_dir: Path | None) -> str:
    """Start a job on a cluster; returns its id. Raises SubmissionError."""
    mark = secrets.token_hex(4)
    job_id = _job_id(parcel, mark)
    with tempfile.TemporaryDirectory(prefix="apportion-submit-") as scratch:
        modules = [str(build_wheel(Path(scratch), mark)), str(_write_folder(Path(scratch), parcel))]
        environment: dict[str, Any] = {
            "py_modules": modules,
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }
        if working_dir is not None:
            environment["working_dir"] = str(working_dir)
        cluster.submit(job_id, ENTRYPOINT, environment, parcel.output, parcel.source)
    return job_id


def follow(cluster: Cluster, job_id: str, write: Callable[[str], None]) -> JobState:
    """Hand on what a job prints, from its beginning until it ends, and return its final state.

    A connection that breaks off is taken up again where it was. Raises SubmissionError where it stays away.
    """
    return asyncio.run(_follow(cluster, job_id, write))


def stop(cluster: Cluster, job_id: str) -> JobState:
    """Ask a job to end and wait until it has. Raises SubmissionError where it does not."""
    cluster.stop(job_id)
    deadline = time.monotonic() + STOP_SECONDS + _KILLED_SECONDS
    while not (state := cluster.state(job_id)).ended:
        if time.monotonic() > deadline:
            raise SubmissionError(
                f"{job_id} was asked to stop and is still {state.status}; look again with `apportion status {job_id}`"
            )
        time.sleep(_LOOK_SECONDS)
    return state


async def _follow(cluster: Cluster, job_id: str, write: Callable[[str], None]) -> JobState:
    printed = failures = 0
    cluster.state(job_id)  # of a job that is not there no log can be awaited
    while True:
        passed = 0
        try:
            async for text in cluster.tail(job_id):
                # Each connection starts from the beginning of the log.
                write(text[max(0, printed - passed) :])
                passed += len(text)
                printed = max(printed, passed)
                failures = 0
            state = cluster.state(job_id)
            if state.ended:
                return state
        except SubmissionError:
            failures += 1
            if failures > RECONNECTS:
                raise
        await asyncio.sleep(_RECONNECT_SECONDS * max(1, failures))


def _job_id(parcel: Parcel, mark: str) -> str:
    """Readable, and known before the cluster answers."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(parcel.source).stem).strip("-")[:32] or "job"
    return f"{name}-{mark}"


def _write_folder(scratch: Path, parcel: Parcel) -> Path:
    """The job's own files, as a package that Ray puts on the cluster's Python path."""
    folder = scratch / FOLDER
    folder.mkdir()
    (folder / "__init__.py").write_text('"""What one submitted job of apportion runs."""\n')
    (folder / CONFIG).write_text(yaml.safe_dump(parcel.config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in requirements()))
    (folder / SHIPPED).write_text(json.dumps(parcel.shipped))
    if parcel.fitted is not None:
        shutil.copyfile(parcel.fitted, folder / FITTED)
    return folder
