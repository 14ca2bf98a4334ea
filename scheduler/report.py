"""report.html: what a job came to, on one page that needs nothing else.

Pure. Everything that a dataset or a model wrote is escaped, and long texts are cut.
"""

from __future__ import annotations

import heapq
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apportion.costs import Unit
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.results import PromptResult
from apportion.scheduler.summary import ARM, DIFFICULTY, arm_rows, difficulty_rows, spent_cells, totals
from apportion.scheduler.terminal import amount, percent, printable

MOST_ROWS = 20
"""Of prompts and rows that are shown one by one: a page to read, where results.jsonl has all."""
MOST_CHARACTERS = 300
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{padding:.2rem .8rem;text-align:right;"
    "border-bottom:1px solid #ddd;white-space:pre-wrap}th:first-child,td:first-child{text-align:left}"
    "pre{background:#f6f6f6;padding:1rem;overflow:auto}"
)
_LATER = "<!-- what the responses came to -->"
"""Where a page takes more lines. No text of others can hold it: theirs is escaped."""

Cells = Sequence[object]


def report(
    summary: Mapping[str, Any], results: Sequence[PromptResult], set_aside: Sequence[SetAside], config: str
) -> str:
    """The page: totals, what was spent on what, the dearest prompts, those that failed, rows set aside, the config."""
    unit = Unit(summary["budget"]["unit"])
    dearest = heapq.nsmallest(MOST_ROWS, results, key=lambda one: (-one.spent.of(unit), one.index))
    failed = [one for one in results if one.error is not None][:MOST_ROWS]
    parts = [
        *_paragraphs(totals(summary)),
        _LATER,
        _table("By estimated difficulty", DIFFICULTY, difficulty_rows(summary)),
        _table("By arm", ARM, arm_rows(summary)),
        _table("By model", SPENT, _spent(summary, summary["by_model"])),
        _table("By kind of work", SPENT, _spent(summary, summary["by_kind"])),
        _table("Why buying stopped", ("reason", "prompts"), summary["by_reason"].items()),
        _table(f"Dearest prompts ({len(dearest)} of {len(results):,})", PROMPT, (_row(one, unit) for one in dearest)),
        _table("Failed prompts", ("prompt", "error"), ((one.prompt_id, one.error) for one in failed)),
        _table("Rows set aside", ("line", "id", "reason"), ((r.line, r.id, r.reason) for r in set_aside[:MOST_ROWS])),
        f"<h2>Config</h2><pre>{html.escape(printable(config))}</pre>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>apportion</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>apportion</h1>\n{body}\n</body></html>\n"
    )


def add_lines(page: str, lines: Iterable[str]) -> str:
    """A page of `report` with more lines after its totals: what is known only when all candidates are written."""
    return page.replace(_LATER, "\n".join(_paragraphs(lines)), 1)


SPENT = ("", "tokens", "spent", "share")
PROMPT = ("prompt", "answer", "right", "confidence", "pass@1", "candidates", "spent")


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    return (f"<p>{_text(line)}</p>" for line in lines)


def _spent(summary: Mapping[str, Any], costs: Mapping[str, Mapping[str, float]]) -> Iterable[Cells]:
    return ((name, *spent_cells(summary, cost)) for name, cost in costs.items())


def _row(one: PromptResult, unit: Unit) -> Cells:
    right = "-" if one.correct is None else "yes" if one.correct else "no"
    shares = percent(one.confidence), percent(one.difficulty)
    return one.prompt_id, one.answer, right, *shares, one.candidates, amount(one.spent.of(unit), unit)


def _table(title: str, headings: Sequence[str], rows: Iterable[Cells]) -> str:
    """A table with its title; nothing where it has no rows."""
    lines = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return ""
    head = "<tr>" + "".join(f"<th>{_text(heading)}</th>" for heading in headings) + "</tr>"
    return f"<h2>{_text(title)}</h2>\n<table>{head}\n" + "\n".join(lines) + "</table>"


def _text(value: object) -> str:
    text = "-" if value is None else str(value)
    cut = text[:MOST_CHARACTERS] + ("…" if len(text) > MOST_CHARACTERS else "")
    return html.escape(printable(cut))
