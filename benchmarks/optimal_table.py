"""What each strategy reaches with N responses, by difficulty: the tables of Snell et al. and of Liu et al.

Difficulty is the small model's pass@1 over all its recorded samples, in the bins of the one and the bands of the other.
N is what the papers count; what it costs differs by strategy, and stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optimal_pool import LARGE_ARMS, Floats, Ints, Strategies, sampled, searched
from rich.table import Table

from apportion.difficulty.fitted import AT
from apportion.scheduler.forecasts import NINETY

AMOUNTS = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True)
class Cell:
    """A strategy with N responses: what it reaches and costs on each prompt, [prompts]."""

    value: Floats
    cost: Floats

    def mean(self, prompts: Ints) -> tuple[float, float]:
        """Accuracy over some prompts, and half its 90% interval."""
        chosen = self.value[prompts]
        deviation = chosen.std(ddof=1) if len(chosen) > 1 else 0.0
        return float(chosen.mean()), NINETY * float(deviation) / float(np.sqrt(max(1, len(chosen))))


def cells(found: Strategies) -> dict[tuple[str, int], Cell]:
    """Every strategy at every amount that it was recorded with, by name and N."""
    table: dict[tuple[str, int], Cell] = {}
    for name in found.samples:
        deck = found.pool.decks[name]
        for n in AMOUNTS:
            if n <= int(deck.sizes.max()):
                curve = sampled(deck, (n,))
                table[name, n] = Cell(curve.values[0], curve.costs[0])
    for name, sizes in found.searches.items():
        for n in sizes:
            table[name, n] = Cell(*searched(found.pool.decks[f"{name}{AT}{n}"]))
    return table


def rows_of(found: Strategies) -> list[dict[str, Any]]:
    """The table as plain rows: difficulty, N, and accuracy, half its interval and GFLOPs a prompt by strategy."""
    table = cells(found)
    rows = []
    for difficulty, prompts in found.groups().items():
        for n in AMOUNTS:
            row: dict[str, Any] = {"difficulty": difficulty, "prompts": len(prompts), "n": n, "cells": {}}
            for (name, size), cell in table.items():
                if size == n and len(prompts):
                    mean, half = cell.mean(prompts)
                    gflops = float(cell.cost[prompts].mean()) / 1e9
                    row["cells"][name] = {"accuracy": mean, "half": half, "gflops": gflops}
            row["best"] = best_of({name: cell for name, cell in row["cells"].items() if name not in LARGE_ARMS})
            rows.append(row)
    return rows


def best_of(row: Mapping[str, Mapping[str, float]]) -> str | None:
    """The strategy of the small model with the highest accuracy; of equals the cheapest."""
    return max(row, key=lambda name: (round(row[name]["accuracy"], 6), -row[name]["gflops"]), default=None)


def picture_of_table(rows: list[dict[str, Any]], names: list[str]) -> Table:
    """The table on a terminal: the best cell of each row marked."""
    table = Table(title="Accuracy by strategy, difficulty and N (90% intervals; * the best of small's in its row)")
    for heading in ("difficulty", "prompts", "N", *names):
        table.add_column(heading, justify="left" if heading == "difficulty" else "right")
    last = None
    for row in rows:
        if last not in (None, row["difficulty"]):
            table.add_section()
        shown = []
        for name in names:
            cell = row["cells"].get(name)
            mark = "*" if name == row["best"] else ""
            shown.append("" if cell is None else f"{100 * cell['accuracy']:.1f} ±{100 * cell['half']:.1f}{mark}")
        first = last != row["difficulty"]
        table.add_row(row["difficulty"] if first else "", f"{row['prompts']}" if first else "", str(row["n"]), *shown)
        last = row["difficulty"]
    table.add_section()
    for row in rows:
        if row["difficulty"] == "all":
            cost = [f"{row['cells'][name]['gflops']:.2f}" if name in row["cells"] else "" for name in names]
            table.add_row("GFLOPs a prompt", "", str(row["n"]), *cost)
    return table
