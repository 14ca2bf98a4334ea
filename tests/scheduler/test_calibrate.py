"""Recording a pool: what is in it, what stops it, and that a killed recording goes on to the same pool."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from apportion.configs.build import load_job
from apportion.costs import Unit
from apportion.difficulty.pools import read_pool
from apportion.errors import BudgetError, ConfigError, DataError, RunDirectoryError
from apportion.scheduler.calibrate import Recorded, calibrate
from apportion.scheduler.frontier import replay
from apportion.scheduler.solve import run_job

PROMPTS = 8
CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl", "prompt": "q", "id": "name", "reference": "a"},
    "output": "run",
    "budget": {"amount": 5000, "unit": "samples"},
    "models": {
        "small": {"engine": "fake", "model": "x", "step_separator": "\n", "dollars_per_million_output": 2.0},
        "prm": {"engine": "fake", "role": "scorer", "model": "y"},
    },
    "arms": {
        "vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4]},
        "best": {"strategy": "best_of_n", "policy": "small", "verifier": "prm", "select": "weighted", "n": [2]},
        "beam": {"strategy": "beam_search", "policy": "small", "verifier": "prm", "select": "weighted", "n": [4, 8]},
    },
    "calibration": {"output": "pool", "samples": 6},
    "cluster": {"address": "inline"},
}
WHOLE = 6 + 6 + 4 + 8
"""Samples of one prompt."""


def write_rows(folder: Path, references: int = PROMPTS) -> None:
    rows = [{"name": f"q{i}", "q": f"question {i} p=0.{i} answer={10 + i}"} for i in range(PROMPTS)]
    rows = [row | ({"a": 10 + i} if i < references else {}) for i, row in enumerate(rows)]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return tmp_path


def record(*overrides: str) -> Recorded:
    return calibrate(load_job(CONFIG, list(overrides)))


def rows_of(pool: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(pool / "candidates.parquet").to_pylist())


def test_a_pool_holds_every_arm_of_every_prompt(job: Path) -> None:
    recorded = record()
    assert (recorded.prompts, recorded.complete, recorded.before) == (PROMPTS, PROMPTS, False)
    assert recorded.summary["budget"]["spent"] == PROMPTS * WHOLE
    pool = read_pool(job / "pool")
    assert set(pool.ids) == {f"q{i}" for i in range(PROMPTS)}
    assert pool.texts[pool.ids.index("q3")] == "question 3 p=0.3 answer=13"
    assert {arm: set(deck.sizes) for arm, deck in pool.decks.items() if not arm.startswith("beam")} == {
        "vote": {6},
        "best": {6},
    }
    assert set(pool.decks) == {"vote", "best", "beam@4", "beam@8"}
    assert all(deck.sizes.min() > 0 for deck in pool.decks.values())
    assert recorded.arms == {arm: len(deck.answer) for arm, deck in pool.decks.items()}
    for arm, scored in (("vote", False), ("best", True), ("beam@4", True)):
        assert pool.decks[arm].scored is scored
    prompts = pq.read_table(job / "pool" / "prompts.parquet").to_pylist()
    assert {row["prompt_id"]: row["reference"] for row in prompts} == {f"q{i}": str(10 + i) for i in range(PROMPTS)}


def test_a_small_pool_is_not_ended_by_the_worst_case_of_all_samples(job: Path) -> None:
    """Six responses at their longest are more than the budget; all there are, as they turn out, are a third of it."""
    alone = ["arms.beam=null", "arms.best=null", "models.prm=null"]
    recorded = record(*alone, "budget.unit=tokens", "budget.amount=10000", "arms.vote.max_tokens=1800")
    assert recorded.complete == PROMPTS
    assert recorded.summary["budget"]["spent"] < 5_000
    deck = read_pool(job / "pool").deck("vote")
    assert set(deck.sizes) == {6}
    assert len({row["n"] for row in rows_of(job / "pool")}) > 1
    # What reading the prompt costs is no part of a candidate, however many purchases there were.
    assert deck.charged is not None
    assert deck.charged.sum() == pytest.approx(deck.tokens.sum())


def test_a_pool_tells_how_sure_each_response_was(job: Path) -> None:
    """A replay can then vote by self-certainty."""
    record()
    deck = read_pool(job / "pool").decks["vote"]
    assert deck.certainty is not None
    assert np.isfinite(deck.certainty).all()


def test_candidates_are_judged_and_share_what_their_purchase_cost(job: Path) -> None:
    recorded = record()
    rows = rows_of(job / "pool")
    for row in rows:
        assert row["correct"] == (row["answer"] == str(10 + int(row["prompt_id"][1:])))
        assert row["n"] == {"vote": 6, "best": 6, "beam@4": 4, "beam@8": 8}[row["arm"]]
    places: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        places.setdefault((row["prompt_id"], row["arm"]), []).append(row["index"])
    assert all(found == list(range(len(found))) for found in places.values())
    for column, unit in (("tokens", "tokens"), ("usd", "dollars"), ("flops", "flops")):
        # Prompts that were read once for several samples are told apart.
        once = {(row["prompt_id"], row["arm"]): row.get(f"prompt_{column}") or 0.0 for row in rows}
        whole = sum(row[f"cost_{column}"] for row in rows) + sum(once.values())
        assert whole == pytest.approx(recorded.summary["spent"][unit])
        assert {arm for (_, arm), paid in once.items() if paid} == (set() if column == "usd" else {"vote", "best"})
    beam, vote = (
        np.mean([row["cost_tokens"] / row["tokens"] for row in rows if row["arm"] == a]) for a in ("beam@8", "vote")
    )
    assert beam > 1.5 * vote, "a search pays for the beginnings it gave up, and its verifier"


@pytest.mark.parametrize("unit", [Unit.FLOPS, Unit.TOKENS])
def test_one_sample_of_a_replay_costs_what_it_costs_in_a_job(job: Path, unit: Unit) -> None:
    """Recorded six at a time, for which the engines read each prompt once."""
    vote = {"strategy": "best_of_n", "policy": "small", "verifier": "prm", "select": "weighted", "n": [1, 6]}
    config = {
        **CONFIG,
        "budget": {"amount": 1e15, "unit": unit.value},
        "models": {
            "small": {"model": "lab:small", "step_separator": "\n"},
            "prm": {"model": "lab:prm", "role": "scorer"},
        },
        "arms": {"vote": {**vote, "max_tokens": 96}},
    }
    calibrate(load_job(config))
    pool = read_pool(job / "pool")
    config["arms"]["vote"]["n"] = [1]
    summary = run_job(load_job({**config, "allocation": {"policy": "uniform", "n": 1}}))
    deck = pool.decks["vote"]
    assert deck.reuse is not None
    # The same first response of each prompt.
    found = deck.cost(unit)[deck.begin[:-1]].sum() + deck.reuse.reading(unit).sum()
    assert found == pytest.approx(summary["spent"][unit.value], rel=0.15)
    assert deck.cost(unit)[deck.begin[:-1]].sum() < 0.7 * found
    whole = deck.cost(unit).sum() + deck.reuse.reading(unit).sum()
    dealt = replay(pool, ["vote"], "uniform", [1e15], repeats=1, unit=unit)
    assert dealt.costs.sum() == pytest.approx(whole, rel=1e-2)


def test_what_costs_nothing_has_an_unknown_price(job: Path) -> None:
    record("models.small.dollars_per_million_output=0")
    assert {row["cost_usd"] for row in rows_of(job / "pool")} == {None}


def test_where_the_budget_ends_a_random_part_of_the_prompts_is_complete(job: Path) -> None:
    found = []
    for seed in range(3):
        recorded = record(f"calibration.budget={3 * WHOLE + 5}", f"seed={seed}", f"calibration.output=pool{seed}")
        assert recorded.complete == 3
        assert recorded.summary["budget"]["spent"] == 3 * WHOLE
        pool = read_pool(job / f"pool{seed}")
        assert all((deck.sizes > 0).all() for deck in pool.decks.values())
        found.append(tuple(pool.ids))
    assert len(set(found)) == 3
    assert [list(one) != sorted(one) for one in found].count(True) >= 1


def test_the_same_command_again_spends_nothing(job: Path) -> None:
    first = record()
    before = rows_of(job / "pool")
    (job / "pool" / "candidates.parquet").unlink()
    again = record()
    assert again.before
    assert (again.arms, again.complete, again.summary) == (first.arms, first.complete, first.summary)
    assert rows_of(job / "pool") == before


@pytest.mark.parametrize(
    ("references", "overrides", "message"),
    [
        (5, [], r"3 of 8 prompts have no reference answer.*fill the column 'a'"),
        (8, ["dataset.reference=null"], r"8 of 8 prompts have no reference answer.*dataset\.reference"),
    ],
)
def test_prompts_without_references_are_counted(job: Path, references: int, overrides: list[str], message: str) -> None:
    write_rows(job, references)
    with pytest.raises(DataError, match=message):
        record(*overrides)
    assert not (job / "pool").exists()


def test_what_cannot_be_recorded_is_named_before_anything_is_spent(job: Path) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.output is missing.*-o POOL"):
        record("calibration.output=null")
    with pytest.raises(ConfigError, match=r"calibration\.samples is 0"):
        record("calibration.samples=0")
    with pytest.raises(ConfigError, match=r"arms\.beam@4: a name that ends in @ and a number.* such as beam_4"):
        record("arms.beam@4={strategy: best_of_n, policy: small, n: [1]}")
    with pytest.raises(ConfigError, match=r"calibration\.budget is -1"):
        record("calibration.budget=-1")
    with pytest.raises(BudgetError, match=r"less than all arms are expected to cost one prompt \(24\)"):
        record(f"calibration.budget={WHOLE - 1}")
    with pytest.raises(BudgetError, match=r"calibration\.budget 0\.5 samples is less than the cheapest purchase"):
        record("calibration.budget=0.5")
    with pytest.raises(BudgetError, match=r"budget\.amount 0\.5 samples is less than the cheapest purchase"):
        record("budget.amount=0.5")


@pytest.mark.parametrize("change", ["calibration.samples=3", "calibration.budget=400", "dataset.limit=7"])
def test_a_pool_that_was_recorded_otherwise_says_how_to_get_another(job: Path, change: str) -> None:
    record()
    with pytest.raises(RunDirectoryError, match=r"or record another pool, with another -o POOL$"):
        record(change)


def test_a_folder_that_holds_something_else_is_left_alone(job: Path) -> None:
    record()
    with pytest.raises(RunDirectoryError, match=r"another config: allocation\.samples: 6 there, 5 here"):
        record("calibration.samples=5")
    with pytest.raises(RunDirectoryError, match=r"holds another job's results \(candidates\.parquet\)"):
        record("calibration.output=pool/run")
    (job / "made").mkdir()
    (job / "made" / "candidates.parquet").write_bytes((job / "pool" / "candidates.parquet").read_bytes())
    with pytest.raises(RunDirectoryError, match=r"made holds another pool.*choose another with -o POOL"):
        record("calibration.output=made")


def test_a_killed_recording_goes_on_to_the_same_pool(job: Path) -> None:
    slow = ["execution.in_flight=3", "models.small.engine_args={latency: 0.05}"]
    command = [sys.executable, "-m", "apportion", "calibrate", "job.yaml", "-q", "-o"]
    with subprocess.Popen([*command, "killed", *slow], cwd=job, stderr=subprocess.PIPE, text=True) as process:
        results = job / "killed" / "run" / "results.jsonl"
        while process.poll() is None and not (results.exists() and results.read_text()):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    done = len(results.read_text().splitlines())
    assert 0 < done < PROMPTS
    assert not (job / "killed" / "candidates.parquet").exists()
    resumed = subprocess.run([*command, "killed", *slow], cwd=job, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    record()
    for name in ("prompts.parquet", "candidates.parquet"):
        killed, whole = (pq.read_table(job / pool / name) for pool in ("killed", "pool"))
        # A restarted engine has an empty prefix cache, so what the rest costs may differ.
        same = [column for column in whole.column_names if not column.startswith("cost_")]
        assert killed.select(same).equals(whole.select(same)), name


def test_what_is_recorded_of_a_chain_does_not_go_on_from_a_smaller_amount(job: Path) -> None:
    """A job may buy the larger amount first: `revise@4` is four attempts, and not the third to the sixth."""
    revise = {"strategy": "revise", "chain": "all", "policy": "small", "n": [2, 4], "max_tokens": 64}
    walk = {"strategy": "qalign", "chains": 2, "policy": "small", "verifier": "prm", "n": [2, 4]}
    calibrate(load_job(CONFIG | {"arms": {"revise": revise, "walk": walk}}))
    rows = pq.read_table(job / "pool" / "run" / "candidates.parquet").to_pylist()
    for prompt in {row["prompt_id"] for row in rows}:
        own = sorted((row for row in rows if row["prompt_id"] == prompt), key=lambda row: row["index"])
        weights = [[row["weight"] for row in own if (row["arm"], row["n"]) == ("revise", n)] for n in (2, 4)]
        assert weights == [[1.0, 0.5], [1.0, 0.5, pytest.approx(1 / 3), 0.25]]
        weights = [[row["weight"] for row in own if (row["arm"], row["n"]) == ("walk", n)][:2] for n in (2, 4)]
        assert weights[0] == [1.0, 1.0]
        assert min(weights[1]) > 0.3, "states that were bought before weigh next to nothing"
    chains = [{row["group"] for row in rows if (row["arm"], row["n"]) == ("revise", n)} for n in (2, 4)]
    assert chains == [{0}, {2}], "the amounts are drawn apart: the seeds are those of a chain's number"
