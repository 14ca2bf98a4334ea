"""A job keeps a copy of its fitted policy: another one is refused, and a lost one can be replaced by the copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_job
import pytest

from apportion.configs.build import load_job
from apportion.difficulty.crossfit import fit_with_error
from apportion.difficulty.pools import read_pool
from apportion.errors import ConfigError, RunDirectoryError
from apportion.lab import lab_path
from apportion.scheduler.solve import run_job

CONFIG: dict[str, Any] = {
    **fake_job.CONFIG,
    "output": "run",
    "budget": {"amount": 20, "unit": "samples"},
    "difficulty": {"fitted": "policy.json"},
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"q": f"question {i} p=0.{i} answer={i}", "a": i} for i in range(5)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    small = read_pool(lab_path("lab:pool/calibration")).only(["small"])
    fit_with_error([small.part(small.decks["small"].owner[:1])]).save(tmp_path / "policy.json")
    run_job(load_job(CONFIG))
    return tmp_path


def test_the_copy_is_the_file(job: Path) -> None:
    assert (job / "run" / "fitted.json").read_bytes() == (job / "policy.json").read_bytes()


def test_the_same_file_elsewhere_is_the_same_job(job: Path) -> None:
    (job / "moved.json").write_bytes((job / "policy.json").read_bytes())
    summary = run_job(load_job(CONFIG, ["difficulty.fitted=moved.json"]))
    assert summary == run_job(load_job(CONFIG))


def test_a_changed_file_is_refused_and_the_copy_goes_on(job: Path) -> None:
    policy = json.loads((job / "policy.json").read_text())
    (job / "policy.json").write_text(json.dumps(policy | {"unparsed": 0.5}))
    with pytest.raises(RunDirectoryError, match=r"policy\.json has changed since.*difficulty\.fitted=run/fitted\.json"):
        run_job(load_job(CONFIG))
    assert run_job(load_job(CONFIG, ["difficulty.fitted=run/fitted.json"]))["answered"] == 5


def test_a_lost_file_is_named_with_the_copy(job: Path) -> None:
    (job / "policy.json").unlink()
    with pytest.raises(ConfigError, match=r"no file.*kept a copy: difficulty\.fitted=run/fitted\.json"):
        load_job(CONFIG)


def test_with_and_without_a_fitted_policy_are_two_jobs(job: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"difficulty\.fitted: .* there, None here"):
        run_job(load_job(CONFIG, ["difficulty.fitted=null"]))
