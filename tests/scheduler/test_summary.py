"""summary.json and the closing tables."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from apportion.costs import ZERO_COST, Cost, Unit
from apportion.difficulty.bins import band_of
from apportion.scheduler.results import PromptResult
from apportion.scheduler.summary import build_summary, closing
from apportion.types import Purchase


def result(index: int, **changes: Any) -> PromptResult:
    values: dict[str, Any] = {
        "prompt_id": f"q{index}",
        "index": index,
        "answer": "4",
        "response": "Answer: 4",
        "confidence": 0.5,
        "difficulty": 0.7,
        "spent": Cost(tokens=100, flops=1e6, samples=2),
        "purchases": (Purchase("vote", 2),),
        "candidates": 2,
        "reason": "not worth the price",
        "correct": True,
    }
    return PromptResult(**{**values, **changes})


def summary(results: list[PromptResult], **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "set_aside": 2,
        "budget": 1000.0,
        "unit": Unit.TOKENS,
        "total": Cost(tokens=800, flops=8e6, gpu_seconds=1.5, dollars=0.25, samples=12),
        "by_arm": {"vote": Cost(tokens=300, samples=4), "beam": Cost(tokens=500, samples=8)},
        "by_model": {"small": Cost(tokens=600), "prm": Cost(tokens=200)},
        "by_kind": {"generate": Cost(tokens=600), "score": Cost(tokens=200)},
        "wall_s": 12.5,
    }
    return build_summary(results, **{**values, **changes})


RESULTS = [
    result(0, difficulty=0.05, correct=False, purchases=(Purchase("vote", 2), Purchase("beam", 8)), candidates=10),
    result(1, difficulty=0.3, answer=None, correct=False, error="the engine failed", reason="failed"),
    result(2, difficulty=0.1, spent=Cost(tokens=300)),
    result(3, difficulty=1.0),
]


def test_the_summary_counts_everything() -> None:
    whole = summary(RESULTS)
    assert whole["prompts"] == 4
    assert whole["answered"] == 3
    assert whole["failed"] == 1
    assert whole["set_aside"] == 2
    assert whole["accuracy"] == 0.5, "an unanswered prompt with a reference is wrong"
    assert whole["wall_s"] == 12.5
    assert whole["budget"] == {"amount": 1000.0, "unit": "tokens", "spent": 800.0, "overrun": 0.0}
    assert whole["spent"] == {"tokens": 800, "flops": 8e6, "gpu_seconds": 1.5, "dollars": 0.25, "samples": 12}
    assert whole["by_arm"]["vote"]["purchases"] == 4
    assert whole["by_arm"]["vote"]["bought"] == 8
    assert whole["by_arm"]["beam"] == {"purchases": 1, "bought": 8, **Cost(tokens=500, samples=8).as_dict()}
    assert whole["by_model"]["prm"]["tokens"] == 200
    assert whole["by_kind"]["score"]["tokens"] == 200
    assert whole["by_reason"] == {"not worth the price": 3, "failed": 1}
    assert json.loads(json.dumps(whole)) == whole


def test_the_first_error_is_kept() -> None:
    assert summary(RESULTS)["first_error"] == "the engine failed"
    assert summary([result(0)])["first_error"] is None


def test_difficulty_bands_meet_without_overlap() -> None:
    bands = summary(RESULTS)["by_difficulty"]
    assert {name: row["prompts"] for name, row in bands.items()} == {"hard": 1, "medium": 2, "easy": 1}
    assert bands["medium"]["accuracy"] == 0.5
    assert bands["medium"]["mean_cost"] == 200
    assert bands["hard"]["mean_candidates"] == 10
    assert [band_of(value) for value in (0.0, 0.0999, 0.1, 0.4999, 0.5, 1.0)] == [
        "hard",
        "hard",
        "medium",
        "medium",
        "easy",
        "easy",
    ]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_every_prompt_is_in_one_band(difficulties: list[float]) -> None:
    bands = summary([result(i, difficulty=value) for i, value in enumerate(difficulties)])["by_difficulty"]
    assert sum(row["prompts"] for row in bands.values()) == len(difficulties)


def test_without_references_accuracy_is_null() -> None:
    whole = summary([result(0, correct=None)])
    assert whole["accuracy"] is None
    assert whole["scored"] == 0
    assert whole["by_difficulty"]["easy"]["accuracy"] is None


def test_some_references_are_enough() -> None:
    whole = summary([result(0, correct=None), result(1), result(2, correct=False)])
    assert (whole["accuracy"], whole["scored"]) == (0.5, 2)


def shown(whole: dict[str, Any]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(closing(whole, "runs/x"))
    return stream.getvalue()


def test_the_closing_tables_are_plain_text_without_a_terminal() -> None:
    text = shown(summary(RESULTS))
    assert "3 of 4 prompts answered, 50.0% of 4 right" in text
    assert "800 of 1,000 tokens spent in 12 s" in text
    assert "2 rows set aside" in text
    assert "1 prompt had a request that failed" in text
    for cell in ("10-50%", "200 tokens", "By arm", "62.5%", "results, candidates and the bill: runs/x"):
        assert cell in text
    assert "\x1b" not in text


def test_a_job_that_bought_nothing_has_tables_too() -> None:
    whole = summary([], total=ZERO_COST, by_arm={}, by_model={}, by_kind={}, set_aside=0)
    assert whole["accuracy"] is None
    assert "0 of 0 prompts answered" in shown(whole)


def test_an_overrun_of_measured_work_is_told() -> None:
    text = shown(summary(RESULTS, unit=Unit.GPU_SECONDS, budget=1.0, overrun=0.5))
    assert "measured work went 0.5 GPU s over the budget" in text


@pytest.mark.parametrize("name", ["[red]arm[/red]", "a[b]"])
def test_a_name_cannot_be_markup(name: str) -> None:
    assert name in shown(summary([result(0)], by_arm={name: Cost(tokens=1)}))
