"""Seconds, memory and certificate of the static plan of millions of prompts.

    python benchmarks/planning.py [--prompts 1000000 10000000] [--repeats 5] [--out FILE.json]

Each prompt has 32 options: four arms, eight amounts each, of which two arms have concave responses (a checker finds
the right candidate) and two have not (a vote needs several). Prompts differ in difficulty, response and length. Three
budgets: about 2, 8 and 32 candidates of the cheapest arm a prompt. `made` makes the tables part by part as the plan
asks for them, its seconds included; `held` has cost and gain in memory in single precision before the clock starts;
`alike` has one row for all, so that every prompt ties with every other at the price. Every line comes from a process of
its own, whose greatest resident memory is the system's count (ru_maxrss), inputs, interpreter and all. Seconds: median
over budgets and repeats, with the least and the most; the gap is the largest seen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from apportion.scheduler.knapsack import plan, plan_from
from apportion.scheduler.stretch import Source

Singles = NDArray[np.float32]

AMOUNTS = np.array([1, 2, 4, 8, 16, 32, 64, 128], dtype=np.float64)
LIFTS = (-0.5, 0.0, 0.3, 1.2)
"""How much better each arm is than the second, in logits."""
PRICES = (1.0, 1.6, 2.4, 7.0)
"""What a token of each arm costs."""
KINDS = 1 << 12
BUDGETS = (2.0, 8.0, 32.0)
TOKENS = 400.0
PROMPTS = (1_000_000, 10_000_000)
MODES = ("made", "held", "alike")
SECONDS = {1_000_000: 3.0, 10_000_000: 30.0}
"""The targets: seconds by prompts, memory and gap below."""
MOST_GIB = 4e9 / 2**30
MOST_GAP = 0.001


def curves() -> Singles:
    """Responses of kinds of prompts, [KINDS, 32]: two arms that are checked and two that vote."""
    rng = np.random.default_rng(0)
    hard = rng.normal(-0.5, 2.5, KINDS)
    parts = []
    for arm, lift in enumerate(LIFTS):
        passes = 1.0 / (1.0 + np.exp(-(hard + lift)))[:, None]
        if arm % 2 == 0:
            parts.append(1.0 - (1.0 - passes) ** AMOUNTS)
        else:
            # A vote goes where the majority goes, sooner the further the pass rate is from a half.
            parts.append(passes ** (1.0 / np.sqrt(AMOUNTS)) / (1.0 + np.exp(-(passes - 0.4) * 4.0 * np.sqrt(AMOUNTS))))
    return np.concatenate(parts, axis=1).astype(np.float32)


class Prompts:
    """Cost and gain of any range of prompts, always the same: what a prompt is like is a hash of its number."""

    def __init__(self) -> None:
        self._curves = curves()
        self._amounts = np.concatenate([AMOUNTS * price for price in PRICES]).astype(np.float32)
        self._reading = np.repeat(PRICES, len(AMOUNTS)).astype(np.float32)

    def __call__(self, begin: int, end: int) -> tuple[Singles, Singles]:
        kind, scale, length, prompt = (_hash(begin, end, salt) for salt in range(4))
        gain = self._curves[(kind * KINDS).astype(np.int64)]
        gain *= (0.8 + 0.2 * scale).astype(np.float32)[:, None]
        cost = self._amounts * (TOKENS * (0.4 + 1.2 * length)).astype(np.float32)[:, None]
        cost += self._reading * (40.0 + 200.0 * prompt).astype(np.float32)[:, None]
        return cost, gain


def _hash(begin: int, end: int, salt: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each prompt (splitmix64)."""
    x = (np.arange(begin, end, dtype=np.uint64) * np.uint64(4) + np.uint64(salt + 1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) / 2.0**64


def measure(prompts: int, mode: str, repeats: int) -> dict[str, Any]:
    """One line of the table, in this process."""
    source: Source = Prompts()
    if mode == "alike":
        source = _same(Prompts()(0, 1))
    if mode == "held":
        cost = np.empty((prompts, len(LIFTS) * len(AMOUNTS)), dtype=np.float32)
        gain = np.empty_like(cost)
        for begin in range(0, prompts, KINDS):
            part = slice(begin, min(begin + KINDS, prompts))
            cost[part], gain[part] = source(part.start, part.stop)
    seconds, gaps, values = [], [], []
    for _ in range(repeats):
        for each in BUDGETS:
            budget = each * TOKENS * prompts
            started = time.perf_counter()
            found = plan(cost, gain, budget) if mode == "held" else plan_from(source, prompts, budget)
            seconds.append(time.perf_counter() - started)
            if found.cost > budget:
                raise RuntimeError(
                    f"a plan of {prompts:,} prompts costs {found.cost:g}, more than its budget {budget:g}"
                )
            gaps.append(found.shortfall)
            values.append(found.value / prompts)
    return {
        "prompts": prompts,
        "options": len(LIFTS) * len(AMOUNTS),
        "tables": mode,
        "seconds": statistics.median(seconds),
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gap": max(gaps),
        "values": values[: len(BUDGETS)],
    }


def _same(row: tuple[Singles, Singles]) -> Source:
    return lambda begin, end: row


def planning(prompts: tuple[int, ...] = PROMPTS, repeats: int = 5) -> dict[str, Any]:
    """Measure every line in a fresh process, print the table, and return what it shows as JSON."""
    rows = []
    for many in prompts:
        for mode in MODES:
            command = [sys.executable, __file__, "--line", str(many), mode, "--repeats", str(repeats)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout))
    for row in rows:
        row["met"] = bool(
            row["seconds_high"] <= SECONDS.get(row["prompts"], float("inf"))
            and row["peak_gib"] <= MOST_GIB
            and row["gap"] <= MOST_GAP
        )
    result = {
        "benchmark": "planning",
        "cores": os.cpu_count(),
        "budgets": list(BUDGETS),
        "repeats": repeats,
        "rows": rows,
    }
    Console(width=120).print(_table(rows))
    return result


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Static plan, 32 options a prompt", title_justify="left")
    for heading in (
        "prompts",
        "tables",
        "seconds",
        "least to most",
        "peak memory",
        "at most from optimal",
        "in target",
    ):
        table.add_column(heading, justify="left" if heading == "tables" else "right")
    for row in rows:
        table.add_row(
            f"{row['prompts']:,}",
            row["tables"],
            f"{row['seconds']:.2f}",
            f"{row['seconds_low']:.2f} to {row['seconds_high']:.2f}",
            f"{row['peak_gib']:.2f} GiB",
            f"{row['gap']:.1e}",
            "yes" if row["met"] else "no",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=list(PROMPTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--line", nargs=2, metavar=("PROMPTS", "MODE"), help="one line, as JSON, in this process")
    given = parser.parse_args()
    if given.line:
        print(json.dumps(measure(int(given.line[0]), given.line[1], given.repeats)))
        return
    result = planning(tuple(given.prompts), given.repeats)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
