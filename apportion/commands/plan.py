"""`apportion plan`: what a budget is expected to reach, before any of it is spent."""

from __future__ import annotations

import argparse

from apportion.commands.command import EXIT_OK, PLAIN_WIDTH, Command, config_arguments


def _plan(arguments: argparse.Namespace) -> int:
    from apportion.configs.build import load_job

    spec = load_job(arguments.config, arguments.overrides)
    from apportion.scheduler.plan import plan_job, render
    from apportion.scheduler.terminal import output_console

    output_console(PLAIN_WIDTH).print(render(plan_job(spec)))
    return EXIT_OK


COMMAND = Command("plan", "what the budget is expected to buy, before spending", config_arguments, _plan)
