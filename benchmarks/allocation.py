"""What the allocation policies save on recorded pools of real models, whether forecasts hold, and how plans scale.

    python benchmarks/allocation.py [--only voting|arms|forecast|planning] [--pools DIR] [--repeats N] [--budgets 12]
        [--all-arms] [--quick] [--workers 2] [--picture FILE.png]

Pools are read from --pools, or the folder that APPORTION_POOLS names; those that are not there are left out, and the
lab's own is always there. Prints tables and, as its last line, one JSON object in which every ratio is under a key that
begins with `saving`. Intervals are 90%, over resamples of the prompts. Costs are tokens where a pool has them, else
samples, or dollars where only they are known.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorded import VARIABLE, Clock, Stand, pools_folder
from voting import Line, voting

from apportion.scheduler.plain import dumps

PARTS = ("voting",)
QUICK_BUDGETS = 8


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, as one JSON object."""
    budgets = min(given.budgets, QUICK_BUDGETS) if given.quick else given.budgets
    stand = Stand(pools_folder(given.pools), given.workers, budgets, given.repeats, given.quick)
    clock = Clock()
    result: dict[str, Any] = {"benchmark": "allocation", "quick": given.quick, "budgets": budgets}
    lines: list[Line] = []
    if given.only in (None, "voting"):
        result["voting"], lines = voting(stand, given.all_arms, clock)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pools", type=Path, help=f"folder of recorded pools (${VARIABLE})")
    parser.add_argument("--repeats", type=int, help="random orders; more for small pools where not given")
    parser.add_argument("--budgets", type=int, default=12)
    parser.add_argument("--all-arms", action="store_true", help="vote with every arm of every pool")
    parser.add_argument("--quick", action="store_true", help="few pools, prompts, repeats and budgets")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="write the frontiers as PNG")
    print(dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
