"""`kill -9` of the driver at any moment: nothing lost, nothing answered twice, and what was in flight charged."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from apportion.actors.fake import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.codec import decode_reply
from apportion.costs import cost_of

KILLS = 12
PROMPTS = 24
BUDGET = 18_000


def write_job(folder: Path, **changes: Any) -> Path:
    """A job on the fake engine: all difficulties, voting and beam search under the price policy."""
    rates = np.linspace(0.05, 0.95, PROMPTS)
    rows = [
        {"q": f"question {i} p={rate:.2f} answer={i + 10}", "id": f"q{i}", "a": i + 10} for i, rate in enumerate(rates)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    slow = {"latency": 0.005, "jitter": 2.0}
    arm = {"policy": "small", "verifier": "prm", "select": "weighted", "max_tokens": 64, "step_separator": "\n"}
    config = {
        "dataset": {"path": str(folder / "data.jsonl"), "prompt": "q", "id": "id", "reference": "a"},
        "output": str(folder / "run"),
        "budget": {"amount": BUDGET, "unit": "tokens"},
        "models": {
            "small": {"engine": "fake", "model": "fake", "engine_args": slow},
            "prm": {"engine": "fake", "role": "scorer", "model": "fake", "engine_args": slow},
        },
        "arms": {
            "vote": {"strategy": "best_of_n", "n": [1, 2, 4, 8, 16], **arm},
            "beam": {"strategy": "beam_search", "width": 2, "n": [4, 8], **arm},
        },
        "answer": {"kind": "number"},
        "allocation": {"policy": "price"},
        "execution": {"in_flight": 6, "ordered": True},
        "cluster": {"address": "inline"},
        **changes,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def launch(config: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "apportion", "run", str(config), "--quiet", *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(config: Path, *overrides: str) -> dict[str, Any]:
    job = launch(config, *overrides)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 0, output
    summary: dict[str, Any] = json.loads((run_folder(config) / "summary.json").read_text())
    return summary


def run_folder(config: Path) -> Path:
    return Path(yaml.safe_load(config.read_text())["output"])


def events_in(journal: Path) -> int:
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=5) as db:
            return int(db.execute("SELECT COUNT(*) FROM events").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not made yet


def await_events(job: subprocess.Popen[str], journal: Path, events: int) -> None:
    """Wait until the journal of a job that runs holds so many events."""
    while events_in(journal) < events:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.002)


def kill_after(config: Path, events: int) -> bool:
    """Run until the journal holds more than so many events, then kill -9. False where the job ended before."""
    job = launch(config)
    journal = run_folder(config) / "journal.sqlite"
    while job.poll() is None and events_in(journal) <= events:
        time.sleep(0.002)
    if job.poll() is not None:
        return False
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    return True


def results(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: row["prompt_id"])


def journaled_tokens(journal: Path) -> float:
    """What the journal says was spent: every reply's cost, added up without the ledger."""
    profile = describe(ModelSpec("small", "fake", Role.POLICY, "fake")).profile()
    with sqlite3.connect(journal) as db:
        bodies = [body for (body,) in db.execute("SELECT body FROM events WHERE kind = 'replied'")]
    return sum(cost_of(decode_reply(body).usage, profile).tokens for body in bodies)


def killed_and_finished(folder: Path, kills: int, total: int, order: random.Random, **changes: Any) -> dict[str, Any]:
    """Kill a job's driver at random moments of the `total` events it would have, then let it end."""
    folder.mkdir()
    config = write_job(folder, **changes)
    moments = sorted(order.sample(range(total - 1), kills))
    done = sum(kill_after(config, moment) for moment in moments)
    summary = finish(config)
    assert summary["budget"]["spent"] <= summary["budget"]["amount"]
    told = journaled_tokens(folder / "run" / "journal.sqlite") + summary["lost"]["tokens"]
    assert summary["spent"]["tokens"] == pytest.approx(told)
    assert (summary["lost"]["tokens"] > 0) is (done > 0)
    assert [row["prompt_id"] for row in results(folder / "run")] == sorted(f"q{i}" for i in range(PROMPTS))
    candidates = pq.read_table(folder / "run" / "candidates.parquet").to_pylist()
    assert len({(row["prompt_id"], row["index"]) for row in candidates}) == len(candidates)
    return {**summary, "kills": done}


def bought(folder: Path) -> list[dict[str, Any]]:
    """What does not depend on what the whole job spent, of each prompt."""
    return [{key: row[key] for key in ("prompt_id", "answer", "purchases", "error")} for row in results(folder)]


@pytest.mark.slow
def test_a_driver_killed_at_random_moments_comes_back_to_the_same_results(tmp_path: Path) -> None:
    # Buying by a stopping rule, under a budget that does not bind: what lost work takes of it changes no decision.
    rule: dict[str, Any] = {"allocation": {"policy": "esc"}, "budget": {"amount": 10**6, "unit": "tokens"}}
    whole = tmp_path / "whole"
    whole.mkdir()
    uninterrupted = finish(write_job(whole, **rule))
    assert uninterrupted["lost"]["tokens"] == 0
    total = events_in(whole / "run" / "journal.sqlite")
    order, kills = random.Random(0), 0
    for attempt in range(KILLS // 4):
        summary = killed_and_finished(tmp_path / f"killed{attempt}", 4, total, order, **rule)
        kills += summary["kills"]
        assert bought(tmp_path / f"killed{attempt}" / "run") == bought(whole / "run")
        own = summary["spent"]["tokens"] - summary["lost"]["tokens"]
        assert own == pytest.approx(uninterrupted["spent"]["tokens"])
    assert kills == KILLS // 4 * 4


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["particle_filter", "qalign", "rebase", "revise"])
def test_chains_and_populations_come_back_from_kills_as_they_were(strategy: str, tmp_path: Path) -> None:
    arm = {"policy": "small", "verifier": "prm", "select": "weighted", "max_tokens": 64, "step_separator": "\n"}
    rule: dict[str, Any] = {
        "arms": {"it": {"strategy": strategy, "n": [4], **arm}},
        "allocation": {"policy": "esc"},
        "budget": {"amount": 10**6, "unit": "tokens"},
    }
    whole = tmp_path / "whole"
    whole.mkdir()
    uninterrupted = finish(write_job(whole, **rule))
    total = events_in(whole / "run" / "journal.sqlite")
    summary = killed_and_finished(tmp_path / "killed", 3, total, random.Random(strategy), **rule)
    assert summary["kills"] == 3
    assert bought(tmp_path / "killed" / "run") == bought(whole / "run")
    own = summary["spent"]["tokens"] - summary["lost"]["tokens"]
    assert own == pytest.approx(uninterrupted["spent"]["tokens"])


@pytest.mark.slow
@pytest.mark.timeout(900)  # twenty starts of a driver: minutes, on a machine with other work
def test_a_budget_that_binds_holds_though_drivers_are_killed(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = tmp_path / f"killed{attempt}"
        summary = killed_and_finished(folder, 2, 60, random.Random(attempt))
        assert summary["kills"] == 2
        # What was decided can be decided again: the journal alone gives the same results.
        before = results(folder / "run")
        for name in ("summary.json", "results.jsonl", "results.parquet", "candidates.parquet"):
            (folder / "run" / name).unlink()
        assert finish(folder / "job.yaml")["spent"] == summary["spent"]
        assert results(folder / "run") == before


def test_a_complete_run_says_so_and_spends_nothing(tmp_path: Path) -> None:
    config = write_job(tmp_path)
    first = finish(config)
    before = events_in(tmp_path / "run" / "journal.sqlite")
    job = launch(config)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    assert "complete" in output
    assert events_in(tmp_path / "run" / "journal.sqlite") == before
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == first


def test_a_run_directory_of_another_config_is_refused_with_what_differs(tmp_path: Path) -> None:
    config = write_job(tmp_path)
    assert kill_after(config, 10)
    job = launch(config, "budget.amount=99999")
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "budget.amount" in output
    assert "99999" in output
    assert "Traceback" not in output


def test_a_journal_whose_grants_differ_is_refused(tmp_path: Path) -> None:
    config = write_job(tmp_path)
    assert kill_after(config, 10)
    with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as db:
        db.execute("UPDATE grants SET n = n + 1 WHERE prompt = 0")
    job = launch(config)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "replaying" in output


def test_two_drivers_cannot_share_a_run_directory(tmp_path: Path) -> None:
    config = write_job(tmp_path)
    first = launch(config)
    await_events(first, tmp_path / "run" / "journal.sqlite", 1)
    # Held still, so that it cannot be done before the second has started.
    first.send_signal(signal.SIGSTOP)
    try:
        second = launch(config)
        output, _ = second.communicate(timeout=60)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another job" in output
    first.communicate(timeout=60)
    assert first.returncode == 0
