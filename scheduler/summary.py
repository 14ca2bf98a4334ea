"""What a job came to: the contents of summary.json, and the tables shown when it ends.

Pure. Every figure counts all work: probes, verifiers, and work that was cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.costs import ZERO_COST, Cost, Unit
from apportion.difficulty.bins import BANDS, band_of
from apportion.difficulty.objectives import Objective
from apportion.policies.registry import STRATEGIES
from apportion.policies.strategy import goes_by_step
from apportion.scheduler.responses import Responses, response_cautions
from apportion.scheduler.results import PromptResult
from apportion.scheduler.terminal import amount, count, duration, percent, safe, several, spending


def build_summary(
    results: Sequence[PromptResult],
    *,
    set_aside: int,
    budget: float,
    unit: Unit,
    total: Cost,
    by_arm: Mapping[str, Cost],
    by_model: Mapping[str, Cost],
    by_kind: Mapping[str, Cost],
    wall_s: float,
    overrun: float = 0.0,
    lost: Cost = ZERO_COST,
    goal: Objective | None = None,
) -> dict[str, Any]:
    """The contents of summary.json, plain data. `total` and the `by_` costs are the ledger's.

    `prompts` counts those that could be answered, `answered` those that have an answer; `accuracy` is over those with
    a reference, an unanswered one being wrong, and null where none has one. `first_error` is null where none failed.
    `lost` is what of `spent` was charged for work that was lost with its replica or driver, and done again.
    `objective` is what was reached of `goal` where that counts candidates, else null. `add_responses` adds the rest.
    """
    bought: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for result in results:
        for purchase in result.purchases:
            bought[purchase.arm] += 1
            samples[purchase.arm] += purchase.n
    arms = {**dict.fromkeys(by_arm), **dict.fromkeys(bought)}
    return {
        "prompts": len(results),
        "answered": sum(result.answer is not None for result in results),
        "set_aside": set_aside,
        "failed": sum(result.error is not None for result in results),
        "first_error": next((result.error for result in results if result.error is not None), None),
        "accuracy": _accuracy(results),
        "objective": None if goal is None else _reached(results, goal),
        "scored": sum(result.correct is not None for result in results),
        "wall_s": wall_s,
        "budget": {"amount": budget, "unit": unit.value, "spent": total.of(unit), "overrun": overrun},
        "spent": total.as_dict(),
        "lost": lost.as_dict(),
        "by_arm": {
            arm: {"purchases": bought[arm], "bought": samples[arm], **by_arm.get(arm, Cost()).as_dict()} for arm in arms
        },
        "by_difficulty": _by_difficulty(results, unit),
        "by_model": {model: cost.as_dict() for model, cost in by_model.items()},
        "by_kind": {kind: cost.as_dict() for kind, cost in by_kind.items()},
        "by_reason": dict(Counter(result.reason for result in results)),
    }


def add_responses(summary: dict[str, Any], responses: Responses, resolved: Mapping[str, Any]) -> list[str]:
    """Add to a summary what the responses of its job came to; `resolved` is the job's config. Returns it in sentences.

    `responses` are their counts, `cautions` what to know before trusting the answers. The `objective` coverage of a job
    without a verifier is what was reached by references, where there are any.
    """
    lines = []
    objective = resolved.get("objective")
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    if name == "coverage" and summary.get("objective") is None:
        summary["objective"] = responses.coverage()
        if summary["objective"] is not None:
            lines.append(_objective_line(summary["objective"], summary["prompts"]))
    counts = summary["responses"] = responses.as_dict()
    kind = resolved.get("answer", {}).get("kind", "number")
    strategies = {arm: row.get("strategy") for arm, row in (resolved.get("arms") or {}).items() if row}
    by_step = [arm for arm, name in strategies.items() if name in STRATEGIES and goes_by_step(STRATEGIES[name])]
    summary["cautions"] = list(response_cautions(counts, kind, by_step))
    return [*lines, *(f"caution: {caution}" for caution in summary["cautions"])]


def closing(summary: Mapping[str, Any], output: str) -> RenderableType:
    """What is shown when a job ends: the totals, by difficulty, by arm, and where the files are."""
    tables = (
        _table("By estimated difficulty", DIFFICULTY, 2, difficulty_rows(summary)),
        Text(),
        _table("By arm", ARM, 1, arm_rows(summary)),
    )
    where = Text(f"results, candidates and the bill: {output}")
    return Group(*map(Text, totals(summary)), Text(), *tables, Text(), where)


def totals(summary: Mapping[str, Any]) -> list[str]:
    """What a job came to, in sentences."""
    budget = summary["budget"]
    unit = budget["unit"]
    line = f"{summary['answered']:,} of {several(summary['prompts'], 'prompt')} answered"
    if summary["accuracy"] is not None:
        line += f", {percent(summary['accuracy'])} of {summary['scored']:,} right"
    lines = [line]
    # A run that is done gives the summary it was left with, which may be of an older version.
    if summary.get("objective") is not None:
        lines.append(_objective_line(summary["objective"], summary["prompts"]))
    lines.append(f"{spending(budget['spent'], budget['amount'], unit)} spent in {duration(summary['wall_s'])}")
    lost = summary["lost"][unit] if "lost" in summary else 0.0
    if lost > 0:
        lines.append(f"work lost with replicas or drivers, charged and done again: {amount(lost, unit)}")
    if budget["overrun"] > 0:
        lines.append(f"measured work went {amount(budget['overrun'], unit)} over the budget")
    if summary["set_aside"]:
        lines.append(f"{several(summary['set_aside'], 'row')} set aside, with reasons, in set_aside.jsonl")
    if summary["failed"]:
        lines.append(f"{several(summary['failed'], 'prompt')} had a request that failed; see error in results.jsonl")
    return lines


DIFFICULTY = ("difficulty", "pass@1", "prompts", "accuracy", "mean cost", "mean candidates")
ARM = ("arm", "purchases", "samples", "tokens", "spent", "share")


def difficulty_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The cells under `DIFFICULTY`."""
    unit = summary["budget"]["unit"]
    for name, row in summary["by_difficulty"].items():
        low, high = row["pass_at_1"]
        filled = row["prompts"] > 0
        yield (
            name,
            f"{100 * low:.0f}-{100 * high:.0f}%",
            f"{row['prompts']:,}",
            percent(row["accuracy"]),
            amount(row["mean_cost"], unit) if filled else "-",
            f"{row['mean_candidates']:.1f}" if filled else "-",
        )


def arm_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The cells under `ARM`."""
    for arm, row in summary["by_arm"].items():
        yield arm, f"{row['purchases']:,}", f"{row['samples']:,.0f}", *spent_cells(summary, row)


def spent_cells(summary: Mapping[str, Any], cost: Mapping[str, float]) -> tuple[str, str, str]:
    """Tokens, the budget's unit, and the share of all that was spent."""
    unit, total = summary["budget"]["unit"], summary["budget"]["spent"]
    return count(cost["tokens"]), amount(cost[unit], unit), percent(cost[unit] / total if total > 0 else 0.0)


def _accuracy(results: Sequence[PromptResult]) -> float | None:
    scored = [result.correct for result in results if result.correct is not None]
    return sum(scored) / len(scored) if scored else None


def _reached(results: Sequence[PromptResult], goal: Objective) -> dict[str, Any] | None:
    """The mean objective, how many prompts have all of it, and how many candidates are accepted, are not, and repeat
    the text of another; None where the candidates were not counted."""
    counts = [
        (len(result.accepted), result.candidates - len(result.accepted) - len(result.repeated), len(result.repeated))
        for result in results
        if result.accepted is not None
    ]
    if not counts:
        return None
    accepted, rejected, repeated = np.array(counts).T
    value = goal.reached(accepted, rejected)
    return {
        "name": goal.name,
        "k": goal.enough,
        "accept": goal.accept,
        "reached": float(value.mean()),
        "whole": int((value >= 1.0).sum()),
        "accepted": int(accepted.sum()),
        "rejected": int(rejected.sum()),
        "repeated": int(repeated.sum()),
    }


def _objective_line(reached: Mapping[str, Any], prompts: int) -> str:
    k, name = reached["k"], reached["name"]
    if reached["accept"] is None:
        return (
            f"{name}: {percent(reached['reached'])} reached, {reached['whole']:,} of "
            f"{several(reached['scored'], 'prompt')} with a reference {'has' if reached['whole'] == 1 else 'have'} "
            f"a right candidate; {several(reached['accepted'], 'candidate')} right and {reached['rejected']:,} wrong"
        )
    repeated = reached.get("repeated", 0)
    beside = f", {repeated:,} repeat{'s' * (repeated == 1)} the text of another" if repeated else ""
    what = {"quota": f"quota of {k:,}", "pairs": f"{k:,} pair{'s' * (k > 1)} a prompt"}.get(name, name)
    return (
        f"{what}: {percent(reached['reached'])} reached, whole for {reached['whole']:,} of "
        f"{several(prompts, 'prompt')}; {several(reached['accepted'], 'candidate')} accepted and "
        f"{reached['rejected']:,} not (score of at least {reached['accept']:g}){beside}"
    )


def _by_difficulty(results: Sequence[PromptResult], unit: Unit) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, low, high in BANDS:
        inside = [result for result in results if band_of(result.difficulty) == name]
        rows[name] = {
            "pass_at_1": [low, high],
            "prompts": len(inside),
            "answered": sum(result.answer is not None for result in inside),
            "accuracy": _accuracy(inside),
            "mean_cost": sum(result.spent.of(unit) for result in inside) / len(inside) if inside else None,
            "mean_candidates": sum(result.candidates for result in inside) / len(inside) if inside else None,
        }
    return rows


def _table(title: str, headings: Sequence[str], words: int, rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first `words` columns are words, the others numbers."""
    table = Table(title=title, title_justify="left")
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at < words else "right")
    for row in rows:
        table.add_row(*map(safe, row))
    return table
