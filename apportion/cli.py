"""The command line: its commands are in `apportion.commands`, one a file.

Exit codes: 0 done, 1 done but every prompt failed, 2 a named error (its message on standard error, no traceback),
130 interrupted. Nothing heavy is
imported before a command runs. What a command is asked for goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from apportion import __version__
from apportion.commands import calibrate, check, fit, logs, plan, replay, run, status, stop, submit
from apportion.commands.command import (
    EXIT_BROKEN_PIPE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Command,
    complain,
    terminated_is_interrupted,
)
from apportion.errors import ApportionError

COMMANDS: tuple[Command, ...] = (
    run.COMMAND,
    plan.COMMAND,
    check.COMMAND,
    calibrate.COMMAND,
    fit.COMMAND,
    replay.COMMAND,
    submit.COMMAND,
    status.COMMAND,
    logs.COMMAND,
    stop.COMMAND,
)

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
  apportion calibrate job.yaml -o pools/math      record every arm on prompts with references, under the budget
  apportion fit pools/math -o math.json           what recorded candidates teach; then difficulty.fitted=math.json
  apportion run job.yaml seed=1 output=runs/more  another job needs another output
  apportion submit job.yaml output=/mnt/shared/x --address http://HOST:8265 --follow    run it on a cluster"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Usage errors and --help leave by SystemExit, as argparse does."""
    parser = _parser()
    arguments, stray = parser.parse_known_args(argv)
    command: Command | None = arguments.command
    _take_stray(parser, arguments, command, stray)
    if command is None:
        parser.print_help()
        return EXIT_OK
    try:
        with terminated_is_interrupted():
            return command.execute(arguments)
    except ApportionError as error:
        complain(f"apportion: {type(error).__name__}: {error}")
        return EXIT_ERROR
    except KeyboardInterrupt:
        complain("apportion: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _take_stray(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, command: Command | None, stray: Sequence[str]
) -> None:
    """argparse loses positionals that follow an option; they belong to the command's list like the others."""
    takes_changes = command is None or command.rest == "overrides"
    for text in stray:
        if text.startswith("-") or (takes_changes and "=" not in text):
            hint = "; a change to the config is written key=value" if takes_changes else ""
            parser.error(f"unknown argument {text!r}{hint}")
    if command is not None:
        setattr(arguments, command.rest, [*getattr(arguments, command.rest), *stray])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="apportion",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"apportion {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        text = command.help[0].upper() + command.help[1:] + "."
        sub = commands.add_parser(
            command.name, help=command.help, description=text, epilog=_EXAMPLES, allow_abbrev=False
        )
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        command.arguments(sub)
        sub.set_defaults(command=command)
    return parser
