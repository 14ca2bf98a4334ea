"""report.html: what a person needs, and nothing that a model or a dataset could do to the page."""

from __future__ import annotations

import html
import re
from dataclasses import replace

from apportion.costs import Cost, Unit
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.report import MOST_CHARACTERS, MOST_ROWS, report
from apportion.scheduler.results import PromptResult
from apportion.scheduler.summary import build_summary
from apportion.types import Purchase

COST = Cost(tokens=100.0, flops=2e9)
PLAIN = PromptResult("p0", 0, "42", "is 42", 0.75, 0.6, COST, (Purchase("vote", 2),), 2, "settled", correct=True)


def page(results: list[PromptResult], set_aside: list[SetAside] | None = None, config: str = "seed: 0\n") -> str:
    total = Cost()
    for one in results:
        total = total + one.spent
    summary = build_summary(
        results,
        set_aside=len(set_aside or []),
        budget=1e12,
        unit=Unit.FLOPS,
        total=total,
        by_arm={"vote": total},
        by_model={"small": total},
        by_kind={"generate": total},
        wall_s=3.0,
    )
    return report(summary, results, set_aside or [], config)


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.S)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.S)] for row in rows]


def test_the_page_says_what_was_reached_and_what_it_cost() -> None:
    text = page([PLAIN, replace(PLAIN, prompt_id="p1", index=1, answer="7", correct=False)])
    assert "2 of 2 prompts answered, 50.0% of 2 right" in text
    assert "4.00 GFLOPs of 1.00 TFLOPs spent in 3 s" in text
    rows = cells(text)
    assert ["p0", "42", "yes", "75.0%", "60.0%", "2", "2.00 GFLOPs"] in rows
    assert ["p1", "7", "no", "75.0%", "60.0%", "2", "2.00 GFLOPs"] in rows
    assert ["small", "200", "4.00 GFLOPs", "100.0%"] in rows
    assert ["settled", "2"] in rows
    assert "Failed prompts" not in text
    assert "Rows set aside" not in text


def test_failed_prompts_and_rows_set_aside_stand_there_with_their_reasons() -> None:
    failed = replace(PLAIN, answer=None, error="the replica died")
    text = page([failed], [SetAside(7, None, "broken JSON"), SetAside(9, "q9", "the prompt is empty")])
    rows = cells(text)
    assert ["p0", "the replica died"] in rows
    assert ["7", "-", "broken JSON"] in rows
    assert ["9", "q9", "the prompt is empty"] in rows


def test_the_dearest_prompts_are_shown_and_no_more_than_fit() -> None:
    many = [replace(PLAIN, prompt_id=f"p{i}", index=i, spent=Cost(flops=float(i))) for i in range(3 * MOST_ROWS)]
    shown = [row[0] for row in cells(page(many)) if len(row) == 7 and row[0] != "prompt"]
    assert shown == [f"p{i}" for i in range(3 * MOST_ROWS - 1, 2 * MOST_ROWS - 1, -1)]


def test_what_a_model_or_a_dataset_wrote_is_text_and_nothing_else() -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    text = page([replace(PLAIN, prompt_id=evil, answer=evil, error=evil, reason=evil)], [SetAside(1, evil, evil)], evil)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    long = page([replace(PLAIN, answer="x" * (MOST_CHARACTERS + 1))])
    assert "x" * MOST_CHARACTERS + "…" in long
