"""`apportion stop`: end a job on a cluster as Ctrl-C ends one here; submitting it again resumes it."""

from __future__ import annotations

import argparse

from apportion.commands.command import EXIT_OK, Command, complain
from apportion.commands.remote import IDS, address_argument, ended, id_argument, only_id


def _arguments(parser: argparse.ArgumentParser) -> None:
    id_argument(parser, needed=True)
    address_argument(parser)


def _stop(arguments: argparse.Namespace) -> int:
    from apportion.scheduler.submit import stop
    from apportion.scheduler.submit_cluster import Cluster

    job_id = only_id(arguments) or ""
    cluster = Cluster(arguments.address)
    before = cluster.state(job_id)
    if before.ended:
        complain(f"{job_id} had ended before: {before.status}")
        return EXIT_OK
    ended(stop(cluster, job_id))
    return EXIT_OK


COMMAND = Command("stop", "end a job on a cluster; it can be resumed", _arguments, _stop, rest=IDS)
