"""`apportion fit`: recorded candidates with labels into one JSON file, which a job's `difficulty.fitted` names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apportion.commands.command import (
    EXIT_OK,
    PLAIN_WIDTH,
    Command,
    check_names,
    check_writable,
    complain,
    names,
    pool_arguments,
    read_pools,
    unwritable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from apportion.difficulty.fitted import FittedPolicy


def _arguments(parser: argparse.ArgumentParser) -> None:
    pool_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the JSON file to write")
    parser.add_argument("--arms", metavar="A,B", type=names, help="fit these arms only; all unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the halves that the error is measured on; 0")


def _fit(arguments: argparse.Namespace) -> int:
    from apportion.configs.rules import at_least, local_path
    from apportion.difficulty.crossfit import fit_with_error
    from apportion.difficulty.together import chosen
    from apportion.scheduler.cautions import few, never_right, untaught
    from apportion.scheduler.outputs import write_whole
    from apportion.scheduler.terminal import output_console

    output = local_path("-o", arguments.output)
    at_least("--seed", arguments.seed, 0)
    _check_output(output)
    check_names("--arms", arguments.arms)
    pools = chosen(read_pools(arguments), arguments.arms)
    check_writable("-o", output)
    policy = fit_with_error(pools, arguments.seed)
    try:
        write_whole(output, policy.text_file())
    except OSError as error:
        raise unwritable("-o", output, error) from error
    console = output_console(PLAIN_WIDTH)
    console.print(_arms_table(policy))
    console.print(_error_table(policy))
    console.print(_closing(policy, arguments.output), highlight=False, markup=False)
    for caution in filter(None, (few(policy), untaught(policy), never_right(policy))):
        complain(f"caution: {arguments.output} {caution}")
    return EXIT_OK


def _check_output(path: Path) -> None:
    """ConfigError for a name that is not a JSON file's, and for a file that is there and is no fitted policy."""
    import json

    from apportion.difficulty.fitted import FORMAT
    from apportion.errors import ConfigError

    if path.suffix.lower() != ".json":
        raise ConfigError(f"-o {path} must be a name that ends in .json, as in -o policy.json")
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = None
    if not isinstance(there, dict) or there.get("format") != FORMAT:
        raise ConfigError(
            f"-o {path} is there and is no fitted policy, so it is not written over; name another file, or move it away"
        )


def _arms_table(policy: FittedPolicy) -> Table:
    """The response of each arm."""
    from rich.table import Table

    from apportion.scheduler.terminal import amount, count, percent, safe

    table = Table(title="Arms", title_justify="left")
    priced = any(arm.dollars is not None for arm in policy.arms.values())
    for heading in (
        "arm",
        "candidates",
        "pass@1",
        "mean tokens",
        *(["mean price"] if priced else []),
        "lift in logits",
    ):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for name, arm in policy.arms.items():
        price = ["-" if arm.dollars is None else amount(arm.dollars, "dollars")] if priced else []
        tokens = "-" if arm.tokens is None else count(round(arm.tokens))
        table.add_row(safe(name), f"{arm.candidates:,}", percent(arm.pass_rate), tokens, *price, f"{arm.lift:+.2f}")
    return table


def _error_table(policy: FittedPolicy) -> RenderableType:
    """The two-fold error of each arm, that of a constant guess in brackets."""
    from rich.table import Table
    from rich.text import Text

    from apportion.difficulty.crossfit import AFTER, FEWEST_PROMPTS
    from apportion.scheduler.terminal import safe

    if not policy.error.arms:
        return Text(f"No error is measured on fewer than {2 * FEWEST_PROMPTS} prompts.")
    table = Table(
        title="Error on prompts that were not fitted on (of a constant guess): is the leading answer right?",
        title_justify="left",
    )
    there = [n for n in AFTER if any(row.after == n for error in policy.error.arms.values() for row in error.leading)]
    errors = [f"{kind} after {n}" for n in there for kind in ("Brier", "log loss")]
    for heading in ("arm", *errors, "rank corr. of text"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for name, error in policy.error.arms.items():
        rows = {row.after: row for row in error.leading}
        cells = []
        for n in there:
            row = rows.get(n)
            cells.append("-" if row is None else f"{row.brier:.3f} ({row.brier_constant:.3f})")
            cells.append("-" if row is None else f"{row.log_loss:.2f} ({row.log_loss_constant:.2f})")
        rank = "-" if error.rank_correlation is None else f"{error.rank_correlation:.2f}"
        table.add_row(safe(name), *cells, rank)
    return table


def _closing(policy: FittedPolicy, output: str) -> str:
    text = "the text says nothing" if policy.text is None else f"a text is worth {policy.text.strength:g} candidates"
    if policy.hidden is not None:
        text += f", a hidden state of {policy.hidden.model} {policy.hidden.strength:g}"
    scores = "scores teach nothing within prompts"
    if policy.calibration is not None:
        apart = policy.calibration.gap / policy.calibration.noise
        scores = f"scores hold right and wrong {apart:.1f} deviations apart"
    return (
        f"{output}: {policy.fitted_on['prompts']:,} prompts, {policy.fitted_on['candidates']:,} candidates; {text}; "
        f"{scores}. Use it with difficulty.fitted={output}"
    )


COMMAND = Command("fit", "fit a policy on recorded candidates with labels", _arguments, _fit, rest="pools")
