"""`apportion replay`: its files, its table, and what bad input gets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_pools import make_pool, write_pool

from apportion.cli import main
from apportion.difficulty.fit import fit
from apportion.scheduler import frontier_view

ROW = ["pool", "arms", "policy", "budget_per_prompt", "cost_per_prompt", "accuracy", "low", "high"]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `maths` with two arms, in the current directory."""
    monkeypatch.chdir(tmp_path)
    return write_pool(make_pool(16, {"small": 8, "large": 4}), tmp_path / "maths")


def replay(*arguments: str) -> int:
    return main(["replay", *arguments, "--workers", "1", "--repeats", "2"])


def rows(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(file).read_text())["rows"]
    return found


def test_rows_a_table_and_a_picture(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = ["uniform", "price", "oracle"]
    assert (
        replay("maths", "--policies", ",".join(policies), "--budgets", "3", "--fit", "cross", "--out", "f/a.json") == 0
    )
    told = capsys.readouterr()
    assert "rows: f/a.json, picture: f/a.png" in told.err
    for word in (*policies, "accuracy", "90% interval", "tokens"):
        assert word in told.out
    assert Path("f/a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("f").iterdir()) == ["a.json", "a.png"]
    found = rows("f/a.json")
    # Uniform is played on each arm, the two that choose among arms on both.
    assert [(row["policy"], row["arms"]) for row in found[::3]] == [
        ("uniform", ["large"]),
        ("uniform", ["small"]),
        ("price", ["large", "small"]),
        ("oracle", ["large", "small"]),
    ]
    for row in found:
        said = ["forecast", "forecast_low", "forecast_high"] if row["policy"] == "price" else []
        assert list(row) == ROW + said
        assert row["cost_per_prompt"] <= row["budget_per_prompt"] * (1 + 1e-9)
        assert 0.0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1.0
        if said:
            assert row["forecast_low"] <= row["forecast"] <= row["forecast_high"]
    meta = json.loads(Path("f/a.json").read_text())["meta"]
    assert (meta["fit"], meta["repeats"], meta["seed"]) == ("cross", 2, 0)
    assert meta["pools"] == {"maths": {"prompts": 16, "unit": "tokens"}}


def test_the_same_command_writes_the_same_rows(pool: Path) -> None:
    for name in ("a", "b"):
        assert (
            replay("maths", "--arms", "small", "--policies", "asc", "--budgets", "30,90", "--out", f"{name}.json") == 0
        )
    assert rows("a.json") == rows("b.json")
    assert [row["budget_per_prompt"] for row in rows("a.json")] == [30.0, 90.0]


def test_pools_may_follow_the_options(pool: Path) -> None:
    write_pool(make_pool(8, {"small": 4}, seed=2), Path("more").absolute())
    options = ["--arms", "small", "--policies", "uniform", "--budgets", "1,", "--unit", "samples"]
    assert replay("-q", *options, "--out", "a.json", "maths", "more") == 0
    assert [row["pool"] for row in rows("a.json")] == ["maths", "more"]


def test_a_fitted_policy_can_be_given(pool: Path) -> None:
    fit([make_pool(16, {"small": 8}, seed=9)]).save(Path("policy.json"))
    options = ["--arms", "small", "--policies", "uniform", "--budgets", "2", "--fit", "policy.json"]
    assert replay("maths", *options, "--out", "a.json") == 0


def test_without_matplotlib_there_are_rows_and_no_picture(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier_view, "find_spec", lambda name: None)
    assert replay("-q", "maths", "--arms", "small", "--policies", "uniform", "--budgets", "2", "--out", "a.json") == 0
    assert "no picture: pip install matplotlib" in capsys.readouterr().err
    assert Path("a.json").is_file()
    assert not Path("a.png").exists()


@pytest.mark.parametrize(
    ("options", "name", "hint"),
    [
        (["--policies", "unifrom"], "ConfigError", "did you mean 'uniform'"),
        (["--arms", "smal"], "DataError", "pool maths has no arm 'smal': did you mean 'small'"),
        (["--arms", "small,small"], "ConfigError", "names 'small' twice"),
        (["--arms", ","], "ConfigError", "--arms is empty"),
        (["--policies", ","], "ConfigError", "--policies is empty"),
        (["--budgets", "0"], "ConfigError", "must be more than 0"),
        (["--budgets", "1,nan"], "ConfigError", "must be more than 0"),
        (["--budgets", "many"], "ConfigError", "amounts per prompt with commas"),
        (["--budgets", "0.1,50"], "BudgetError", "0.1 tokens per prompt is less.*1 of arm 'small'.*larger --budgets"),
        (["--repeats", "0"], "ConfigError", "repeats is 0; play at least 1"),
        (["--seed", "-1"], "ConfigError", "seed is -1; use at least 0"),
        (["--workers", "0"], "ConfigError", "--workers is 0"),
        (["--unit", "gpu_seconds"], "ConfigError", "'gpu_seconds' is not recorded .*dollars, flops, samples, tokens"),
        (["--unit", "flops"], "DataError", "arm 'small' of pool maths has 128 of 128 candidates without cost_flops"),
        (["--unit", "dollars"], "DataError", "without cost_usd.*give --unit samples"),
        (["--select", "majorty"], "ConfigError", "did you mean 'majority'"),
        (["--objective", "quota"], "ConfigError", "write quota:K, such as quota:4"),
        (["--objective", "acuracy"], "ConfigError", "did you mean 'accuracy'"),
        (["--fit", "none.json"], "ConfigError", "none.json, which does not exist; fit it again"),
        (["--fit", "broken.json"], "ConfigError", "broken.json is not readable JSON"),
        (["--fit", "older.json"], "ConfigError", "older.json has version 0.*fit it again"),
        (["--fit", "damaged.json"], "ConfigError", "damaged.json is damaged"),
        (["--fit", "others.json"], "ConfigError", "knows none of this job's arms .*small.*known: tiny"),
        (["--out", "a.txt"], "ConfigError", "name a file that ends in .json"),
        (["--out", "maths"], "ConfigError", "name a file that ends in .json"),
        (["--policies", "binned"], "ConfigError", "fit"),
    ],
)
def test_what_cannot_be_played_is_named_and_nothing_is_written(
    pool: Path, capsys: pytest.CaptureFixture[str], options: list[str], name: str, hint: str
) -> None:
    Path("broken.json").write_text("{")
    fit([make_pool(16, {"tiny": 8})]).save(Path("others.json"))
    good = json.loads(Path("others.json").read_text())
    Path("older.json").write_text(json.dumps({**good, "version": 0}))
    Path("damaged.json").write_text(json.dumps({**good, "prior": [[1.0]]}))
    before = sorted(Path().iterdir())
    given = {"--arms": "small", "--policies": "uniform", "--budgets": "2", "--out": "a.json", "--workers": "1"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    assert main(["replay", "maths", *(part for pair in given.items() for part in pair)]) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith(f"apportion: {name}: ")
    assert re.search(hint, told), told
    assert sorted(Path().iterdir()) == before


def test_a_policy_that_a_pool_has_no_texts_for_is_named_before_others_are_played(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pool / "prompts.parquet").unlink()
    assert replay("maths", "--policies", "uniform,damani", "--fit", "cross", "--out", "a.json") == 2
    assert "these prompts have none" in capsys.readouterr().err
    assert not Path("a.json").exists()


def test_pools_of_one_name_are_told_apart_and_each_is_played_once(pool: Path) -> None:
    write_pool(make_pool(8, {"small": 4}, seed=1), Path("other/maths"))
    options = ["--arms", "small", "--policies", "uniform", "--budgets", "2"]
    assert replay("maths", "other/maths", "./maths", *options, "--out", "a.json") == 0
    assert [row["pool"] for row in rows("a.json")] == ["maths", "maths", "other/maths", "other/maths"]
    assert replay("maths", "maths", *options, "--out", "b.json") == 0
    assert [row["pool"] for row in rows("b.json")] == ["maths", "maths"]


def test_a_folder_that_is_no_labelled_pool_is_refused(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policies", "uniform", "--out", "a.json"]
    assert replay("elsewhere", *options) == 2
    assert "is no pool" in capsys.readouterr().err
    table = pq.read_table(pool / "candidates.parquet")
    at = table.column_names.index("correct")
    unlabelled = table.set_column(at, "correct", pq.read_table(pool / "candidates.parquet")["score"].cast("bool"))
    pq.write_table(unlabelled, pool / "candidates.parquet")
    assert replay("maths", *options) == 2
    told = capsys.readouterr().err
    assert "have no `correct`" in told
    assert "record the pool on prompts with references" in told
    assert not Path("a.json").exists()


def test_right_candidates_without_an_answer_are_a_caution_where_an_answer_is_chosen(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["maths", "--policies", "uniform", "--budgets", "1", "--out", "a.json"]
    assert replay(*options) == 0
    assert "caution" not in capsys.readouterr().err
    table = pq.read_table(pool / "candidates.parquet")
    right = sum(row["correct"] and row["arm"] == "small" for row in table.to_pylist())
    at = table.column_names.index("answer")
    bare = table.set_column(at, "answer", pa.nulls(len(table), pa.string()))
    pq.write_table(bare, pool / "candidates.parquet")
    assert replay(*options, "--arms", "small") == 0
    assert f"caution: {right} of {right} right candidates of pool maths have no answer" in capsys.readouterr().err
    assert {row["accuracy"] for row in rows("a.json")} == {0.0}
    assert replay(*options, "--arms", "small", "--objective", "coverage") == 0
    assert "caution" not in capsys.readouterr().err
    assert {row["accuracy"] for row in rows("a.json")} != {0.0}
