"""A job of any strategy, stopped while purchases are under way, comes back from its journal in the middle of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import apportion
from apportion.policies.registry import STRATEGIES

PROMPTS = 6
SETTINGS: dict[str, dict[str, Any]] = {"genrm": {"verdicts": 2, "verdict_tokens": 8}}


def rows() -> list[dict[str, Any]]:
    return [{"q": f"question {i} p=0.{i + 2} answer={i + 10}", "id": f"q{i}", "a": i + 10} for i in range(PROMPTS)]


def config(output: Path, name: str) -> dict[str, Any]:
    """A job of one strategy on the fake engine, with a budget that does not bind: lost work changes no decision."""
    strategy = STRATEGIES[name]
    fake = {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.001, "jitter": 2.0}}
    arm = {"strategy": name, "policy": "small", "max_tokens": 64, "step_separator": "\n", "n": [4]}
    if strategy.needs_verifier:
        arm["verifier"] = "prm"
    if getattr(strategy, "needs_second", False):
        arm["second"] = "large"
    return {
        "dataset": {"prompt": "q", "id": "id", "reference": "a"},
        "output": str(output),
        "budget": {"amount": 10**7, "unit": "tokens"},
        "models": {"small": fake, "large": fake, "prm": {**fake, "role": "scorer"}},
        "arms": {"arm": {**arm, **SETTINGS.get(name, {})}},
        "allocation": {"policy": "esc"},
        "answer": {"kind": "number"},
        "execution": {"in_flight": 3, "ordered": True},
        "cluster": {"address": "inline"},
    }


def found(output: Path) -> list[tuple[Any, ...]]:
    """Every candidate, whatever the order prompts were done in."""
    columns = ("prompt_id", "index", "purchase", "text", "tokens", "score", "weight")
    table = pq.read_table(output / "candidates.parquet").to_pylist()
    return sorted(tuple(row[column] for column in columns) for row in table)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_job_that_was_stopped_goes_on_to_the_same_candidates(name: str, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    results = list(apportion.solve(rows(), config(whole, name)))
    assert len(results) == PROMPTS
    begun = apportion.solve(rows(), config(torn, name))
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    again = list(apportion.solve(rows(), config(torn, name)))
    assert {one.prompt_id: one.answer for one in again} == {one.prompt_id: one.answer for one in results}
    assert found(torn) == found(whole)
    one, other = (json.loads((folder / "summary.json").read_text()) for folder in (whole, torn))
    own = other["spent"]["tokens"] - other["lost"]["tokens"]
    assert own == pytest.approx(one["spent"]["tokens"])
