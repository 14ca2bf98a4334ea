"""Cautions: a policy fitted on few prompts, or on the very prompts it is used on, is said to be so, everywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_job
import numpy as np
import pytest
import yaml
from made_pools import make_pool, write_pool

from apportion.cli import main
from apportion.difficulty.fit import fit
from apportion.difficulty.fitted import FEW_PROMPTS, load
from apportion.difficulty.hidden import HiddenStates, write_hidden
from apportion.difficulty.linear import FEWEST_PROMPTS
from apportion.scheduler.cautions import cautions

CONFIG: dict[str, Any] = {
    **fake_job.CONFIG,
    "dataset": {"path": "d.jsonl", "prompt": "q"},
    "output": "runs/x",
    "difficulty": {"fitted": "policy.json"},
}
FEW = r"fitted on 12 prompts: with fewer than 40"
SAME = r"2 of 5 prompts are among those that policy\.json was fitted on"


def policy_on(folder: Path, prompts: int) -> None:
    """A pool of questions q0, q1, ... and the policy fitted on it; a job's file of five, two of them from the pool."""
    write_pool(make_pool(prompts, {"small": 6}), folder / "pool")
    (folder / "job.yaml").write_text(yaml.safe_dump(CONFIG))
    rows = [{"q": f"question q{at}"} for at in (0, 1, 1000, 1001, 1002)]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert main(["fit", "pool", "-o", "policy.json"]) == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    """What a command writes to standard output and standard error, on one line each."""
    assert main(list(argv)) == 0
    found = capsys.readouterr()
    return " ".join(found.out.split()), " ".join(found.err.split())


def test_every_command_that_uses_a_policy_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_on(folder, 12)
    assert re.search(FEW, " ".join(capsys.readouterr().err.split()))
    for command in ("plan", "check"):
        out, _ = said(capsys, command, "job.yaml")
        assert re.search(FEW, out)
        assert re.search(SAME, out)
    _, err = said(capsys, "run", "job.yaml", "-q")
    assert re.search(FEW, err)
    assert re.search(SAME, err)
    replayed = ("replay", "pool", "--fit", "policy.json", "--policies", "uniform", "--repeats", "1", "--workers", "1")
    _, err = said(capsys, *replayed, "--budgets", "1", "--out", "r.json", "-q")
    assert "12 of 12 prompts are among those that --fit policy.json" in err


def test_a_policy_that_was_fitted_on_enough_other_prompts_needs_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy_on(folder, FEW_PROMPTS)
    assert "caution" not in capsys.readouterr().err
    (folder / "d.jsonl").write_text(json.dumps({"q": "question q1000"}) + "\n")
    for command in ("plan", "check"):
        assert "caution" not in said(capsys, command, "job.yaml")[0]


def test_arms_that_the_policy_takes_for_one_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_on(folder, FEW_PROMPTS)
    hot = {"strategy": "best_of_n", "policy": "small", "n": [1, 2], "temperature": 1.5}
    (folder / "job.yaml").write_text(yaml.safe_dump(CONFIG | {"arms": CONFIG["arms"] | {"hot": hot}}))
    capsys.readouterr()
    for command in ("plan", "check"):
        assert "arms hot, vote are one arm, small, to policy.json" in said(capsys, command, "job.yaml")[0]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (FEWEST_PROMPTS - 1, r"hidden states of 49 prompts: at least 50 .*record more with apportion calibrate"),
        (FEWEST_PROMPTS, r"hidden states of 50 prompts: they did not .*use difficulty\.features=text"),
    ],
)
def test_a_fit_says_that_hidden_states_taught_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], prompts: int, message: str
) -> None:
    """Of 60 prompts, of which so many have a state, and none says anything."""
    pool = make_pool(60, {"small": 6})
    write_pool(pool, folder / "pool")
    vectors = np.where(np.arange(60)[:, None] < prompts, np.zeros((60, 3)), np.nan).astype(np.float32)
    write_hidden(folder / "pool", pool.ids, HiddenStates("small", "f00", vectors))
    assert main(["fit", "pool", "-o", "policy.json"]) == 0
    assert re.search(f"caution: policy.json learned nothing from the {message}", capsys.readouterr().err)


def test_one_prompt_is_not_called_prompts(folder: Path) -> None:
    policy_on(folder, 1)
    read = load(folder / "policy.json")
    few, same = cautions(read, "p.json", ["question q0"])
    assert few.startswith("p.json was fitted on 1 prompt: ")
    assert same.startswith("1 of 1 prompt is among those that p.json was fitted on: ")


def test_the_file_keeps_no_text_and_knows_its_prompts_again(folder: Path) -> None:
    pool = make_pool(3, {"small": 4})
    fit([pool]).save(folder / "p.json")
    assert "question" not in (folder / "p.json").read_text()
    read = load(folder / "p.json")
    assert cautions(read, "p.json", pool.texts)[1].startswith("3 of 3 prompts")


def test_a_file_without_marks_is_read_and_says_nothing_of_them(folder: Path) -> None:
    fit([make_pool(FEW_PROMPTS, {"small": 4})]).save(folder / "p.json")
    raw = json.loads((folder / "p.json").read_text())
    del raw["marks"]
    (folder / "p.json").write_text(json.dumps(raw))
    assert cautions(load(folder / "p.json"), "p.json", ["question q0"]) == ()


def test_a_policy_that_does_not_say_how_many_is_not_called_small() -> None:
    made = replace(fit([make_pool(3, {"small": 4})]), marks=(), fitted_on={})
    assert cautions(made, "p.json", ["question q0"]) == ()
