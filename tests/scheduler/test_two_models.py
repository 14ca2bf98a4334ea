"""Strategies with two policy models as whole jobs on the lab's models: within budget, and every cost accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import apportion
from apportion.configs.build import load_job
from apportion.difficulty.estimator import Difficulty, default_start
from apportion.lab import lab_path
from apportion.scheduler.calibration import script
from apportion.types import Purchase

ROWS = 3
BUDGETS = {"tokens": 12_000, "samples": 48}
ARMS: dict[str, dict[str, Any]] = {
    "genrm": {
        "second": "judge",
        "verdicts": 2,
        "verdict_tokens": 4,
        "question": "{problem}\n{solution}",
        "select": "weighted",
    },
    "cascade": {"second": "large", "threshold": 0.8},
    "spec_reason": {"second": "large", "question": "{problem}\n{so_far}\n{step}"},
    "rsd": {"second": "large", "verifier": "prm", "threshold": 0.9, "select": "weighted"},
}


def config(strategy: str, unit: str, output: str) -> dict[str, Any]:
    models = {name: {"model": f"lab:{name}", "step_separator": "\n"} for name in ("small", "large", "judge")}
    models["prm"] = {"model": "lab:prm", "role": "scorer"}
    arm = {"strategy": strategy, "policy": "small", "n": [4], "max_tokens": 200, **ARMS[strategy]}
    used = {arm["policy"], arm["second"], arm.get("verifier")}
    return {
        "dataset": {"prompt": "problem", "id": "id", "reference": "answer"},
        "output": output,
        "budget": {"amount": BUDGETS[unit], "unit": unit},
        "models": {name: model for name, model in models.items() if name in used},
        "arms": {"two": arm},
        "allocation": {"policy": "price"},
        "cluster": {"address": "inline"},
    }


def rows() -> list[dict[str, Any]]:
    with lab_path("lab:test").open() as lines:
        return [json.loads(next(lines)) for _ in range(ROWS)]


@pytest.mark.parametrize("unit", BUDGETS)
@pytest.mark.parametrize("strategy", ARMS)
def test_job(strategy: str, unit: str, tmp_path: Path) -> None:
    results = list(apportion.solve(rows(), config(strategy, unit, str(tmp_path / "run"))))
    assert len(results) == ROWS
    assert all(result.answer is not None and result.error is None for result in results)
    assert all(result.candidates > 0 for result in results)
    spent = sum(getattr(result.spent, unit) for result in results)
    assert 0 < spent <= BUDGETS[unit]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    by_model = {name: account[unit] for name, account in summary["by_model"].items()}
    assert sum(by_model.values()) == pytest.approx(spent)
    assert by_model["small"] > 0
    if strategy != "cascade":
        assert by_model[ARMS[strategy]["second"]] > 0


@pytest.mark.parametrize(("strategy", "bought"), [("genrm", 6), ("spec_reason", 6), ("rsd", 6), ("cascade", 4)])
def test_responses_that_share_nothing_are_recorded_in_one_purchase(strategy: str, bought: int, tmp_path: Path) -> None:
    arms = load_job(config(strategy, "tokens", str(tmp_path)), ["dataset.path=lab:test"]).arms
    assert script(arms, 6, [8]) == (Purchase("two", bought),)


@pytest.mark.parametrize(("strategy", "worth"), [("genrm", 1.0), ("spec_reason", 1.0), ("rsd", 1.0), ("cascade", 0.5)])
def test_responses_that_share_nothing_are_evidence_each(strategy: str, worth: float, tmp_path: Path) -> None:
    arms = load_job(config(strategy, "tokens", str(tmp_path)), ["dataset.path=lab:test"]).arms
    assert Difficulty(1, arms, default_start(arms)).worth[0] == worth
