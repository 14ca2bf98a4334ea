"""`apportion status`: the jobs on a cluster, or one of them."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from apportion.commands.command import EXIT_OK, PLAIN_WIDTH, Command, complain
from apportion.commands.remote import IDS, address_argument, id_argument, only_id, reason
from apportion.errors import SubmissionError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from apportion.scheduler.submit_cluster import Cluster, JobState

_SHOWN_MESSAGE = 4000
"""Characters of a value."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    id_argument(parser, needed=False)
    address_argument(parser)


def _status(arguments: argparse.Namespace) -> int:
    from apportion.scheduler.plain import masked
    from apportion.scheduler.submit_cluster import Cluster
    from apportion.scheduler.terminal import output_console

    job_id = only_id(arguments)
    cluster = Cluster(arguments.address)
    console = output_console(PLAIN_WIDTH)
    if job_id is not None:
        job = cluster.state(job_id)
        console.print(_details(job, _last_line(cluster, job)))
        return EXIT_OK
    jobs = [one for one in cluster.jobs() if one.config is not None]
    if jobs:
        console.print(_table(jobs))
    else:
        complain(f"the cluster at {masked(cluster.url)} remembers no job that apportion submitted")
    return EXIT_OK


def _table(jobs: list[JobState]) -> RenderableType:
    from rich.table import Table

    from apportion.scheduler.terminal import safe

    table = Table()
    for heading in ("job", "status", "took", "config", "output"):
        table.add_column(heading, overflow="fold")
    for job in jobs:
        table.add_row(*map(safe, (job.id, job.status, _took(job), job.config or "", job.output or "")))
    return table


def _last_line(cluster: Cluster, job: JobState) -> str | None:
    """What a job that runs said last: how far it is, or what it waits for; None where its log cannot be had."""
    if job.ended or job.config is None:
        return None
    try:
        log = cluster.logs(job.id)
    except SubmissionError:
        return None
    return next((line for line in reversed(log.splitlines()) if line.strip()), None)


def _details(job: JobState, says: str | None) -> RenderableType:
    from rich.table import Table

    from apportion.scheduler.terminal import safe

    table = Table.grid(padding=(0, 2))
    rows = [
        ("job", job.id),
        ("status", job.status),
        ("took" if job.ended else "for", _took(job)),
        ("config", job.config or "not submitted by apportion"),
        ("output", job.output or "-"),
    ]
    if says is not None:
        rows.append(("says", says))
    if job.status == "FAILED":
        rows.append(("reason", reason(job)))
    for label, value in rows:
        table.add_row(label, safe(value, _SHOWN_MESSAGE))
    return table


def _took(job: JobState) -> str:
    from apportion.scheduler.terminal import duration

    if job.started_s is None:
        return "-"
    return duration(max(0.0, (job.ended_s or time.time()) - job.started_s))


COMMAND = Command("status", "the jobs on a cluster, or one of them", _arguments, _status, rest=IDS)
