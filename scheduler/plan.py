"""What a budget is expected to buy, before any of it is spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.difficulty.fitted import FittedPolicy
from apportion.scheduler.allocation import Allocation, Forecast
from apportion.scheduler.assemble import Prepared, build_costs, build_policy, looks_cost, prepare
from apportion.scheduler.cautions import job_cautions
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.lengths import FIRST_GUESS_TOKENS
from apportion.scheduler.spec import JobSpec
from apportion.scheduler.static import StaticForecast, forecast_of_job
from apportion.scheduler.terminal import amount, count, percent, safe, several

BUDGET_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Forecast budgets, as multiples of the configured one: enough to see where more stops paying."""


@dataclass(frozen=True, slots=True)
class PurchaseCost:
    """Expected cost of one purchase, in the budget's unit: mean, least and most over the prompts.

    `affordable` is how many such purchases, one a prompt and cheapest first, the budget covers.
    """

    arm: str
    n: int
    mean: float
    least: float
    most: float
    affordable: int


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The plan of a job. `prompt_tokens` is the mean over prompts for each model.

    `looks` is what reading the prompts' hidden states is expected to cost, in the budget's unit. `forecasts` is empty
    where the allocation policy makes none.
    """

    spec: JobSpec
    prompts: int
    set_aside: int
    prompt_tokens: dict[str, float]
    purchases: tuple[PurchaseCost, ...]
    forecasts: tuple[Forecast, ...]
    static: StaticForecast
    fitted: FittedPolicy | None = None
    cautions: tuple[str, ...] = ()
    looks: float = 0.0


def plan_job(spec: JobSpec, rows: Iterable[Any] | None = None) -> JobPlan:
    """Plan a job without loading a model or spending anything. Raises what `prepare` and the allocation raise."""
    prepared = prepare(spec, rows)
    costs = build_costs(prepared)
    policy, looks = build_policy(prepared, costs), looks_cost(prepared)
    return JobPlan(
        spec=spec,
        prompts=len(prepared.dataset.prompts),
        set_aside=len(prepared.dataset.set_aside),
        prompt_tokens={name: float(counts.mean()) for name, counts in prepared.prompt_tokens.items()},
        purchases=_purchases(prepared, costs),
        forecasts=_forecasts(policy, spec.budget, looks),
        static=forecast_of_job(prepared, costs),
        fitted=prepared.fitted,
        cautions=job_cautions(prepared),
        looks=looks,
    )


def _forecasts(policy: Allocation, budget: float, looks: float) -> tuple[Forecast, ...]:
    """The policy's forecasts; what looks at the prompts cost comes first and buys no candidate."""
    budgets = [budget * multiple for multiple in BUDGET_MULTIPLES]
    said = policy.forecast([max(0.0, one - looks) for one in budgets])
    # None at all where the policy makes no forecast.
    return tuple(replace(one, budget=whole, spent=one.spent + looks) for one, whole in zip(said, budgets, strict=False))


def render(plan: JobPlan) -> RenderableType:
    """The plan for people."""
    spec, unit = plan.spec, plan.spec.unit.value
    tokens = ", ".join(f"{count(round(mean))} as {name} reads them" for name, mean in plan.prompt_tokens.items())
    head = [
        f"{several(plan.prompts, 'prompt')}, {several(plan.set_aside, 'row')} set aside; mean prompt tokens: {tokens}",
        f"budget {amount(spec.budget, unit)}, {amount(spec.budget / plan.prompts, unit)} a prompt",
        *([f"of it the prompts' hidden states: {amount(plan.looks, unit)}"] if plan.looks > 0.0 else []),
        *_fitted_lines(plan),
        *(f"caution: {caution}" for caution in plan.cautions),
        _lengths_line(plan),
    ]
    return Group(
        *map(safe, head), Text(), _purchase_table(plan), Text(), _forecast_table(plan), safe(_static_line(plan))
    )


def _fitted_lines(plan: JobPlan) -> list[str]:
    """Which fitted policy the forecast rests on, and which of the job's arms it does not know."""
    if plan.fitted is None:
        return []
    on, arms = plan.fitted.fitted_on, plan.spec.arms
    named = {arm.name: arm.name if plan.fitted.knows(arm) else f"{arm.name} (as {arm.policy})" for arm in arms}
    strange = [arm.name for arm in arms if plan.fitted.arm(arm) is None]
    known = [text for name, text in named.items() if name not in strange]
    rest = f"; not {', '.join(strange)}, which start from nothing" if strange else ""
    source = f"{several(on.get('prompts', 0), 'prompt')} of {', '.join(map(str, on.get('pools', ())))}"
    return [f"fitted policy {plan.spec.fitted}: {source}; it knows {', '.join(known)}{rest}"]


def _lengths_line(plan: JobPlan) -> str:
    lengths = plan.fitted.lengths(plan.spec.arms) if plan.fitted is not None else {}
    known = [f"{name} {count(round(tokens))} tokens" for name, tokens in lengths.items()]
    guess = f"{FIRST_GUESS_TOKENS:.0f} tokens, or max_tokens if less"
    if len(lengths) < len(plan.spec.arms):
        known.append(f"of other arms {guess}" if lengths else guess)
    return f"until some are seen, responses are taken to have {', '.join(known)}"


def _purchases(prepared: Prepared, costs: ExpectedCosts) -> tuple[PurchaseCost, ...]:
    everyone = np.arange(len(prepared.dataset.prompts), dtype=np.int64)
    rows: list[PurchaseCost] = []
    for arm in prepared.spec.arms:
        for n in arm.amounts:
            cost = np.sort(costs.predict(everyone, arm.name, n))
            affordable = int(np.searchsorted(np.cumsum(cost), prepared.spec.budget, side="right"))
            rows.append(PurchaseCost(arm.name, n, float(cost.mean()), float(cost[0]), float(cost[-1]), affordable))
    return tuple(rows)


def _purchase_table(plan: JobPlan) -> Table:
    unit = plan.spec.unit.value
    table = Table(title="What one purchase is expected to cost", title_justify="left")
    for heading in ("arm", "n", "mean", "least", "most", "of all prompts, the budget buys it for"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for row in plan.purchases:
        covered = f"{row.affordable:,} ({percent(row.affordable / plan.prompts)})"
        costs = (amount(value, unit) for value in (row.mean, row.least, row.most))
        table.add_row(safe(row.arm), str(row.n), *costs, covered)
    return table


def _forecast_table(plan: JobPlan) -> RenderableType:
    unit, objective = plan.spec.unit.value, plan.spec.objective
    if not plan.forecasts:
        return safe(
            f"The allocation policy {plan.spec.allocation} makes no forecast of {objective} before it starts. "
            "allocation.policy=price forecasts."
        )
    table = Table(title=f"Forecast by the allocation policy {plan.spec.allocation}", title_justify="left")
    for heading in ("budget", "", "expected spending", f"expected {objective}", "90% interval"):
        table.add_column(heading, justify="right")
    for forecast in plan.forecasts:
        table.add_row(
            f"{forecast.budget / plan.spec.budget:g}x",
            amount(forecast.budget, unit),
            amount(forecast.spent, unit),
            percent(forecast.value),
            f"{percent(forecast.low)} to {percent(forecast.high)}",
        )
    return table


def _static_line(plan: JobPlan) -> str:
    """What one purchase a prompt would reach, what one more would cost then, and how near that is to the best."""
    static, unit = plan.static, plan.spec.unit.value
    margin = f"one prompt more would cost {amount(1.0 / static.price, unit)}" if static.price > 0 else "no more to buy"
    return (
        f"static plan, one purchase a prompt: expected {plan.spec.objective} {percent(static.value)} for "
        f"{amount(static.spent, unit)}, {margin}; at most {100 * static.shortfall:.2g}% from optimal"
    )
