"""Frontiers as rows of a file, as a table, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from apportion import __version__
from apportion.scheduler.contest import Terms
from apportion.scheduler.frontier import Frontier
from apportion.scheduler.outputs import write_whole
from apportion.scheduler.terminal import amount, percent, safe

STYLES = ("-", "--", "-.", ":")
MOST_LISTED = 3
"""Arms named in a table or legend; of more, their number."""


def rows_of(frontier: Frontier) -> list[dict[str, Any]]:
    """One row a budget. `low` and `high` are the 90% interval of the accuracy (or other objective) over prompts."""
    low, high = frontier.interval()
    rows = []
    for at, budget in enumerate(frontier.budgets.tolist()):
        row: dict[str, Any] = {
            "pool": frontier.pool,
            "arms": list(frontier.arms),
            "policy": frontier.policy,
            "budget_per_prompt": budget,
            "cost_per_prompt": float(frontier.cost[at].mean()),
            "accuracy": float(frontier.accuracy[at].mean()),
            "low": float(low[at]),
            "high": float(high[at]),
        }
        if frontier.forecasts is not None:
            value, least, most = frontier.forecasts[at].tolist()
            row |= {"forecast": value, "forecast_low": least, "forecast_high": most}
        rows.append(row)
    return rows


def meta_of(frontiers: Sequence[Frontier], terms: Terms, fit: str) -> dict[str, Any]:
    """What the rows were made with; enough to make them again."""
    return {
        "apportion": __version__,
        "objective": {"name": terms.goal.name, "k": terms.goal.enough},
        "fit": fit,
        "select": terms.select,
        "repeats": terms.repeats,
        "seed": terms.seed,
        "pools": {one.pool: {"prompts": one.values.shape[1], "unit": one.unit.value} for one in frontiers},
        "interval": "90%, normal over the prompts' means",
    }


def write_rows(path: Path, meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """The file, put in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"meta": meta, "rows": rows}, indent=1, allow_nan=False) + "\n")


def table_of(frontiers: Sequence[Frontier]) -> RichTable:
    """The rows for people."""
    objective = frontiers[0].objective
    table = RichTable(title=f"Mean {objective} and cost per prompt", title_justify="left")
    for heading in ("pool", "arms", "policy"):
        table.add_column(heading)
    for heading in ("budget", "cost", objective, "90% interval", "forecast"):
        table.add_column(heading, justify="right")
    for one in frontiers:
        for row in rows_of(one):
            said = "-"
            if "forecast" in row:
                said = f"{percent(row['forecast'])} ({percent(row['forecast_low'])} to {percent(row['forecast_high'])})"
            table.add_row(
                safe(one.pool),
                safe(_arms(one)),
                one.policy,
                amount(row["budget_per_prompt"], one.unit.value),
                amount(row["cost_per_prompt"], one.unit.value),
                percent(row["accuracy"]),
                f"{percent(row['low'])} to {percent(row['high'])}",
                said,
            )
        table.add_section()
    return table


def draw(frontiers: Sequence[Frontier], path: Path) -> Path | None:
    """A picture of the frontiers, one panel a pool; None where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pools = list(dict.fromkeys(one.pool for one in frontiers))
    figure = Figure(figsize=(9.0, 4.8 * len(pools)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(pools), 1, squeeze=False)[:, 0]
    for pool, panel in zip(pools, panels, strict=True):
        own = [one for one in frontiers if one.pool == pool]
        for number, policy in enumerate(dict.fromkeys(one.policy for one in own)):
            _draw_policy(panel, [one for one in own if one.policy == policy], f"C{number}")
        panel.set_xscale("log")
        panel.set_xlabel(f"{own[0].unit.value} per prompt")
        panel.set_ylabel(own[0].objective)
        panel.set_title(pool)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, dpi=150, format="png")
    beside.replace(path)
    return path


def _draw_policy(panel: Any, frontiers: Sequence[Frontier], colour: str) -> None:
    """One policy's lines, a style for each arm; of many arms only the one that reaches most is named."""
    best = max(frontiers, key=lambda one: float(one.accuracy[-1].mean()))
    many = len(frontiers) > len(STYLES)
    for number, one in enumerate(frontiers):
        cost, value = one.cost.mean(axis=1), one.accuracy.mean(axis=1)
        if many and one is not best:
            panel.plot(cost, value, color=colour, alpha=0.2, linewidth=0.8)
            continue
        label = f"{one.policy}: {_arms(one)}" + (f", best of {len(frontiers)}" if many else "")
        style = "-" if many else STYLES[number]
        panel.plot(cost, value, style, color=colour, marker="o", markersize=3, label=label)
        low, high = one.interval()
        panel.fill_between(cost, low, high, color=colour, alpha=0.08, linewidth=0)


def _arms(frontier: Frontier) -> str:
    if len(frontier.arms) > MOST_LISTED:
        return f"{len(frontier.arms)} arms"
    return ", ".join(frontier.arms)
