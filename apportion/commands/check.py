"""`apportion check`: everything a job needs, looked at without spending."""

from __future__ import annotations

import argparse

from apportion.commands.command import EXIT_OK, PLAIN_WIDTH, Command, config_arguments


def _check(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job
    from apportion.errors import CapacityError

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.preflight import check_job, render
    from apportion.scheduler.terminal import output_console

    findings = check_job(spec)
    output_console(PLAIN_WIDTH).print(render(findings))
    if findings.shortage is not None:
        raise CapacityError(findings.shortage)
    return EXIT_OK


COMMAND = Command("check", "config, data, models and cluster, without spending", config_arguments, _check)
