"""The claims of Snell et al. 2024 and Liu et al. 2025 on the lab models, from recorded strategies, every cost counted.

    python benchmarks/compute_optimal.py [--pool POOL] [--quick] [--only table|frontier|flops|reward] [--repeats N]
        [--budgets 8] [--workers 2] [--pictures FOLDER]

1. Accuracy by strategy, difficulty and N. 2. Accuracy against FLOPs of best-of-N, each strategy, the bins of Snell et
al. with predicted and oracle difficulty, and `price`; what `price` saves. 3. The small model with `price` against the
large one at matched FLOPs. 4. What is spent on search with a good and a weak verifier. The pool, lab:pool/strategies,
is made by benchmarks/optimal_record.py. Policies know what was fitted on the other half of the prompts, in each repeat
other halves. The last line is one JSON object, in which every ratio of compute is under a key that begins with
`saving`. Intervals are 90%, over the prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import optimal_flops
import optimal_frontier
import optimal_pictures
import optimal_reward
import optimal_table
from optimal_frontier import SMALL
from optimal_pool import LARGE_ARMS, SMALLS_SAMPLES, Strategies, strategies
from recorded import Clock, Stand, error_console, over_splits
from rich.console import Console

from apportion.errors import ApportionError
from apportion.scheduler.plain import dumps

PARTS = ("table", "frontier", "flops", "reward")
BUDGETS, QUICK_BUDGETS = 8, 6
REPEATS, QUICK_REPEATS = 6, 2
WIDTH = 190


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, as one JSON object."""
    found = strategies(given.pool, given.quick)
    budgets = QUICK_BUDGETS if given.quick else given.budgets
    repeats = QUICK_REPEATS if given.quick else given.repeats
    stand = Stand(None, given.workers, budgets, repeats, given.quick)
    clock, console = Clock(), Console(width=WIDTH)
    prompts = len(found.pool.ids)
    result: dict[str, Any] = {"benchmark": "compute_optimal", "quick": given.quick, "prompts": prompts}
    wanted = [part for part in PARTS if given.only in (None, part)]
    if "table" in wanted:
        _table(found, result, console, given.pictures)
        clock.tell("table")
    if "frontier" in wanted or "flops" in wanted:
        # All at once, so that each process fits what it is to know once.
        asked = [*optimal_frontier.entries(stand, found).values(), optimal_flops.entry(found)]
        over_splits(stand, found.pool, asked)
        curves = optimal_frontier.frontiers(stand, found)
        clock.tell("frontiers")
    if "frontier" in wanted:
        _frontier(curves, result, console, given.pictures)
    if "flops" in wanted:
        played = optimal_flops.matches(stand, found)
        result["flops_matched"] = optimal_flops.compared(found, played, curves.chosen["price", SMALL])
        console.print(optimal_flops.table_of(result["flops_matched"]))
        if given.pictures is not None:
            optimal_pictures.flops(result["flops_matched"], given.pictures / "optimal-flops.png")
        clock.tell("flops")
    if "reward" in wanted:
        if optimal_reward.recorded(found):
            spent = optimal_reward.spending(stand, found)
            result["reward"] = optimal_reward.as_json(spent)
            console.print(optimal_reward.table_of(spent))
            if given.pictures is not None:
                optimal_pictures.reward(spent, given.pictures / "optimal-reward.png")
        else:
            error_console.print("reward skipped: the pool has no arms of the weak verifier")
        clock.tell("reward")
    return result


def _table(found: Strategies, result: dict[str, Any], console: Console, pictures: Path | None) -> None:
    rows = optimal_table.rows_of(found)
    every = dict.fromkeys((*SMALLS_SAMPLES, *found.samples, *found.searches))
    smalls = [name for name in every if name not in LARGE_ARMS]
    names = [*smalls, *(name for name in every if name in LARGE_ARMS)]
    console.print(optimal_table.picture_of_table(rows, names))
    result["table"] = rows
    if pictures is not None:
        optimal_pictures.table(rows, smalls, pictures / "optimal-table.png")


def _frontier(
    curves: optimal_frontier.Frontiers, result: dict[str, Any], console: Console, pictures: Path | None
) -> None:
    saved = optimal_frontier.saved(curves)
    result |= saved
    result["price_over_binned"] = {kind: optimal_frontier.price_over_binned(curves, kind) for kind in _kinds(curves)}
    result["frontiers"] = {
        f"{name}, {kind}": {"flops": curve.costs.mean(axis=1).tolist(), "accuracy": curve.values.mean(axis=1).tolist()}
        for (name, kind), curve in curves.chosen.items()
    }
    console.print(optimal_frontier.table_of(curves, saved))
    for kind in _kinds(curves):
        gap = result["price_over_binned"][kind]
        each = ", ".join(
            f"{100 * one:+.1f} at {flops / 1e9:.2f}" for one, flops in zip(gap["gap"], gap["flops"], strict=True)
        )
        low, high = gap["mean_gap_interval"]
        console.print(
            f"price less binned, {kind}, points at GFLOPs: {each}; mean {100 * gap['mean_gap']:+.1f} "
            f"({100 * low:+.1f} to {100 * high:+.1f})",
            highlight=False,
        )
    if pictures is not None:
        optimal_pictures.frontier(curves, pictures / "optimal-frontier.png")


def _kinds(curves: optimal_frontier.Frontiers) -> list[str]:
    """The sets of arms that were chosen from."""
    return list(dict.fromkeys(kind for _, kind in curves.chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, help="the recorded pool; the one that ships where not given")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="few prompts, repeats and budgets")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"splits of the prompts ({REPEATS})")
    parser.add_argument("--budgets", type=int, default=BUDGETS, help=f"of each frontier ({BUDGETS})")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", type=Path, help="a folder for PNGs; none are made where not given")
    try:
        print(dumps(run(parser.parse_args())))
    except ApportionError as error:
        raise SystemExit(f"compute_optimal: {error}") from error


if __name__ == "__main__":
    main()
