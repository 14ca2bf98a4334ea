"""A plan with a policy that has no model says so, instead of making a forecast up."""

from __future__ import annotations

import io
from typing import Any

import fake_job
import pytest
from rich.console import Console

from apportion.configs.build import load_job
from apportion.scheduler.plan import plan_job, render

CONFIG: dict[str, Any] = {
    **fake_job.CONFIG,
    "dataset": {"prompt": "q"},
    "output": "runs/x",
    "budget": {"amount": 30, "unit": "samples"},
}


@pytest.mark.parametrize("policy", ["asc", "blend_asc", "elimination", "esc"])
def test_the_plan_says_that_the_policy_makes_no_forecast(policy: str) -> None:
    plan = plan_job(load_job(CONFIG, [f"allocation.policy={policy}"], rows_given=True), [{"q": "question"}] * 10)
    assert plan.forecasts == ()
    console = Console(file=io.StringIO(), width=100)
    console.print(render(plan))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{policy} makes no forecast of accuracy before it starts" in text
    assert "What one purchase is expected to cost" in text
