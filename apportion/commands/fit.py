"""`apportion fit`: recorded candidates with labels into one JSON file, which a job's `difficulty.fitted` names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apportion.commands.command import EXIT_OK, PLAIN_WIDTH, Command, names, pool_arguments, pool_folders

if TYPE_CHECKING:
    from rich.table import Table

    from apportion.difficulty.fitted import FittedPolicy


def _arguments(parser: argparse.ArgumentParser) -> None:
    pool_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the JSON file to write")
    parser.add_argument("--arms", metavar="A,B", type=names, help="fit these arms only; all unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the halves that the error is measured on; 0")


def _fit(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from apportion.difficulty.crossfit import fit_with_error
    from apportion.difficulty.pools import read_pool
    from apportion.difficulty.together import chosen
    from apportion.errors import ConfigError
    from apportion.scheduler.outputs import write_whole
    from apportion.scheduler.terminal import output_console

    pools = [read_pool(folder) for folder in dict.fromkeys(pool_folders(arguments))]
    policy = fit_with_error(chosen(pools, arguments.arms), arguments.seed)
    try:
        Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(arguments.output), policy.text_file())
    except OSError as error:
        raise ConfigError(f"-o {arguments.output} cannot be written: {error}; name another file") from error
    console = output_console(PLAIN_WIDTH)
    console.print(_table(policy))
    console.print(_closing(policy, arguments.output), highlight=False, markup=False)
    return EXIT_OK


def _table(policy: FittedPolicy) -> Table:
    """Each arm's response and its two-fold error, constant guess in brackets."""
    from rich.table import Table

    from apportion.difficulty.crossfit import AFTER
    from apportion.scheduler.terminal import count, percent, safe

    table = Table(
        title="Arms, and the error on prompts that were not fitted on: Brier score of 'the leading answer is right' "
        "(of a constant guess)",
        title_justify="left",
    )
    for heading in ("arm", "candidates", "pass@1", "tokens", "lift", "rank corr.", *(f"after {n}" for n in AFTER)):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for name, arm in policy.arms.items():
        error = policy.error.arms.get(name)
        brier = {one.after: f"{one.brier:.3f} ({one.brier_constant:.3f})" for one in error.leading} if error else {}
        rank = error.rank_correlation if error is not None else None
        table.add_row(
            safe(name),
            f"{arm.candidates:,}",
            percent(arm.pass_rate),
            "-" if arm.tokens is None else count(round(arm.tokens)),
            f"{arm.lift:+.2f}",
            "-" if rank is None else f"{rank:.2f}",
            *(brier.get(n, "-") for n in AFTER),
        )
    return table


def _closing(policy: FittedPolicy, output: str) -> str:
    text = "the text says nothing" if policy.text is None else f"a text is worth {policy.text.strength:g} candidates"
    scores = "too few scores to learn from"
    if policy.calibration is not None:
        apart = policy.calibration.gap / policy.calibration.noise
        scores = f"scores hold right and wrong {apart:.1f} deviations apart"
    return (
        f"{output}: {policy.fitted_on['prompts']:,} prompts, {policy.fitted_on['candidates']:,} candidates; {text}; "
        f"{scores}. Use it with difficulty.fitted={output}"
    )


COMMAND = Command("fit", "fit a policy on recorded candidates with labels", _arguments, _fit, rest="pools")
