"""A job's books, read from the files that it leaves: how far it is, and what does not add up once it has ended."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from apportion.codec import decode_reply


def events_in(folder: Path) -> int:
    """How many events a job's journal holds by now."""
    try:
        with sqlite3.connect(f"file:{folder / 'run' / 'journal.sqlite'}?mode=ro", uri=True, timeout=5) as db:
            return int(db.execute("SELECT COUNT(*) FROM events").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not made yet


def audit(folder: Path, prompts: int) -> tuple[dict[str, Any], list[str]]:
    """A finished job's summary, and what is wrong with its books."""
    faults = []
    run = folder / "run"
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    names = [row["prompt_id"] for row in rows]
    if len(set(names)) != prompts:
        faults.append(f"{prompts - len(set(names))} prompts lost")
    if len(names) != len(set(names)):
        faults.append(f"{len(names) - len(set(names))} prompts answered twice")
    if errors := [row["error"] for row in rows if row["error"] is not None]:
        faults.append(f"{len(errors)} prompts failed, such as: {errors[0]}")
    with sqlite3.connect(run / "journal.sqlite") as db:
        replies = db.execute("SELECT request, body FROM events WHERE kind = 'replied'").fetchall()
    if len({request for request, _ in replies}) != len(replies):
        faults.append("a request was paid for twice")
    usages = [decode_reply(body).usage for _, body in replies]
    tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in usages) + summary["lost"]["tokens"]
    if abs(tokens - summary["spent"]["tokens"]) > 1e-6 * tokens:
        faults.append(f"{summary['spent']['tokens']:.0f} tokens charged, {tokens:.0f} used")
    if summary["budget"]["spent"] > summary["budget"]["amount"]:
        faults.append("over the budget")
    return summary, faults
