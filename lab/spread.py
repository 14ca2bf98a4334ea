"""What a recorded pool says about a model: pass@1 by prompt, by number of operations, and the required spread."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Spread:
    """Shares of prompts by pass@1: at least one half, a tenth to one half, below a tenth, and exactly zero."""

    high: float
    middle: float
    low: float
    zero: float


def pass_rates(pool: Path, arm: str) -> dict[str, float]:
    """pass@1 of every prompt, by prompt id."""
    table = pq.read_table(pool / "candidates.parquet", columns=["prompt_id", "arm", "correct"])
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    columns = (table.column(name).to_pylist() for name in ("prompt_id", "arm", "correct"))
    for prompt_id, drawn_by, correct in zip(*columns, strict=True):
        if drawn_by == arm:
            counts[prompt_id][0] += correct
            counts[prompt_id][1] += 1
    return {prompt_id: right / total for prompt_id, (right, total) in counts.items()}


def spread(rates: dict[str, float]) -> Spread:
    """The shares the specification bounds."""
    values = list(rates.values())

    def share(low: float, high: float) -> float:
        return sum(low <= rate < high for rate in values) / len(values)

    return Spread(high=share(0.5, 1.1), middle=share(0.1, 0.5), low=share(0.0, 0.1), zero=share(0.0, 1e-9))
