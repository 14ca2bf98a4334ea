"""Accuracy against mean FLOPs a prompt on the lab test set: uniform best-of-n against the price policy.

    python benchmarks/quickstart.py [--prompts 300] [--most 64] [--seed 0] [--picture docs/quickstart.png]
        [--keep FOLDER]

Every point is a whole job on the quickstart's models, arms and engine, its bill taken from the run directory: policy,
verifier and probe included. Uniform buys n = 1, 2, ..., 64 samples for every prompt, chosen by weighted vote; price
gets the budgets that uniform spent. The same seeds draw the same samples in all of them. Intervals are 95%
percentiles over 2,000 bootstrap resamples of the prompts, the same resamples for both policies.
`saving` is what uniform needs for the accuracy that price reached, divided by what price spent; null in the JSON line,
which ends the output, where uniform never reached it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from apportion.configs.build import load_job
from apportion.scheduler.plain import dumps
from apportion.scheduler.solve import run_job

AMOUNTS = (1, 2, 4, 8, 16, 32, 64)
RESAMPLES = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One job: whether each prompt came out right and what it cost in FLOPs, [prompts], in dataset order."""

    label: str
    correct: Floats
    flops: Floats
    spent: float
    wall_s: float


def run_point(label: str, folder: Path, overrides: list[str]) -> Point:
    """Run one job from the quickstart config."""
    output = folder / label.replace(" ", "-")
    summary = run_job(load_job("quickstart", [f"output={output}", *overrides]))
    with open(output / "results.jsonl", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    rows.sort(key=lambda row: row["prompt_id"])
    return Point(
        label,
        np.array([float(row["correct"]) for row in rows]),
        np.array([row["spent"]["flops"] for row in rows]),
        summary["spent"]["flops"],
        summary["wall_s"],
    )


def interval(values: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def saving(uniform_cost: Floats, uniform_accuracy: Floats, accuracy: float, cost: float) -> float:
    """Uniform's cost at an accuracy over `cost`; log-linear between its points, NaN outside of what it reaches.

    Uniform's curve is made non-decreasing first: a larger n that lost by chance is not held against it.
    """
    reached = np.maximum.accumulate(uniform_accuracy)
    if not reached[0] <= accuracy <= reached[-1]:
        return float("nan")
    index = int(np.searchsorted(reached, accuracy))
    if index == 0:
        return float(uniform_cost[0] / cost)
    share = (accuracy - reached[index - 1]) / (reached[index] - reached[index - 1])
    logs = np.log(uniform_cost[index - 1 : index + 1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])) / cost)


def measure(prompts: int, seed: int, cluster: str, most: int, keep: Path | None) -> tuple[list[Point], list[Point]]:
    """All jobs: uniform at every n, then price at the budgets that uniform spent."""
    shared = [f"dataset.limit={prompts}", f"seed={seed}", f"cluster.address={cluster}"]
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        folder = keep or stack.enter_context(tempfile.TemporaryDirectory())
        uniform, price = [], []
        for n in [n for n in AMOUNTS if n <= most]:
            policy = ["allocation.policy=uniform", "allocation.arm=vote", f"allocation.n={n}", "budget.amount=1e18"]
            uniform.append(run_point(f"uniform {n}", Path(folder), shared + policy))
            console.print(f"uniform n={n}: {uniform[-1].correct.mean():.3f} in {uniform[-1].wall_s:.0f} s")
        for point in uniform[:-1]:
            budget = [f"budget.amount={point.spent}"]
            price.append(run_point(f"price {point.label}", Path(folder), shared + budget))
            console.print(f"price at {point.label}: {price[-1].correct.mean():.3f} in {price[-1].wall_s:.0f} s")
    return uniform, price


def report(uniform: list[Point], price: list[Point], seed: int) -> dict[str, object]:
    """The JSON object: one row a job, with intervals, and the savings."""
    prompts = len(uniform[0].correct)
    draws = np.random.default_rng(seed).integers(0, prompts, (RESAMPLES, prompts))
    costs = np.array([point.flops for point in uniform])
    rights = np.array([point.correct for point in uniform])
    cost_draws = costs[:, draws].mean(axis=2)
    right_draws = rights[:, draws].mean(axis=2)

    def row(point: Point) -> dict[str, object]:
        low, high = interval(point.correct[draws].mean(axis=1))
        return {
            "policy": point.label,
            "flops_per_prompt": float(point.flops.mean()),
            "accuracy": float(point.correct.mean()),
            "low": low,
            "high": high,
            "wall_s": round(point.wall_s, 1),
        }

    savings = []
    for point in price:
        accuracy, cost = point.correct[draws].mean(axis=1), point.flops[draws].mean(axis=1)
        many = [saving(cost_draws[:, k], right_draws[:, k], accuracy[k], cost[k]) for k in range(RESAMPLES)]
        value = saving(costs.mean(axis=1), rights.mean(axis=1), point.correct.mean(), point.flops.mean())
        inside = np.isfinite(many)
        low, high = interval(np.array(many)) if inside.mean() > 0.5 else (float("nan"), float("nan"))
        savings.append({"at": point.label, "saving": value, "low": low, "high": high, "resamples": int(inside.sum())})
    gains = {
        "at_equal_cost": [
            {
                "at": mine.label,
                "gain": float(mine.correct.mean() - theirs.correct.mean()),
                "interval": interval((mine.correct - theirs.correct)[draws].mean(axis=1)),
            }
            for mine, theirs in zip(price, uniform, strict=False)
        ]
    }
    return {
        "benchmark": "quickstart",
        "prompts": prompts,
        "uniform": [row(point) for point in uniform],
        "price": [row(point) for point in price],
        "saving": savings,
        **gains,
    }


def show(result: dict[str, object]) -> None:
    """The table."""
    table = Table(title=f"lab test set, {result['prompts']} prompts, every cost counted")
    for heading in ("policy", "MFLOPs a prompt", "accuracy", "95% interval", "saving over uniform"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    savings = {entry["at"]: entry for entry in result["saving"]}  # type: ignore[attr-defined]
    for kind in ("uniform", "price"):
        for row in result[kind]:  # type: ignore[attr-defined]
            saved = savings.get(row["policy"])
            text = "" if saved is None else "beyond uniform's range"
            if saved is not None and np.isfinite(saved["saving"]):
                spread = f" ({saved['low']:.2f} to {saved['high']:.2f})" if np.isfinite(saved["low"]) else ""
                text = f"{saved['saving']:.2f}x{spread}"
            cost = f"{row['flops_per_prompt'] / 1e6:,.0f}"
            table.add_row(row["policy"], cost, f"{row['accuracy']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", text)
    Console().print(table)


def draw(result: dict[str, object], path: Path) -> None:
    """The curve, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=150)
    names = {"uniform": "uniform best-of-n, weighted vote", "price": "apportion (price)"}
    for kind, colour in (("uniform", "#8a8f98"), ("price", "#1f5fbf")):
        rows = result[kind]
        x = [row["flops_per_prompt"] / 1e6 for row in rows]  # type: ignore[attr-defined]
        y = [100 * row["accuracy"] for row in rows]  # type: ignore[attr-defined]
        low = [100 * row["low"] for row in rows]  # type: ignore[attr-defined]
        high = [100 * row["high"] for row in rows]  # type: ignore[attr-defined]
        axes.plot(x, y, "o-", color=colour, label=names[kind])
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("mean MFLOPs a prompt (policy, verifier and probe)")
    axes.set_ylabel("accuracy (%), 95% interval")
    axes.set_title(f"Lab test set, {result['prompts']} prompts")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", default="inline", help="inline, local or a Ray address")
    parser.add_argument("--picture", type=Path, help="write the curve as PNG")
    parser.add_argument("--most", type=int, default=AMOUNTS[-1], help="the largest n of uniform")
    parser.add_argument("--keep", type=Path, help="keep the jobs here, and go on from those that are there")
    arguments = parser.parse_args()
    uniform, price = measure(arguments.prompts, arguments.seed, arguments.cluster, arguments.most, arguments.keep)
    result = report(uniform, price, arguments.seed)
    show(result)
    if arguments.picture is not None:
        draw(result, arguments.picture)
    print(dumps(result))


if __name__ == "__main__":
    main()
