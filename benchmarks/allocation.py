"""What the allocation policies save on recorded pools of real models, whether forecasts hold, and how plans scale.

    python benchmarks/allocation.py [--only voting|arms|forecast|planning] [--pools DIR] [--only-pools A,B]
        [--repeats N] [--budgets 12] [--all-arms] [--no-labels] [--quick] [--workers 2] [--picture FILE.png]

Pools are read from --pools, or the folder that APPORTION_POOLS names; those that are not there are left out, and the
lab's own is always there. Prints tables and, as its last line, one JSON object in which every ratio is under a key that
begins with `saving`. Intervals are 90%, over resamples of the prompts. Costs are tokens where a pool has them, else
samples, or dollars where only they are known.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arms import Match, arms
from forecasting import forecasting
from planning import planning
from recorded import VARIABLE, Clock, Stand, pools_folder
from savings import Curve
from voting import Line, voting

from apportion.errors import ConfigError
from apportion.scheduler.plain import dumps

PARTS = ("voting", "arms", "forecast", "planning")
QUICK_BUDGETS = 8
PANEL = (5.2, 3.6)
COLOURS = {"price none": "#7fa8e0", "price cross": "#1f5fbf", "price": "#1f5fbf", "oracle": "#b9bcc2"}


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, as one JSON object. Raises ConfigError for an option out of range."""
    for option, value in (("--repeats", given.repeats), ("--workers", given.workers), ("--budgets", given.budgets)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} is {value}; use at least 1")
    if given.pools is not None and not given.pools.is_dir():
        raise ConfigError(f"--pools is {given.pools}, which is no folder; name the one that holds the recorded pools")
    budgets = min(given.budgets, QUICK_BUDGETS) if given.quick else given.budgets
    chosen = None if given.only_pools is None else tuple(given.only_pools.split(","))
    stand = Stand(
        pools_folder(given.pools), given.workers, budgets, given.repeats, given.quick, chosen, not given.no_labels
    )
    clock = Clock()
    result: dict[str, Any] = {"benchmark": "allocation", "quick": given.quick, "budgets": budgets}
    panels: dict[str, Mapping[str, Curve]] = {}
    wanted = [part for part in PARTS if given.only in (None, part)]
    if "voting" in wanted:
        result["voting"], lines = voting(stand, given.all_arms, clock)
        panels |= _voting_panels(lines)
    if "arms" in wanted:
        result["arms"], matches = arms(stand, clock)
        panels |= _arms_panels(matches)
    if "forecast" in wanted:
        result["forecast"] = forecasting(stand, clock)
    if "planning" in wanted:
        result["planning"] = planning((1_000_000,), 1) if given.quick else planning()
        clock.tell("planning")
    if given.picture is not None and panels:
        draw(panels, given.picture)
    return result


def _voting_panels(lines: Sequence[Line]) -> dict[str, Mapping[str, Curve]]:
    """One arm of each pool: the one that gains most from votes."""
    most: dict[str, Line] = {}
    for line in lines:
        gain = line.uniform[1] - line.uniform[0]
        if line.pool not in most or gain > most[line.pool].uniform[1] - most[line.pool].uniform[0]:
            most[line.pool] = line
    return {f"{line.pool} / {line.arm}, {line.unit}": line.curves for line in most.values()}


def _arms_panels(matches: Sequence[Match]) -> dict[str, Mapping[str, Curve]]:
    """Price over all arms, and the single arms that matter."""
    found: dict[str, Mapping[str, Curve]] = {}
    for match in matches:
        names = dict.fromkeys([f"{match.best_arm} uniform", *match.cheapest.values()])
        curves = {name: match.single[name] for name in names} | {"price": match.price}
        found[f"{match.pool}, all arms, {match.unit}"] = curves
    return found


def draw(panels: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """Frontiers, one panel a pool, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(2 * PANEL[0], rows * PANEL[1]), dpi=150, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in curves.items():
            x, y = curve.costs.mean(axis=1), 100 * curve.values.mean(axis=1)
            width = 2.2 if name.startswith("price") else 1.2
            axis.plot(x, y, "o-", markersize=2.5, linewidth=width, label=name, color=COLOURS.get(name))
        axis.set_xscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("%")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=6, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pools", type=Path, help=f"folder of recorded pools (${VARIABLE})")
    parser.add_argument("--only-pools", metavar="NAME,NAME", help="play no others; the lab's own is called lab")
    parser.add_argument("--repeats", type=int, help="random orders; more for small pools where not given")
    parser.add_argument("--budgets", type=int, default=12)
    parser.add_argument("--all-arms", action="store_true", help="vote with every arm of every pool")
    parser.add_argument("--no-labels", action="store_true", help="vote without labels only")
    parser.add_argument("--quick", action="store_true", help="few pools, prompts, repeats and budgets")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="write the frontiers as PNG")
    print(dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
