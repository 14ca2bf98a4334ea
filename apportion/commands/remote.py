"""What the commands for jobs on a cluster share: --address, job ids, following, and how a job ended."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from apportion.commands.command import EXIT_ALL_FAILED, EXIT_INTERRUPTED, EXIT_OK, complain

if TYPE_CHECKING:
    from apportion.scheduler.submit_cluster import Cluster, JobState

IDS = "ids"
"""Positional job ids are a list, though no command takes more than one: see `Command.rest`."""
_SHOWN_LINES = 8
"""Of Ray's reason, which is often whole tracebacks, the last ones: what went wrong is there."""
_ON_PATH = "on the PATH that Ray was started with; start Ray with its Python environment activated on every node"
_NO_PYTHON = 127
"""What a shell leaves with where a command is not found."""


def address_argument(parser: argparse.ArgumentParser) -> None:
    """--address."""
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard, http://HOST:8265; RAY_API_SERVER_ADDRESS or RAY_ADDRESS unless given",
    )


def follow_argument(parser: argparse.ArgumentParser) -> None:
    """--follow."""
    parser.add_argument(
        "--follow", action="store_true", help="print its log until it ends, and leave with its exit code"
    )


def id_argument(parser: argparse.ArgumentParser, needed: bool) -> None:
    """ID; `only_id` reads it."""
    parser.add_argument(IDS, metavar="ID", nargs="+" if needed else "*", help="a job, as submit and status name it")


def only_id(arguments: argparse.Namespace) -> str | None:
    """The job that was named, or None. Raises SubmissionError for more than one."""
    from apportion.errors import SubmissionError

    ids: list[str] = getattr(arguments, IDS)
    if len(ids) > 1:
        raise SubmissionError(f"one job at a time, not {len(ids)}: {' '.join(ids)}")
    if ids and not ids[0].replace("-", "").replace("_", "").isalnum():
        raise SubmissionError(f"{ids[0]!r} is no job id; `apportion status` lists them")
    return ids[0] if ids else None


def follow_to_end(cluster: Cluster, job_id: str) -> int:
    """Print a job's log until it ends; its exit code. Ctrl-C leaves the job alone."""
    from apportion.scheduler.submit import follow

    try:
        state = follow(cluster, job_id, _write)
    except KeyboardInterrupt:
        complain(f"\napportion: {job_id} goes on without being watched")
        complain(f"return to it: {how('logs', cluster, job_id)} --follow")
        complain(f"stop it:      {how('stop', cluster, job_id)}")
        return EXIT_INTERRUPTED
    return ended(state)


def ended(state: JobState) -> int:
    """Say how a job ended; its exit code: what `apportion run` left with, as far as Ray knows."""
    if state.status == "SUCCEEDED":
        complain(f"{state.id} succeeded{_kept(state)}")
        return EXIT_OK
    if state.status == "STOPPED":
        complain(f"{state.id} was stopped; submit the same job again to resume it{_kept(state)}")
        return EXIT_INTERRUPTED
    complain(f"apportion: {state.id} failed: {reason(state)}")
    return state.exit_code or EXIT_ALL_FAILED


def reason(state: JobState) -> str:
    """Why a job failed, as far as Ray knows, with the next step."""
    if state.exit_code == _NO_PYTHON:
        return f"exit code {_NO_PYTHON}; there is no `python` {_ON_PATH}"
    if state.exit_code is not None:
        return f"exit code {state.exit_code}; see apportion logs {state.id}"
    message = state.message or "Ray gave no reason"
    if "No such file or directory: 'pip'" in message:
        return f"there is no `pip`, which installs apportion's wheel, {_ON_PATH} (where uv made it: uv pip install pip)"
    if "requires a different Python" in message:
        return "the cluster's Python is older than apportion needs (3.11); start Ray with a newer one"
    return "\n".join(message.strip().splitlines()[-_SHOWN_LINES:])


def how(command: str, cluster: Cluster, job_id: str) -> str:
    """The command line that does something with a job."""
    from apportion.scheduler.plain import masked

    return f"apportion {command} {job_id} --address {masked(cluster.url)}"


def shown(text: str) -> str:
    """A log's text, made harmless for the terminal."""
    from apportion.scheduler.terminal import printable

    return printable(text.replace("\t", "    "))


def _kept(state: JobState) -> str:
    return f" ({state.output} on the cluster)" if state.output is not None else ""


def _write(text: str) -> None:
    sys.stdout.write(shown(text))
    sys.stdout.flush()
