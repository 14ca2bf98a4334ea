"""The small model with more inference against a large one that was trained with more: Snell et al.'s FLOPs match.

Pretraining takes 6 N D FLOPs and inference 2 N D. A model of M times the parameters takes M times both; with the ratio
R of inference tokens to pretraining tokens the small model may spend M + 3 (M - 1) / R times what it spends on one
response. `price` chooses among the arms of models of the small one's size, the reviser and both verifiers too, all of
whose FLOPs are in the budget. The large model answers greedily, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optimal_pool import GREEDY, MAJORITY, Floats, Strategies, sampled, sampled_cost
from recorded import Stand, over_splits
from rich.table import Table
from savings import Curve, cost_to_reach, interval, resamples

from apportion import lab
from apportion.costs import Unit
from apportion.lab.models import parameter_count
from apportion.scheduler.contest import Entry

RATIOS = (0.16, 0.79, 22.0)
"""R of Snell et al.: few inferences of a model that was much trained, about as many, and very many."""


@dataclass(frozen=True, slots=True)
class Match:
    """The small model at one budget: what each prompt reached and cost, [prompts]."""

    ratio: float
    times: float
    budget: float
    value: Floats
    cost: Floats


def times_of(larger: float, ratio: float) -> float:
    """How many times its inference the small model may spend against one `larger` times as large."""
    return larger + 3.0 * (larger - 1.0) / ratio


def larger() -> float:
    """M: how many times as many parameters the large model has."""
    small, large = (parameter_count(lab.lab_path(f"lab:{name}")) for name in ("small", "large"))
    return large / small


def entry(found: Strategies) -> Entry:
    """`price` on the small model's arms at the budget of each R."""
    once = float(sampled_cost(found.pool.decks[MAJORITY], 1).mean())
    budgets = tuple(once * times_of(larger(), ratio) for ratio in RATIOS)
    return Entry(found.small_arms, "price", Unit.FLOPS, budgets)


def matches(stand: Stand, found: Strategies) -> list[Match]:
    """The small model at the budget of each R."""
    asked = entry(found)
    (curve,) = over_splits(stand, found.pool, [asked])
    times = [times_of(larger(), ratio) for ratio in RATIOS]
    rows = zip(RATIOS, times, asked.budgets, curve.values, curve.costs, strict=True)
    return [Match(ratio, many, budget, value, cost) for ratio, many, budget, value, cost in rows]


def compared(found: Strategies, played: list[Match], price: Curve) -> dict[str, Any]:
    """By R and difficulty, small less large; and where small's frontier first passes large overall."""
    greedy = sampled(found.pool.decks[GREEDY], (1,))
    large = greedy.values[0]
    weights = resamples(found.pool.name, len(large), 1)
    rows = []
    for match in played:
        for name, prompts in found.groups().items():
            if not len(prompts):
                continue
            part = weights[:, prompts]
            part = part / np.maximum(part.sum(axis=1, keepdims=True), 1e-12)
            gap = part @ (match.value - large)[prompts]
            rows.append(
                {
                    "ratio": match.ratio,
                    "times": match.times,
                    "budget": match.budget,
                    "difficulty": name,
                    "prompts": len(prompts),
                    "small": float(match.value[prompts].mean()),
                    "large": float(large[prompts].mean()),
                    "gap": float(gap[0]),
                    "interval": interval(gap),
                    "small_flops": float(match.cost[prompts].mean()),
                }
            )
    cost, value = price.means(weights)
    reached = cost_to_reach(cost[0], value[0], float(large.mean()))
    return {
        "larger": larger(),
        "rows": rows,
        "large_greedy": float(large.mean()),
        "large_greedy_flops": float(greedy.costs.mean()),
        "small_best": float(value[0].max()),
        "small_passes_at_flops": None if np.isnan(reached) else reached,
    }


def table_of(result: dict[str, Any]) -> Table:
    """Small against large at matched FLOPs."""
    table = Table(
        title=f"small with price against large greedy at matched FLOPs (M = {result['larger']:.1f}; 90% intervals)"
    )
    for heading in ("R", "difficulty", "prompts", "small", "large", "small less large", "GFLOPs of small", "allowed"):
        table.add_column(heading, justify="left" if heading == "difficulty" else "right")
    last = None
    for row in result["rows"]:
        if last not in (None, row["ratio"]):
            table.add_section()
        low, high = row["interval"]
        table.add_row(
            f"{row['ratio']:g}" if row["ratio"] != last else "",
            row["difficulty"],
            str(row["prompts"]),
            f"{100 * row['small']:.1f}",
            f"{100 * row['large']:.1f}",
            f"{100 * row['gap']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            f"{row['small_flops'] / 1e9:.2f}",
            f"{row['budget'] / 1e9:.2f}",
        )
        last = row["ratio"]
    return table
