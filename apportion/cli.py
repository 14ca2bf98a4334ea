"""The command line: `apportion run`, `plan` and `check`.

Exit codes: 0 done, 1 done but every prompt failed, 2 a named error (its message on standard error, no traceback),
130 interrupted. Nothing heavy is
imported before a command runs. What a command is asked for goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from apportion import __version__
from apportion.errors import ApportionError

EXIT_OK, EXIT_ERROR, EXIT_BROKEN_PIPE, EXIT_ALL_FAILED, EXIT_INTERRUPTED = 0, 2, 1, 1, 130

_PLAIN_WIDTH = 120
"""Columns of tables written to a file or a pipe, where there is no terminal to ask."""

_DESCRIPTION = """\
Spend one compute budget on a dataset of prompts so that as many as possible come out right.

CONFIG is a YAML file, or the name of one that ships with apportion (quickstart).
key=value changes a key of it, dotted: budget.amount=1e13 models.small.replicas=2 arms.beam=null"""

_EXAMPLES = """\
examples:
  apportion run quickstart                        200 problems on two tiny models, on this machine
  apportion plan job.yaml budget.amount=2e15      what that budget is expected to reach, before spending it
  apportion check job.yaml                        read the config, the data and the cluster; spend nothing
  apportion run job.yaml                          run it; the same command again resumes a stopped job
  apportion run job.yaml seed=1 output=runs/more  another job needs another output"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Usage errors and --help leave by SystemExit, as argparse does."""
    parser = _parser()
    arguments, stray = parser.parse_known_args(argv)
    for text in stray:
        if text.startswith("-") or "=" not in text:
            parser.error(f"unknown argument {text!r}; a change to the config is written key=value")
    command: Callable[[argparse.Namespace], int] | None = arguments.command
    if command is None:
        parser.print_help()
        return EXIT_OK
    # argparse loses positionals that follow an option; they are overrides like the others.
    arguments.overrides = [*arguments.overrides, *stray]
    try:
        return command(arguments)
    except ApportionError as error:
        _complain(f"apportion: {type(error).__name__}: {error}")
        return EXIT_ERROR
    except KeyboardInterrupt:
        _complain("apportion: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="apportion",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"apportion {__version__}")
    parser.set_defaults(command=None, overrides=[])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command, text in (
        ("run", _run, "run a job, or resume it"),
        ("plan", _plan, "what the budget is expected to buy, before spending"),
        ("check", _check, "config, data, models and cluster, without spending"),
    ):
        sub = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EXAMPLES, allow_abbrev=False
        )
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a packaged config")
        sub.add_argument("overrides", metavar="key=value", nargs="*", help="change a key of the config, dotted")
        if name == "run":
            sub.add_argument("-q", "--quiet", action="store_true", help="no progress and no closing tables")
        sub.set_defaults(command=command)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job
    from apportion.scheduler.outputs import read_summary
    from apportion.scheduler.progress import Progress
    from apportion.scheduler.summary import closing
    from apportion.scheduler.terminal import error_console, output_console

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.solve import run_job

    was_complete = read_summary(spec.output) is not None
    try:
        with Progress(error_console(), arguments.quiet, first="preparing the job") as display:
            summary = run_job(spec, display=display)
    except KeyboardInterrupt:
        _complain(f"apportion: stopped; everything so far is kept in {spec.output}: run the same command to resume")
        return EXIT_INTERRUPTED
    if was_complete:
        _complain(f"{spec.output} is complete: nothing was run or spent; for a new run choose another output")
    if not arguments.quiet:
        output_console(_PLAIN_WIDTH).print(closing(summary, str(spec.output)))
    if summary["prompts"] > 0 and summary["failed"] == summary["prompts"] and summary["answered"] == 0:
        _complain(f"apportion: all {summary['prompts']:,} prompts failed; the first error: {summary['first_error']}")
        return EXIT_ALL_FAILED
    return EXIT_OK


def _plan(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.plan import plan_job, render
    from apportion.scheduler.terminal import output_console

    output_console(_PLAIN_WIDTH).print(render(plan_job(spec)))
    return EXIT_OK


def _check(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job
    from apportion.errors import CapacityError

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.preflight import check_job, render
    from apportion.scheduler.terminal import output_console

    findings = check_job(spec)
    output_console(_PLAIN_WIDTH).print(render(findings))
    if findings.shortage is not None:
        raise CapacityError(findings.shortage)
    return EXIT_OK


def _complain(message: str) -> None:
    """A line on standard error; what came from data or a model cannot steer the terminal."""
    from apportion.scheduler.terminal import printable

    print(printable(message), file=sys.stderr)
