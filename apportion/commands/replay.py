"""`apportion replay`: what allocation policies reach on recorded candidates, at which cost."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from apportion.errors import ConfigError

if TYPE_CHECKING:
    from apportion.difficulty.pools import Pool
    from apportion.scheduler.contest import Entry, Terms
    from apportion.scheduler.frontier import Frontier
    from apportion.scheduler.policy_choice import PolicyChoice

POLICIES = "uniform,asc,esc,price,oracle"

MOST_BUDGETS = 100
"""More points than that make no clearer curve: whoever asks for more means an amount."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    pool_arguments(parser)
    add = parser.add_argument
    add("--arms", type=names, metavar="A,B", help="arms to play with; all of the first pool where not given")
    add(
        "--policies",
        type=names,
        default=names(POLICIES),
        metavar="P,Q",
        help=f"allocation policies, with settings as in price:stride=1 or binned:difficulty=oracle ({POLICIES})",
    )
    add("--budgets", default="12", metavar="N", help="how many, or amounts per prompt with commas (12)")
    add("--repeats", type=int, default=20, metavar="N", help="random orders of the recorded candidates (20)")
    add("--seed", type=int, default=0, metavar="N", help="of the orders and of the halves (0)")
    add(
        "--fit",
        default="none",
        metavar="cross|FILE|none",
        help="what policies may know beforehand: two-fold over the prompts, a fitted policy, or no labels (none)",
    )
    add("--objective", default="accuracy", metavar="NAME", help="accuracy, coverage, quota:K or pairs:K (accuracy)")
    add("--unit", help="flops, tokens, dollars or samples; the first that the pool knows where not given")
    add("--select", help="the selector; weighted where candidates have scores, else majority, where not given")
    add("--workers", type=int, metavar="N", help="processes; as many as there are cores to use where not given")
    add("--out", required=True, metavar="FILE.json", help="the rows; a picture is put beside it")
    add("-q", "--quiet", action="store_true", help="no progress and no table")


def _replay(arguments: argparse.Namespace) -> int:
    from apportion.configs.rules import local_path
    from apportion.scheduler.cautions import cautions, unanswered
    from apportion.scheduler.contest import check_terms, goal_of
    from apportion.scheduler.frontier import terms_of
    from apportion.scheduler.frontier_view import draw, table_of
    from apportion.scheduler.policy_choice import choice_of
    from apportion.scheduler.stretch import processors
    from apportion.scheduler.terminal import output_console

    out = arguments.out = local_path("--out", arguments.out)
    terms = terms_of(
        arguments.fit,
        repeats=arguments.repeats,
        seed=arguments.seed,
        goal=goal_of(arguments.objective),
        select=arguments.select,
    )
    choices = [choice_of(text) for text in arguments.policies]
    check_terms(terms, [choice.policy for choice in choices])
    if arguments.workers is None:
        arguments.workers = processors()
    if arguments.workers < 1:
        raise ConfigError(f"--workers is {arguments.workers}; use at least 1")
    if out.is_dir() or out.suffix != ".json":
        raise ConfigError(f"--out is {out}; name a file that ends in .json")
    check_writable("--out", out)
    for option, given in (("--arms", arguments.arms), ("--policies", arguments.policies)):
        check_names(option, given)
    budgets = _budgets(arguments.budgets)
    pools = read_pools(arguments)
    entries = [entry for at, pool in enumerate(pools) for entry in _entries(at, pool, choices, arguments, budgets)]
    if terms.goal.name == "accuracy":
        for caution in filter(None, (unanswered(pool.only(arguments.arms or tuple(pool.decks))) for pool in pools)):
            complain(f"caution: {caution}")
    frontiers = _play(pools, entries, terms, arguments)
    picture = draw(frontiers, out.with_suffix(".png"))
    if not arguments.quiet:
        output_console(PLAIN_WIDTH).print(table_of(frontiers))
    if terms.fitted is not None:
        texts = [text for pool in pools for text in pool.texts]
        for caution in cautions(terms.fitted, f"--fit {arguments.fit}", texts):
            complain(f"caution: {caution}")
    complain(f"rows: {out}" + (f", picture: {picture}" if picture else "; no picture: pip install matplotlib"))
    return EXIT_OK


def _play(
    pools: Sequence[Pool], entries: Sequence[tuple[int, str, Entry]], terms: Terms, arguments: argparse.Namespace
) -> list[Frontier]:
    """Play every entry. What is done is in the file, whatever becomes of the others."""
    from apportion.scheduler.frontier import replay_all
    from apportion.scheduler.frontier_view import meta_of, rows_of

    frontiers: list[Frontier] = []
    rows: list[dict[str, Any]] = []
    kept = 0
    try:
        playing = replay_all(pools, [(at, entry) for at, _, entry in entries], terms, arguments.workers)
        with closing(cast("Generator[Frontier]", playing)) as played:
            for number, (at, name, entry) in enumerate(entries, 1):
                if not arguments.quiet:
                    complain(f"entry {number} of {len(entries)}: {pools[at].name} {'+'.join(entry.arms)} {name}")
                frontiers.append(replace(next(played), policy=name))
                rows += rows_of(frontiers[-1])
                counted = {"entries": len(entries), "played": number}
                _write(arguments.out, meta_of(frontiers, terms, arguments.fit) | counted, rows)
                kept = number
    except BaseException:
        if kept:
            complain(f"rows of the {kept} of {len(entries)} entries that were played: {arguments.out}")
        raise
    return frontiers


def _write(out: Path, meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    from apportion.scheduler.frontier_view import write_rows

    try:
        write_rows(out, meta, rows)
    except OSError as error:
        raise unwritable("--out", out, error) from error


def _entries(
    at: int,
    pool: Pool,
    choices: Sequence[PolicyChoice],
    arguments: argparse.Namespace,
    budgets: int | tuple[float, ...],
) -> list[tuple[int, str, Entry]]:
    """What is played on a pool, and its name: policies that choose among arms on all of them, others on each."""
    from apportion.scheduler.contest import MANY_ARMS, Entry, check_budgets, default_unit, spread, unit_of
    from apportion.scheduler.damani import check_texts

    if any(choice.policy == "damani" for choice in choices):
        # Known before the others are played.
        check_texts(pool.texts)
    arms = tuple(arguments.arms or pool.decks)
    chosen = pool.only(arms)
    unit = default_unit(chosen) if arguments.unit is None else unit_of(arguments.unit)
    amounts = spread(chosen, unit, budgets) if isinstance(budgets, int) else budgets
    check_budgets(chosen, unit, amounts)
    return [
        (at, choice.text, Entry(own, choice.policy, unit, amounts, choice.settings))
        for choice in choices
        for own in ([arms] if choice.policy in MANY_ARMS else [(arm,) for arm in arms])
    ]


def _budgets(text: str) -> int | tuple[float, ...]:
    """How many budgets, or the budgets per prompt. Raises ConfigError."""
    found: int | tuple[float, ...]
    try:
        found = int(text) if text.strip().isdigit() else tuple(float(part) for part in names(text))
    except ValueError as error:
        raise ConfigError(f"--budgets is {text!r}; give how many, or amounts per prompt with commas") from error
    amounts = (found,) if isinstance(found, int) else found
    if not amounts or not all(0.0 < amount < float("inf") for amount in amounts):
        raise ConfigError(f"--budgets is {text!r}; a number or an amount must be more than 0")
    if isinstance(found, int) and found > MOST_BUDGETS:
        raise ConfigError(
            f"--budgets is {text}: a plain number says how many budgets, at most {MOST_BUDGETS}; one amount per prompt "
            f"is written {text},"
        )
    return found


COMMAND = Command("replay", "compare allocation policies on recorded candidates", _arguments, _replay, rest="pools")
