"""A whole job with the lab's reviser and reward model: within its budget, resumable, its chains going on."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import apportion
from apportion.lab.paths import lab_path

PROMPTS = 3
BUDGET = 24_000


def rows() -> list[dict[str, Any]]:
    """Short stories, so that the test is."""
    told = [json.loads(line) for line in lab_path("lab:test").read_text().splitlines()]
    return [row for row in told if row["ops"] <= 3][:PROMPTS]


def config(output: Path, **arm: Any) -> dict[str, Any]:
    return {
        "dataset": {"prompt": "problem", "id": "id", "reference": "answer"},
        "output": str(output),
        "budget": {"amount": BUDGET, "unit": "tokens"},
        "models": {
            "reviser": {"engine": "embedded", "model": "lab:reviser", "step_separator": "\n"},
            "prm": {"engine": "embedded", "role": "scorer", "model": "lab:prm"},
        },
        "arms": {
            "revise": {
                "strategy": "revise",
                "policy": "reviser",
                "verifier": "prm",
                "select": "hierarchical",
                "instruction": "",
                "temperature": 0.8,
                "max_tokens": 128,
                **arm,
            }
        },
        "allocation": {"policy": "price"},
        "answer": {"kind": "number"},
        "execution": {"in_flight": 2, "ordered": True},
        "cluster": {"address": "inline"},
    }


def chains(output: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """The candidates of each chain of each prompt, in order."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(pq.read_table(output / "candidates.parquet").to_pylist(), key=lambda row: row["index"]):
        found[row["prompt_id"], row["group"]].append(row)
    return found


@pytest.mark.parametrize(("chain", "n", "policy"), [(2, [2, 4], "price"), ("all", [1], "asc")])
def test_chains_are_bought_within_the_budget_and_the_job_resumes(
    tmp_path: Path, chain: Any, n: list[int], policy: str
) -> None:
    def job(output: Path) -> dict[str, Any]:
        return {**config(output, chain=chain, n=n), "allocation": {"policy": policy}}

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    results = list(apportion.solve(rows(), job(whole)))
    assert len(results) == PROMPTS
    summary = json.loads((whole / "summary.json").read_text())
    assert sum(result.spent.tokens for result in results) == pytest.approx(summary["spent"]["tokens"])
    assert summary["spent"]["tokens"] <= BUDGET

    begun = apportion.solve(rows(), job(torn))
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    again = list(apportion.solve(rows(), job(torn)))
    assert len(again) == PROMPTS
    assert sum(result.spent.tokens for result in again) <= BUDGET

    # How far a chain is bought follows what was paid, and a new engine has nothing cached; what it says does not.
    mine, theirs = chains(whole), chains(torn)
    for key in mine.keys() & theirs.keys():
        least = min(len(mine[key]), len(theirs[key]))
        assert [one["text"] for one in mine[key]][:least] == [one["text"] for one in theirs[key]][:least]
    assert all(one["score"] is not None for found in mine.values() for one in found)
    if chain == "all":
        assert {group for _, group in mine} == {0}
        assert all(len({one["purchase"] for one in found}) > 1 for found in mine.values())
    else:
        assert max(len(found) for found in mine.values()) == 2


def test_a_context_that_is_short_holds_fewer_attempts(tmp_path: Path) -> None:
    """Without the oldest left out, the fourth conversation would be longer than the context."""
    job = config(tmp_path / "run", chain="all", n=[8], verifier=None, select="majority", max_tokens=48)
    job["models"] = {
        "reviser": {"engine": "fake", "model": "fake", "step_separator": "\n", "engine_args": {"max_model_len": 160}}
    }
    told = [{"problem": f"question {at} p=0.5 answer={at}", "id": f"q{at}", "answer": at} for at in range(4)]
    results = list(apportion.solve(told, job))
    assert all(result.error is None and result.candidates % 8 == 0 < result.candidates for result in results)
    assert {row["finish"] for found in chains(tmp_path / "run").values() for row in found} == {"end"}
