"""What the end of a budget wastes: searches that are cut off cost much and answer nothing.

    python benchmarks/end_of_budget.py [--strategies rebase,particle_filter] [--prompts 50] [--each 1e9]

The lab's models answer the first prompts of its test set by one kind of search under a budget of so many FLOPs a
prompt, less than it could use: with few purchases in flight, which end one after the other, and with as many as a job
has unless told. Prints prompts answered, accuracy, the share of the spending that went to searches that were cut off,
and seconds; the JSON adds the ratio of the prompts answered.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from apportion.configs.build import load_job
from apportion.scheduler.plain import dumps
from apportion.scheduler.solve import run_job

FEW = 4
IN_FLIGHT = (FEW, None)


def play(strategy: str, prompts: int, each: float, in_flight: int | None) -> dict[str, Any]:
    """One job, run to its end."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "dataset": {"path": "lab:test", "prompt": "problem", "id": "id", "reference": "answer", "limit": prompts},
            "output": f"{folder}/run",
            "budget": {"amount": each * prompts, "unit": "flops"},
            "models": {
                "small": {"model": "lab:small", "step_separator": "\n"},
                "prm": {"model": "lab:prm", "role": "scorer"},
            },
            "arms": {
                "search": {
                    "strategy": strategy,
                    "policy": "small",
                    "verifier": "prm",
                    "select": "weighted",
                    "n": [4, 16],
                    "max_tokens": 256,
                }
            },
            "execution": {"in_flight": in_flight, "ordered": True},
            "cluster": {"address": "inline"},
        }
        summary = run_job(load_job(config))
        rows = pq.read_table(Path(folder) / "run" / "candidates.parquet", columns=["cut", "cost_flops"])
        cut = pc.sum(rows.filter(pc.field("cut"))["cost_flops"]).as_py() or 0.0
    return {
        "strategy": strategy,
        "in_flight": in_flight,
        "answered": summary["answered"],
        "accuracy": summary["accuracy"],
        "cut": cut / summary["budget"]["spent"],
        "spent": summary["budget"]["spent"] / (each * prompts),
        "seconds": summary["wall_s"],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default="rebase,particle_filter")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--each", type=float, default=1e9)
    given = parser.parse_args()
    found = [
        play(strategy, given.prompts, given.each, in_flight)
        for strategy in given.strategies.split(",")
        for in_flight in IN_FLIGHT
    ]
    table = Table("strategy", "in flight", "answered", "accuracy", "of the spending cut off", "spent", "seconds")
    for row in found:
        table.add_row(
            row["strategy"],
            str(row["in_flight"] or "as it comes"),
            f"{row['answered']} of {given.prompts}",
            f"{row['accuracy']:.3f}",
            f"{row['cut']:.1%}",
            f"{row['spent']:.1%}",
            f"{row['seconds']:.0f}",
        )
    Console(width=120).print(table)
    few, many = found[::2], found[1::2]
    ratios = {one["strategy"]: other["answered"] / one["answered"] for one, other in zip(few, many, strict=True)}
    print(dumps({"benchmark": "end_of_budget", "rows": found, "answered_over_few": ratios}))


if __name__ == "__main__":
    main()
