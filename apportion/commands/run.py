"""`apportion run`: a job to its end, or from where it stopped."""

from __future__ import annotations

import argparse

from apportion.commands.command import (
    EXIT_ALL_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    PLAIN_WIDTH,
    Command,
    complain,
    config_arguments,
    quiet_argument,
)


def _arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    quiet_argument(parser)


def _run(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job
    from apportion.scheduler.outputs import read_summary
    from apportion.scheduler.plain import masked
    from apportion.scheduler.progress import Progress
    from apportion.scheduler.summary import closing
    from apportion.scheduler.terminal import error_console, output_console

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.assemble import prepare
    from apportion.scheduler.cautions import job_cautions
    from apportion.scheduler.solve import run_prepared

    where = str(spec.output) if spec.publish is None else masked(spec.publish)
    was_complete = read_summary(spec.output) is not None
    try:
        with Progress(error_console(), arguments.quiet, first="preparing the job") as display:
            prepared = prepare(spec)
            for caution in job_cautions(prepared):
                complain(f"caution: {caution}")
            summary = run_prepared(prepared, display)
    except KeyboardInterrupt:
        complain(f"apportion: stopped; everything so far is kept in {where}: run the same command to resume")
        return EXIT_INTERRUPTED
    if was_complete:
        complain(f"{where} is complete: nothing was run or spent; for a new run choose another output")
    # A run that is done gives the summary it was left with, which may be of an older version.
    for caution in summary.get("cautions", ()):
        complain(f"caution: {caution}")
    if not arguments.quiet:
        output_console(PLAIN_WIDTH).print(closing(summary, where))
    if summary["prompts"] > 0 and summary["failed"] == summary["prompts"] and summary["answered"] == 0:
        complain(f"apportion: all {summary['prompts']:,} prompts failed; the first error: {summary['first_error']}")
        return EXIT_ALL_FAILED
    return EXIT_OK


COMMAND = Command("run", "run a job, or resume it", _arguments, _run)
