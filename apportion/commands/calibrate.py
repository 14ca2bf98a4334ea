"""`apportion calibrate`: every arm of a config on labelled prompts, recorded as a pool to fit and replay on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from apportion.scheduler.calibrate import Recorded


def _arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("-o", "--output", metavar="POOL", help="the pool's folder (calibration.output)")
    parser.add_argument("--samples", type=int, metavar="N", help="of each arm for each prompt (calibration.samples)")
    quiet_argument(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from apportion.configs.build import load_job
    from apportion.configs.rules import at_least, local_path
    from apportion.scheduler.calibrate import calibrate
    from apportion.scheduler.progress import Progress
    from apportion.scheduler.terminal import error_console, output_console

    spec = load_job(arguments.config, arguments.overrides)
    settings = spec.calibration
    if arguments.output is not None:
        settings = replace(settings, output=local_path("-o", arguments.output))
    if arguments.samples is not None:
        at_least("--samples", arguments.samples, 1)
        settings = replace(settings, samples=arguments.samples)
    try:
        with Progress(error_console(), arguments.quiet, first="preparing the job") as display:
            recorded = calibrate(replace(spec, calibration=settings), display=display)
    except KeyboardInterrupt:
        complain("apportion: stopped; everything so far is kept: run the same command to resume")
        return EXIT_INTERRUPTED
    if recorded.before:
        complain(f"{recorded.pool} is recorded: nothing was run or spent; for another pool give another -o POOL")
    for caution in recorded.summary.get("cautions", ()):
        complain(f"caution: {caution}")
    if not arguments.quiet:
        output_console(PLAIN_WIDTH).print(_closing(recorded), highlight=False, markup=False)
    summary = recorded.summary
    if not recorded.arms:
        complain(f"apportion: nothing was recorded; the first error: {summary['first_error']}")
        return EXIT_ALL_FAILED
    if recorded.complete < recorded.prompts:
        failed = f", {summary['failed']:,} failed" if summary["failed"] else ""
        complain(
            f"apportion: {recorded.complete:,} of {recorded.prompts:,} prompts are complete on all arms{failed}; for "
            "more, raise calibration.budget and record another pool, with another -o POOL"
        )
    return EXIT_OK


def _closing(recorded: Recorded) -> str:
    from apportion.scheduler.terminal import duration, spending

    budget = recorded.summary["budget"]
    arms = ", ".join(f"{candidates:,} of {arm}" for arm, candidates in recorded.arms.items())
    return (
        f"{recorded.complete:,} of {recorded.prompts:,} prompts complete on all arms; candidates: {arms or 'none'}\n"
        f"{spending(budget['spent'], budget['amount'], budget['unit'])} spent in "
        f"{duration(recorded.summary['wall_s'])}\n"
        f"the pool: {recorded.pool}; next: apportion fit {recorded.pool} -o policy.json"
    )


COMMAND = Command("calibrate", "record every arm on labelled prompts, or go on", _arguments, _calibrate)
