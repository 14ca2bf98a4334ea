"""`apportion submit`: a job on a cluster, by way of its dashboard."""

from __future__ import annotations

import argparse
from pathlib import Path

from apportion.commands.command import EXIT_OK, Command, complain, config_arguments
from apportion.commands.remote import address_argument, follow_argument, follow_to_end, how


def _arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    address_argument(parser)
    parser.add_argument(
        "--working-dir",
        metavar="FOLDER",
        help="a folder to ship, that holds a dataset, models or code of yours; relative paths are relative to it",
    )
    follow_argument(parser)


def _submit(arguments: argparse.Namespace) -> int:
    from apportion.scheduler.submit_config import pack

    folder = _folder(arguments.working_dir)
    parcel = pack(arguments.config, arguments.overrides, folder)
    from apportion.scheduler.submit import submit_parcel
    from apportion.scheduler.submit_cluster import Cluster

    cluster = Cluster(arguments.address)
    job_id = submit_parcel(cluster, parcel, folder)
    if arguments.follow:
        complain(f"submitted {job_id}")
        return follow_to_end(cluster, job_id)
    print(job_id, flush=True)
    complain(f"submitted; results will be in {parcel.output} there")
    complain(f"watch it: {how('logs', cluster, job_id)} --follow")
    complain(f"stop it:  {how('stop', cluster, job_id)}")
    return EXIT_OK


def _folder(text: str | None) -> Path | None:
    from apportion.errors import ConfigError

    if text is None:
        return None
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"--working-dir: {folder} is no folder; give the folder that holds the job's own files")
    return folder


COMMAND = Command("submit", "run a job on a cluster, or resume it there", _arguments, _submit)
