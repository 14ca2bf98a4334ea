"""The pictures of benchmarks/compute_optimal.py, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optimal_flops import RATIOS
from optimal_frontier import ALL, PARALLEL, Frontiers
from optimal_pool import CONTROL, LARGE, MAJORITY, VOTE
from optimal_reward import KINDS, Spending
from optimal_table import AMOUNTS

DPI = 150
STRONG = {"price": "#1f5fbf", "binned": "#d9822b", "binned oracle": "#b9bcc2"}
BASELINES = {VOTE: "#222222", MAJORITY: "#6b8e23", CONTROL: "#c0642a", LARGE: "#8a5fbf"}
LABELS = {
    VOTE: "best-of-N weighted",
    MAJORITY: "majority",
    CONTROL: "best-of-N weighted of the reviser",
    LARGE: "large, majority",
}
COLOURS = [colormaps["tab20"](at) for at in (*range(0, 20, 2), *range(1, 20, 2))]
"""Of strategies: enough that no two are alike."""
KIND_COLOURS = ("#6b8e23", "#222222", "#1f5fbf")
TICKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ASIDE = 0.06
"""Of an N, as a power of two, between one strategy and the next."""
SHOWN_N = 16
"""Where strategies are compared by difficulty: where searches do best."""


def frontier(curves: Frontiers, path: Path) -> None:
    """Accuracy against FLOPs."""
    figure, axis = _one(9.0, 4.6)
    thin = iter(COLOURS)
    for name, curve in curves.single.items():
        x, y = curve.costs.mean(axis=1) / 1e9, 100 * curve.values.mean(axis=1)
        if name in BASELINES:
            axis.plot(x, y, "-", linewidth=1.6, color=BASELINES[name], label=LABELS[name])
        else:
            axis.plot(x, y, "o--", linewidth=0.7, markersize=3, alpha=0.8, color=next(thin), label=name)
    for name, colour in STRONG.items():
        curve = curves.chosen[name, ALL]
        x, y = curve.costs.mean(axis=1) / 1e9, 100 * curve.values.mean(axis=1)
        width = 2.6 if name == "price" else 1.6
        axis.plot(x, y, "o-", markersize=3, linewidth=width, color=colour, label=f"{name}, all arms")
    if ("price", PARALLEL) in curves.chosen:
        curve = curves.chosen["price", PARALLEL]
        x, y = curve.costs.mean(axis=1) / 1e9, 100 * curve.values.mean(axis=1)
        axis.plot(x, y, "o:", markersize=3, linewidth=2.0, color=STRONG["price"], label=f"price, {PARALLEL}")
    _gflops(axis)
    axis.set_xlabel("GFLOPs a prompt: policy, verifier and probe")
    axis.set_ylabel("accuracy, %")
    axis.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def table(rows: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Accuracy of the strategies by quintile at one N, and over all prompts by N."""
    figure = Figure(figsize=(10.0, 3.8), dpi=DPI)
    left, right = figure.subplots(1, 2)
    bins = [row for row in rows if row["difficulty"].startswith("quintile") and row["n"] == SHOWN_N]
    shown = [name for name in names if any(name in row["cells"] for row in bins)]
    width = 0.8 / max(1, len(shown))
    colours = dict(zip(names, COLOURS, strict=False))
    for at, name in enumerate(shown):
        places = [place for place, row in enumerate(bins) if name in row["cells"]]
        cells = [bins[place]["cells"][name] for place in places]
        left.bar(
            [place + width * (at - len(shown) / 2 + 0.5) for place in places],
            [100 * cell["accuracy"] for cell in cells],
            width,
            yerr=[100 * cell["half"] for cell in cells],
            error_kw={"linewidth": 0.6},
            color=colours[name],
            label=name,
        )
    left.set_xticks(range(len(bins)), [row["difficulty"].split()[-1] for row in bins])
    left.set_xlabel(f"quintile of difficulty, 1 the easiest; N = {SHOWN_N}")
    left.set_ylabel("accuracy, %")
    left.legend(frameon=False, fontsize=7)
    for at, name in enumerate(names):
        # Side by side, or their intervals would hide each other.
        aside = 2.0 ** (ASIDE * (at - (len(names) - 1) / 2))
        cells = [(row["n"], row["cells"][name]) for row in rows if row["difficulty"] == "all" and name in row["cells"]]
        right.errorbar(
            [n * aside for n, _ in cells],
            [100 * cell["accuracy"] for _, cell in cells],
            [100 * cell["half"] for _, cell in cells],
            marker="o",
            markersize=3,
            linewidth=1.0,
            capsize=2,
            color=colours[name],
            label=name,
        )
    right.set_xscale("log", base=2)
    right.set_xticks(AMOUNTS, [str(n) for n in AMOUNTS])
    right.set_xlabel("N, all prompts")
    right.legend(frameon=False, fontsize=7)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    _save(figure, path)


def flops(result: dict[str, Any], path: Path) -> None:
    """Small less large at matched FLOPs by quintile, one group of bars for each R."""
    figure, axis = _one(7.2, 3.6)
    names = list(dict.fromkeys(row["difficulty"] for row in result["rows"]))
    shown = [name for name in names if name.startswith("quintile") or name == "all"]
    width = 0.8 / len(RATIOS)
    for at, ratio in enumerate(RATIOS):
        rows = {row["difficulty"]: row for row in result["rows"] if row["ratio"] == ratio}
        gaps = np.array([100 * rows[name]["gap"] for name in shown])
        ends = 100 * np.array([rows[name]["interval"] for name in shown])
        error = np.abs(np.stack([gaps - ends[:, 0], ends[:, 1] - gaps]))
        axis.bar(
            np.arange(len(shown)) + width * (at - (len(RATIOS) - 1) / 2),
            gaps,
            width,
            yerr=error,
            error_kw={"linewidth": 0.7},
            label=f"R = {ratio:g}, {rows['all']['times']:.0f} times small's inference",
        )
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(shown)), shown, fontsize=8)
    axis.set_ylabel("small with price less\nlarge greedy, points")
    axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def reward(played: list[Spending], path: Path) -> None:
    """Shares of what is spent by kind of arm, one panel for each verifier."""
    figure = Figure(figsize=(8.0, 3.4), dpi=DPI)
    panels = figure.subplots(1, len(played), sharey=True, squeeze=False)[0]
    for axis, one in zip(panels, played, strict=True):
        axis.stackplot(
            one.cost / 1e9, *(100 * one.shares[:, at] for at in range(len(KINDS))), labels=KINDS, colors=KIND_COLOURS
        )
        _gflops(axis)
        axis.set_title(f"{one.verifier}: AUC {one.auc:.2f} within prompts", fontsize=9)
        axis.set_xlabel("GFLOPs a prompt")
        axis.set_ylim(0, 100)
    panels[0].set_ylabel("share of what price spends, %")
    panels[-1].legend(frameon=True, fontsize=8, loc="upper right")
    _save(figure, path)


def _gflops(axis: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    ticks = [one for one in TICKS if low <= one <= high]
    axis.set_xticks(ticks, [f"{one:g}" for one in ticks])
    axis.set_xticks([], minor=True)


def _one(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=DPI)
    axis = figure.subplots()
    axis.grid(alpha=0.3)
    return figure, axis


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
