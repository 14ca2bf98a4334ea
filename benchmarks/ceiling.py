"""What counts can tell at best: optimal stopping learned from the very prompts it is scored on, against an index.

    python benchmarks/ceiling.py [--pools DIR] [--orders 24]

The first is the stopping rule of `price` with transitions and rewards from the pool itself, smoothed as always: what
labels could teach a policy that sees the two leading counts, at best. The index serves the vote whose second answer is
most likely to overtake, over the whole budget, as `blend_asc` does. Costs are samples.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from recorded import pools_folder
from rich.console import Console
from rich.table import Table
from savings import cost_to_reach
from scipy.special import betainc

from apportion.difficulty.playbook import Orders, plain_book
from apportion.difficulty.pools import read_pool
from apportion.difficulty.stopping import Grid, Tables, solve_stopping
from apportion.difficulty.trial import watch
from apportion.scheduler.plain import dumps

CASES = (
    ("addsub", "codex-001"),
    ("addsub", "codex-002"),
    ("last-letters", "gpt-3.5-turbo"),
    ("math500", "Phi-4-reasoning"),
    ("cruxeval-output", "codellama-34b+cot_temp0.8"),
)
SHARES = (0.8, 0.9, 0.95, 0.99)
THRESHOLDS = np.geomspace(1e-7, 0.6, 60)


def case(folder: Path, name: str, arm: str, count: int) -> list[float]:
    """Cost of the index over that of optimal stopping, at each share of uniform's gain; nan where not reached."""
    pool = read_pool(folder / name).only([arm])
    orders = Orders(pool, count, seed=0)
    book = plain_book(arm, orders.most(arm), by_score=False)
    walks = orders.walks(book)
    steps = np.diff((0, *book.stops)).astype(np.float64)
    best = solve_stopping(walks, steps, Grid.of(walks, book.unit), plurality=0.0)
    uniform = walks.right.mean(axis=0)[1:]
    targets = [uniform[0] + share * (uniform.max() - uniform[0]) for share in SHARES]
    trials = [watch(book, tables, orders, 1.0) for tables in (best, _index(best))]
    mine, other = ([cost_to_reach(trial.cost, trial.value, target) for target in targets] for trial in trials)
    return [b / a for a, b in zip(mine, other, strict=True)]


def _index(tables: Tables) -> Tables:
    """Stop where the chance that the next answer overtakes the leader is under a threshold."""
    first, second = np.divmod(np.arange(tables.critical.shape[1]), tables.grid.sides[1])
    chance = betainc(first + 1.0, np.minimum(first, second) + 1.0, 0.5)
    critical = np.broadcast_to(chance, tables.critical.shape).astype(np.float32)
    return replace(tables, critical=critical, prices=THRESHOLDS)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=Path)
    parser.add_argument("--orders", type=int, default=24)
    given = parser.parse_args()
    folder = pools_folder(given.pools)
    if folder is None:
        parser.error("no pools: name their folder by --pools or APPORTION_POOLS")
    table = Table("pool / arm", *map(str, SHARES), title="Cost of the index over optimal stopping on counts")
    rows = {}
    for name, arm in CASES:
        if (folder / name).is_dir():
            found = case(folder, name, arm, given.orders)
            rows[f"{name}/{arm}"] = [None if np.isnan(one) else one for one in found]
            table.add_row(f"{name} / {arm}", *(f"{one:.2f}" for one in found))
    Console(width=120).print(table)
    every = [one for row in rows.values() for one in row if one is not None]
    print(dumps({"benchmark": "ceiling", "saving": rows, "saving_mean": float(np.exp(np.mean(np.log(every))))}))


if __name__ == "__main__":
    main()
