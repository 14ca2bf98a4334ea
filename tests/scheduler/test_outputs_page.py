"""docs/outputs.md names the columns, keys and files that are written, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fake_job
import pyarrow.parquet as pq
import pytest

from apportion.configs.build import load_job
from apportion.scheduler.calibrate import calibrate
from apportion.scheduler.candidates import CANDIDATE_SCHEMA, RESULT_SCHEMA
from apportion.scheduler.solve import run_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "outputs.md").read_text()
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
CONFIG: dict[str, Any] = {
    **fake_job.CONFIG,
    "dataset": {"prompt": "q", "id": "id", "reference": "a"},
    "output": "run",
    "budget": {"amount": 200, "unit": "samples"},
    "calibration": {"output": "pool", "samples": 2},
}
ROWS = [{"id": f"q{i}", "q": f"question {i} p=0.{i + 1} answer={10 + i}", "a": 10 + i} for i in range(4)]


def tables(text: str) -> list[set[str]]:
    """What stands in the first cells of each table."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = [line.split("|")[1] for line in table.splitlines()[2:]]
        found.append({name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)})
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_and_key_of_a_run_stands_there(here: Path) -> None:
    run_job(load_job(CONFIG, rows_given=True), rows=[*ROWS, {"id": "bad"}])
    files = next(iter(tables(PAGE)))
    assert {file.name for file in (here / "run").iterdir() if not file.name.startswith(".")} == files - {"fitted.json"}
    summary = json.loads((here / "run" / "summary.json").read_text())
    (keys,) = tables(SECTIONS["summary"])
    assert set(summary) == keys - {"hidden_states", "taken_over"}
    aside = json.loads((here / "run" / "set_aside.jsonl").read_text())
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `set_aside.jsonl`")]
    assert all(f"`{key}`" in row for key in aside)
    # Both files of results have the same columns.
    results, _ = tables(SECTIONS["results"])
    assert set(json.loads((here / "run" / "results.jsonl").read_text().splitlines()[0])) == results


def test_every_column_of_results_and_candidates_stands_there() -> None:
    results, _ = tables(SECTIONS["results"])
    assert results == set(RESULT_SCHEMA.names)
    (candidates,) = tables(SECTIONS["candidates"])
    assert candidates == set(CANDIDATE_SCHEMA.names)


def test_every_reason_stands_there() -> None:
    source = "".join(file.read_text() for file in (ROOT / "scheduler").glob("*.py"))
    reasons = set(re.findall(r'_commit\(\w+, "(\w+)"\)', source)) | set(re.findall(r'"reason": "(\w+)"', source))
    assert {"settled", "failed", "set_aside"} <= reasons
    _, named = tables(SECTIONS["results"])
    assert named == reasons


def test_every_file_and_column_of_a_pool_stands_there(here: Path) -> None:
    calibrate(load_job(CONFIG, rows_given=True), rows=ROWS)
    text = SECTIONS["A pool"]
    for file in (here / "pool").iterdir():
        assert f"`{file.name}`" in text or (file.is_dir() and f"`{file.name}/`" in text)
    (columns,) = tables(text)
    assert columns == set(pq.read_schema(here / "pool" / "candidates.parquet").names)
    assert all(f"`{name}`" in text for name in pq.read_schema(here / "pool" / "prompts.parquet").names)
