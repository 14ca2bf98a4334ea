"""`apportion logs`: what a job on a cluster has printed, and prints."""

from __future__ import annotations

import argparse
import sys

from apportion.commands.command import EXIT_OK, Command
from apportion.commands.remote import IDS, address_argument, follow_argument, follow_to_end, id_argument, only_id, shown


def _arguments(parser: argparse.ArgumentParser) -> None:
    id_argument(parser, needed=True)
    address_argument(parser)
    follow_argument(parser)


def _logs(arguments: argparse.Namespace) -> int:
    from apportion.scheduler.submit_cluster import Cluster

    job_id = only_id(arguments) or ""
    cluster = Cluster(arguments.address)
    if arguments.follow:
        return follow_to_end(cluster, job_id)
    sys.stdout.write(shown(cluster.logs(job_id)))
    return EXIT_OK


COMMAND = Command("logs", "what a job on a cluster has printed", _arguments, _logs, rest=IDS)
