"""calibrate -> fit -> plan -> run on the models that ship with the package, and what bad input gets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from apportion.cli import main
from apportion.difficulty.fitted import load
from apportion.difficulty.pools import read_pool
from apportion.lab import lab_path

SMALL = ["dataset.limit=6", "cluster.address=inline", "arms.beam.n=[4]", "execution.in_flight=6"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(text: str) -> str:
    return " ".join(re.sub(r"[│┃┏┓┗┛┡┩┳┻╇┴┬└┘├┤─━]", " ", text).split())


@pytest.mark.slow
def test_calibrate_fit_plan_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["calibrate", "quickstart", "dataset.path=lab:calibration", "-o", "pool", "--samples", "3", *SMALL]
    assert main(record) == 0
    shown = capsys.readouterr()
    assert "6 of 6 prompts complete on all arms; candidates: 24 of beam@4, 18 of vote" in words(shown.out)
    assert "next: apportion fit pool -o policy.json" in words(shown.out)
    assert set(read_pool("pool").decks) == {"beam@4", "vote"}

    assert main(["fit", "-o", "policies/lab.json", "pool"]) == 0
    text = words(capsys.readouterr().out)
    assert "policies/lab.json: 6 prompts, 42 candidates" in text
    assert "vote 18 " in text
    policy = load("policies/lab.json")
    assert policy.reference == "vote"
    assert policy.arms["vote"].candidates == 18

    job = ["quickstart", "difficulty.fitted=policies/lab.json", "output=run", "budget.amount=1.5e10", *SMALL]
    assert main(["plan", *job]) == 0
    text = words(capsys.readouterr().out)
    assert "policies/lab.json: 6 prompts of pool; it knows vote, beam" in text
    assert f"responses are taken to have vote {policy.arms['vote'].tokens:.0f} tokens, beam " in text

    assert main(["run", "-q", *job]) == 0
    assert json.loads((here / "run" / "summary.json").read_text())["answered"] == 6
    assert (here / "run" / "fitted.json").read_bytes() == (here / "policies" / "lab.json").read_bytes()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fit", "nope", "-o", "p.json"], "nope is no pool: it has no candidates.parquet"),
        (["fit", "lab:pool/calibratio", "-o", "p.json"], "ConfigError: POOL: 'lab:pool/calibratio' is no lab asset"),
        (["fit", "lab:pool/test", "-o", "p.json", "--arms", "smal"], "no pool has an arm 'smal': did you mean 'small'"),
        (["fit", "lab:pool/test", "-o", "p.json", "--arms", ","], "ConfigError: --arms is empty; give names"),
        (["fit", "lab:pool/test", "-o", "p.json", "--seed", "-1"], "ConfigError: --seed is -1, but must be a"),
        (["calibrate", "quickstart"], "ConfigError: calibration.output is missing"),
        (["calibrate", "quickstart", "-o", "p", "seed=-1"], "ConfigError: seed is -1, but must be a number of"),
        (
            ["fit", "lab:pool/test", "-o", "s3://b/p.json"],
            "ConfigError: -o is s3://b/p.json, but must be a path on this",
        ),
        (
            ["replay", "lab:pool/test", "--out", "s3://b/p.json"],
            "ConfigError: --out is s3://b/p.json, but must be a path",
        ),
        (
            ["calibrate", "quickstart", "-o", "s3://u:key@b/pool"],
            "ConfigError: -o is s3://***@b/pool, but must be a path",
        ),
        (
            ["calibrate", "quickstart", "calibration.output=s3://b/p"],
            "ConfigError: calibration.output is s3://b/p, but",
        ),
        (["calibrate", "quickstart", "-o", "p", "--samples", "0"], "ConfigError: --samples is 0"),
        (["calibrate", "quickstart", "-o", "p", "dataset.reference=null"], "DataError: 200 of 200 prompts have no ref"),
        (["calibrate", "quickstart", "-o", "p", "calibration.sampels=3"], "did you mean 'samples'"),
        (["calibrate", "quickstart", "-o", "p", "calibration.budget=5e9"], "BudgetError: the budget of 5e+09 is less"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_policy_that_knows_none_of_the_jobs_arms_is_refused_with_both_lists(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "lab:pool/test", "-o", "p.json", "--arms", "large"]) == 0
    assert main(["plan", "quickstart", "difficulty.fitted=p.json", "arms.beam=null"]) == 2
    assert "none of this job's arms (vote (model small)). It was fitted on other arms, of test: known: large" in (
        capsys.readouterr().err
    )


def test_a_fit_says_what_it_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "lab:pool/test", "lab:pool/test", "-o", "p.json"]) == 0
    text = words(capsys.readouterr().out)
    policy = load("p.json")
    small = policy.error.arms["small"].leading[0]
    assert f"{small.brier:.3f} ({small.brier_constant:.3f})" in text
    assert f"small {policy.arms['small'].candidates:,} {100 * policy.arms['small'].pass_rate:.1f}% 1" in text
    assert policy.fitted_on["prompts"] == len(read_pool(lab_path("lab:pool/test")).ids), "the same pool twice is one"


def test_a_pool_that_the_budget_did_not_complete_says_how_to_get_another(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"q": f"question {at} p=0.5 answer=1", "a": 1} for at in range(6)]
    (here / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (here / "job.yaml").write_text(
        """
dataset: {path: d.jsonl, prompt: q, reference: a}
output: runs/x
budget: {amount: 60, unit: samples}
models: {small: {engine: fake, model: x}}
arms: {vote: {strategy: best_of_n, policy: small, n: [1, 2, 4]}}
cluster: {address: inline}
"""
    )
    record = ["calibrate", "job.yaml", "-q", "-o", "pool", "--samples", "4", "calibration.budget=14"]
    assert main(record) == 0
    told = words(capsys.readouterr().err)
    assert "3 of 6 prompts are complete on all arms; for more, raise calibration.budget and record another pool" in told
    assert "with another -o POOL" in told
    assert main(record) == 0
    assert (
        "pool is recorded: nothing was run or spent; for another pool give another -o POOL" in capsys.readouterr().err
    )
