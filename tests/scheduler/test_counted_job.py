"""Whole jobs whose objective counts candidates: what they stop at, what they write of it, and that they resume."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import apportion
from apportion.cli import main
from apportion.configs.build import load_job
from apportion.difficulty.objectives import Objective
from apportion.scheduler.plan import plan_job
from apportion.scheduler.solve import run_job
from apportion.scheduler.summary import closing

ROWS = [
    {"q": f"question {i} p={rate:.2f} answer={i + 10}", "id": f"q{i:02}", "a": i + 10}
    for i, rate in enumerate(np.linspace(0.1, 0.95, 16))
]


def config(
    output: Path, objective: Any, *, verifier: str | None = "prm", amount: float = 12_000, verbs: int = 8
) -> dict[str, Any]:
    select = "majority" if verifier is None else "weighted"
    arm = {"policy": "small", "verifier": verifier, "select": select, "max_tokens": 64, "step_separator": "\n"}
    scorer = {"prm": {"engine": "fake", "role": "scorer", "model": "fake", "aggregate": "min"}} if verifier else {}
    return {
        "dataset": {"prompt": "q", "id": "id", "reference": "a"},
        "output": str(output),
        "objective": objective,
        "budget": {"amount": amount, "unit": "tokens"},
        "models": {"small": {"engine": "fake", "model": "fake", "engine_args": {"verbs": verbs}}, **scorer},
        "arms": {"vote": {"strategy": "best_of_n", "n": [1, 2, 4, 8], **arm}},
        "answer": {"kind": "number"},
        "execution": {"in_flight": 4, "ordered": True},
        "cluster": {"address": "inline"},
    }


def run(output: Path, objective: Any, **changes: Any) -> dict[str, Any]:
    return run_job(load_job(config(output, objective, **changes), rows_given=True), rows=ROWS)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]


def scores_of(output: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {row["prompt_id"]: [] for row in rows_of(output)}
    for row in pq.read_table(output / "candidates.parquet").to_pylist():
        found[row["prompt_id"]].append(row)
    return found


GOALS = [
    ({"name": "quota", "k": 3, "accept": 0.6}, Objective("quota", 3, 0.6)),
    ({"name": "pairs", "k": 2}, Objective("pairs", 2)),
    ("coverage", Objective("coverage")),
]


@pytest.mark.parametrize(("written", "goal"), GOALS, ids=["quota", "pairs", "coverage"])
def test_results_name_the_accepted_candidates(tmp_path: Path, written: Any, goal: Objective) -> None:
    summary = run(tmp_path / "run", written)
    candidates, reached = scores_of(tmp_path / "run"), []
    for row in rows_of(tmp_path / "run"):
        mine = candidates[row["prompt_id"]]
        first = {one["text"]: one["index"] for one in reversed(mine)}
        new = [one for one in mine if first[one["text"]] == one["index"]]
        good = [one["index"] for one in new if one["score"] is not None and one["score"] >= goal.accept]
        assert row["accepted"] == good
        rest = [one["index"] for one in new if one["index"] not in good]
        assert row["rejected"] == (rest if goal.name == "pairs" else None)
        assert [one["accepted"] for one in mine] == [one["index"] in good if one in new else None for one in mine]
        reached.append(float(goal.reached(np.array(len(good)), np.array(len(rest)))))
    told = summary["objective"]
    assert told["reached"] == pytest.approx(np.mean(reached))
    assert told["accepted"] == sum(len(row["accepted"]) for row in rows_of(tmp_path / "run"))
    assert told["whole"] == sum(value == 1.0 for value in reached)
    assert summary["budget"]["spent"] <= summary["budget"]["amount"]
    table = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    assert {row["prompt_id"]: row["accepted"] for row in table} == {
        row["prompt_id"]: row["accepted"] for row in rows_of(tmp_path / "run")
    }


@pytest.mark.parametrize("policy", ["price", "uniform"])
@pytest.mark.parametrize("name", ["quota", "pairs"])
def test_a_text_counts_once(tmp_path: Path, name: str, policy: str) -> None:
    """All right responses to a prompt are one text: nobody gets four copies of it for a quota of four."""
    given = {**config(tmp_path / "run", {"name": name, "k": 4}, verbs=1), "allocation": {"policy": policy}}
    told = run_job(load_job(given, rows_given=True), rows=ROWS)["objective"]
    assert told["repeated"] > 0
    found = [one for mine in scores_of(tmp_path / "run").values() for one in mine]
    assert sum(told[kind] for kind in ("accepted", "rejected", "repeated")) == len(found)
    for wanted in (True, False):
        counted = [(one["prompt_id"], one["text"].strip()) for one in found if one["accepted"] is wanted]
        assert len(set(counted)) == len(counted) > 0
        assert told["accepted" if wanted else "rejected"] == len(counted)
    assert {(one["prompt_id"], one["text"].strip()) for one in found if one["accepted"] is None} <= {
        (one["prompt_id"], one["text"].strip()) for one in found if one["accepted"] is not None
    }


def test_the_summary_says_how_many_repeat_a_text(tmp_path: Path) -> None:
    summary, stream = run(tmp_path / "run", {"name": "quota", "k": 4}, verbs=1), io.StringIO()
    Console(file=stream, width=200).print(closing(summary, "runs/x"))
    assert f"{summary['objective']['repeated']:,} repeat the text of another" in stream.getvalue()


def test_a_job_ends_where_its_arms_say_nothing_new(tmp_path: Path) -> None:
    """Each prompt has one right text and a few wrong ones, and the budget would buy some ten thousand candidates."""
    summary = run(tmp_path / "run", {"name": "quota", "k": 4}, verbs=1, amount=1_000_000)
    assert summary["budget"]["spent"] < 0.5 * summary["budget"]["amount"]
    assert summary["objective"]["whole"] == 0


@pytest.mark.parametrize(("written", "goal"), GOALS, ids=["quota", "pairs", "coverage"])
def test_nobody_buys_beyond_what_counts(tmp_path: Path, written: Any, goal: Objective) -> None:
    summary = run(tmp_path / "run", written, amount=200_000)
    assert summary["objective"]["whole"] >= 7
    for mine in scores_of(tmp_path / "run").values():
        last = max(one["purchase"] for one in mine)
        before = [one["accepted"] for one in mine if one["purchase"] < last and one["accepted"] is not None]
        accepted = np.array(sum(before))
        assert float(goal.reached(accepted, len(before) - accepted)) < 1.0


def test_k_is_what_is_bought_for(tmp_path: Path) -> None:
    few = run(tmp_path / "few", {"name": "quota", "k": 1}, amount=200_000)["objective"]
    many = run(tmp_path / "many", {"name": "quota", "k": 6}, amount=200_000)["objective"]
    assert (few["k"], many["k"]) == (1, 6)
    assert many["accepted"] > 3 * few["accepted"]


def test_a_job_goes_on_from_its_journal_alone(tmp_path: Path) -> None:
    output = tmp_path / "run"
    first = run(output, {"name": "pairs", "k": 2})
    rows, candidates = rows_of(output), scores_of(output)
    for name in ("results.jsonl", "results.parquet", "candidates.parquet", "summary.json"):
        (output / name).unlink()
    again = run(output, {"name": "pairs", "k": 2})
    assert rows_of(output) == rows
    assert scores_of(output) == candidates
    assert again["objective"] == first["objective"]
    assert again["spent"] == first["spent"]


def test_what_is_not_counted_is_null(tmp_path: Path) -> None:
    for name, objective, verifier in (("a", "accuracy", "prm"), ("c", "coverage", None)):
        summary = run(tmp_path / name, objective, verifier=verifier)
        assert (summary["objective"] or {"accept": None})["accept"] is None, "by references, not by a score"
        assert {row["accepted"] for row in pq.read_table(tmp_path / name / "candidates.parquet").to_pylist()} == {None}
        assert all(row["accepted"] is row["rejected"] is None for row in rows_of(tmp_path / name))


def test_solve_hands_over_which_candidates_are_accepted(tmp_path: Path) -> None:
    results = list(apportion.solve(ROWS, config(tmp_path / "run", {"name": "quota", "k": 2})))
    assert all(result.accepted is not None and result.rejected is None for result in results)
    assert any(len(result.accepted or ()) >= 2 for result in results)


def test_the_summary_says_what_was_reached(tmp_path: Path) -> None:
    summary = run(tmp_path / "run", {"name": "quota", "k": 3})
    told, stream = summary["objective"], io.StringIO()
    Console(file=stream, width=160).print(closing(summary, "runs/x"))
    assert f"quota of 3: {100 * told['reached']:.1f}% reached, whole for {told['whole']} of 16" in stream.getvalue()
    assert f"{told['accepted']} candidates accepted" in stream.getvalue()
    # A finished run of an earlier version has no such key.
    del summary["objective"]
    Console(file=stream, width=160).print(closing(summary, "runs/x"))


def test_the_command_line_takes_an_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = config(tmp_path / "run", "accuracy")
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given["dataset"]["path"] = str(tmp_path / "data.jsonl")
    (tmp_path / "job.yaml").write_text(json.dumps(given))
    assert main(["run", str(tmp_path / "job.yaml"), "objective={name: pairs, k: 1}"]) == 0
    assert "1 pair a prompt" in capsys.readouterr().out
    assert all(row["rejected"] is not None for row in rows_of(tmp_path / "run"))


@pytest.mark.parametrize("policy", ["price", "uniform"])
def test_a_plan_forecasts_what_it_can(tmp_path: Path, policy: str) -> None:
    given = {**config(tmp_path / "run", {"name": "quota", "k": 2}), "allocation": {"policy": policy}}
    made = plan_job(load_job(given, rows_given=True), rows=ROWS)
    assert bool(made.forecasts) == (policy == "price")
    assert all(0.0 <= one.low <= one.value <= one.high <= 1.0 for one in made.forecasts)
    assert 0.0 < made.static.value <= 1.0
