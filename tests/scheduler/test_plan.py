"""The plan: what one purchase costs and what budgets are expected to reach."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from apportion.configs.build import load_job
from apportion.difficulty.objectives import Objective
from apportion.scheduler.assemble import build_costs, prepare
from apportion.scheduler.plan import BUDGET_MULTIPLES, JobPlan, plan_job, render
from apportion.scheduler.static import forecast_of_job

CONFIG: dict[str, Any] = {
    "dataset": {"prompt": "q"},
    "output": "runs/x",
    "budget": {"amount": 30, "unit": "samples"},
    "models": {
        "small": {"engine": "fake", "model": "x"},
        "prm": {"engine": "fake", "role": "scorer", "model": "y"},
    },
    "arms": {
        "vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4]},
        "checked": {"strategy": "best_of_n", "policy": "small", "verifier": "prm", "select": "weighted", "n": [2]},
    },
    "cluster": {"address": "inline"},
}
ROWS = [{"q": "question " * (1 + i)} for i in range(10)]


def plan(*overrides: str) -> JobPlan:
    return plan_job(load_job(CONFIG, overrides, rows_given=True), ROWS)


def test_samples_cost_what_they_say_and_the_budget_covers_so_many() -> None:
    rows = {(row.arm, row.n): row for row in plan().purchases}
    assert {key: (row.least, row.mean, row.most) for key, row in rows.items()} == {
        ("vote", 1): (1, 1, 1),
        ("vote", 2): (2, 2, 2),
        ("vote", 4): (4, 4, 4),
        ("checked", 2): (2, 2, 2),
    }
    assert {key: row.affordable for key, row in rows.items()} == {
        ("vote", 1): 10,
        ("vote", 2): 10,
        ("vote", 4): 7,
        ("checked", 2): 10,
    }


def test_longer_prompts_and_verifiers_cost_more_in_tokens() -> None:
    made = plan("budget.unit=tokens", "budget.amount=5000")
    vote, checked = (
        next(row for row in made.purchases if (row.arm, row.n) == key) for key in (("vote", 2), ("checked", 2))
    )
    assert vote.least < vote.mean < vote.most
    assert checked.least > vote.least
    assert checked.mean > vote.mean


def test_a_forecast_for_each_budget_within_it_and_never_falling() -> None:
    forecasts = plan().forecasts
    assert [forecast.budget for forecast in forecasts] == [30 * multiple for multiple in BUDGET_MULTIPLES]
    for forecast in forecasts:
        assert 0 <= forecast.low <= forecast.value <= forecast.high <= 1
        assert forecast.spent <= forecast.budget * (1 + 1e-9)
    values = [forecast.value for forecast in forecasts]
    assert values == sorted(values)


@pytest.mark.parametrize("policy", ["price", "uniform"])
def test_the_plan_is_shown_in_plain_words(policy: str) -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(render(plan(f"allocation.policy={policy}", "objective=coverage")))
    text = stream.getvalue()
    assert "10 prompts, 0 rows set aside" in text
    assert "budget 30 samples, 3 samples a prompt" in text
    assert f"Forecast by the allocation policy {policy}" in text
    assert "expected coverage" in text
    assert "\x1b" not in text


def test_the_static_plan_comes_with_its_certificate() -> None:
    made = plan("objective=coverage")
    assert 0 < made.static.value <= 1
    assert made.static.spent <= 30
    assert made.static.price > 0
    assert 0 <= made.static.shortfall < 0.05
    stream = io.StringIO()
    Console(file=stream, width=200).print(render(made))
    assert "static plan, one purchase a prompt: expected coverage" in stream.getvalue()
    assert "% from optimal" in stream.getvalue()


def test_a_budget_for_everything_has_no_price() -> None:
    made = plan("budget.amount=1000")
    assert made.static.price == 0
    assert made.static.shortfall == 0


def test_the_static_plan_of_a_quota_counts_candidates() -> None:
    spec = load_job(CONFIG, ["arms.vote=null", "budget.amount=60"], rows_given=True)
    spec = replace(spec, objective="quota", goal=Objective("quota", 2))
    prepared = prepare(spec, ROWS)
    found = forecast_of_job(prepared, build_costs(prepared))
    assert 0 < found.value < 1
    assert found.spent <= 60
