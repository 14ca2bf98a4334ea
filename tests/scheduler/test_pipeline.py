"""`apportion.solve_dataset` between a read and a write on Ray, with two CPUs for everything."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="Ray Data needs pandas: pip install 'ray[data]'")

import pyarrow as pa
import pyarrow.parquet as pq
from test_ray_job import descendants
from test_recovery import await_events, events_in, results

import apportion
from apportion.errors import BudgetError, ConfigError, DataError, RunDirectoryError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

UNHURRIED = 0.1
"""Seconds of a request in jobs that something happens to: long enough that they are not done before."""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


def config(latency: float = 0.02, **changes: Any) -> dict[str, Any]:
    """A policy and a scorer that together take both CPUs."""
    arm = {"policy": "small", "verifier": "prm", "select": "weighted", "max_tokens": 64, "step_separator": "\n"}
    fake = {"engine": "fake", "model": "fake", "engine_args": {"latency": latency, "jitter": 2.0}, "max_batch": 8}
    return {
        "dataset": {"prompt": "q", "id": "id", "reference": "a"},
        "budget": {"amount": 60_000, "unit": "tokens"},
        "models": {"small": fake, "prm": {**fake, "role": "scorer"}},
        "arms": {"vote": {"strategy": "best_of_n", "n": [1, 2, 4, 8], **arm}},
        "answer": {"kind": "number"},
        **changes,
    }


def make_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"q": f"question {i} p=0.{5 + i % 5} answer={i + 10}", "id": f"q{i}", "a": i + 10, "note": {"n": [i]}}
        for i in range(count)
    ]


def write_parquet(folder: Path, rows: list[dict[str, Any]], files: int = 3) -> str:
    folder.mkdir()
    for number in range(files):
        pq.write_table(pa.Table.from_pylist(rows[number::files]), folder / f"{number}.parquet")
    return str(folder)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["id"] for row in rows)


def test_a_pipeline_reads_solves_filters_and_writes(ray: Any, tmp_path: Path) -> None:
    rows = make_rows(80)
    rows[5]["q"] = None
    seen = tmp_path / "read"

    def touch(table: pa.Table) -> pa.Table:
        seen.touch()
        return table

    ds = ray.data.read_parquet(write_parquet(tmp_path / "in", rows))
    solved = apportion.solve_dataset(ds.map_batches(touch, batch_format="pyarrow"), config())
    right = solved.filter(lambda row: bool(row["correct"]))
    assert not seen.exists(), "nothing runs before it is consumed"
    right.write_parquet(str(tmp_path / "out"))
    assert seen.exists()
    written = pq.read_table(tmp_path / "out").to_pylist()
    assert 40 < len(written) < 80
    assert all(row["answer"] == str(row["a"]) and row["note"] == {"n": [row["a"] - 10]} for row in written)
    # Again, from the run directory: the same answers, and the row that could not be asked.
    everything = solved.take_all()
    assert ids(everything) == ids(rows)
    assert {row["id"]: row["response"] for row in everything if row["correct"]} == {
        row["id"]: row["response"] for row in written
    }
    assert sum(row["spent"]["tokens"] for row in everything if row["spent"] is not None) <= 60_000
    aside = [row for row in everything if row["reason"] == "set_aside"]
    assert [(row["id"], row["prompt_id"], row["answer"]) for row in aside] == [("q5", "q5", None)]
    assert "no prompt in column 'q'" in aside[0]["error"]
    # So that a filter on these need not ask for null.
    assert (aside[0]["confidence"], aside[0]["candidates"], aside[0]["spent"]) == (0.0, 0, None)


@pytest.mark.parametrize("page", ["README.md", "docs/pipelines.md"])
def test_the_pipeline_of_the_pages_runs_on_rows_with_answers_of_which_one_is_bad(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    text = (Path(__file__).parents[2] / page).read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "solve_dataset" in block]
    rows = [{"q": row["q"], "id": row["id"], "answer": row["a"]} for row in make_rows(12)]
    rows[3]["q"] = ""
    write_parquet(tmp_path / "problems", rows)
    job = config(output="run", dataset={"prompt": "q", "id": "id", "reference": "answer"})
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    monkeypatch.chdir(tmp_path)
    exec(code.replace("s3://bucket", str(tmp_path)), {"ray": ray, "apportion": apportion})
    answered = pq.read_table(tmp_path / "answered").to_pylist()
    sure = {row["prompt_id"] for row in results(tmp_path / "run") if row["confidence"] > 0.8}
    assert sure
    assert {row["id"] for row in answered} == sure
    assert {"answer", "result_answer", "result_confidence"} <= answered[0].keys()


def test_rows_leave_while_the_job_runs_and_its_output_may_be_a_url(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPORTION_RUNS", str(tmp_path / "runs"))
    run = tmp_path / "run"
    job = config(UNHURRIED, output=f"file://{run}", cluster={"address": "inline"}, execution={"in_flight": 2})

    def look(table: pa.Table) -> pa.Table:
        return table.append_column("ended", pa.array([(run / "summary.json").exists()] * table.num_rows))

    solved = apportion.solve_dataset(ray.data.from_items(make_rows(64)), job, prefix="its_")
    rows = solved.map_batches(look, batch_format="pyarrow", batch_size=None).take_all()
    assert ids(rows) == ids(make_rows(64))
    assert not all(row["ended"] for row in rows)
    assert {row["its_prompt_id"]: row["its_answer"] for row in rows} == {
        row["prompt_id"]: row["answer"] for row in results(run)
    }


def actors_of_the_job() -> list[int]:
    return [pid for pid, name in descendants(os.getpid()).items() if "JobActor" in name and "ray::" in name]


def test_a_killed_job_goes_on_and_no_row_is_lost_or_doubled(ray: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    killed: list[int] = []

    def kill() -> None:
        while events_in(run / "journal.sqlite") < 30:
            time.sleep(0.01)
        for pid in actors_of_the_job():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    solved = apportion.solve_dataset(ray.data.from_items(make_rows(60)), config(UNHURRIED, output=str(run)))
    rows = solved.take_all()
    killer.join()
    assert killed
    assert ids(rows) == ids(make_rows(60))
    assert {row["id"]: row["response"] for row in rows} == {row["prompt_id"]: row["response"] for row in results(run)}
    spent = sum(row["spent"]["tokens"] for row in rows)
    summary = json.loads((run / "summary.json").read_text())
    assert spent == pytest.approx(summary["budget"]["spent"])
    assert summary["budget"]["spent"] <= 60_000


PROGRAM = """
import json, sys
import ray
import apportion
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
rows, config = json.load(open(sys.argv[1]))
apportion.solve_dataset(ray.data.from_items(rows), config).write_parquet(sys.argv[2])
"""


UNTIL_GONE = """
import os, time
from test_ray_job import descendants
while any("ray::JobActor" in name for name in descendants(os.getpid()).values()):
    time.sleep(0.1)
time.sleep(2.0)  # what Ray has to say of it takes a moment
"""


def test_a_program_that_was_killed_resumes_in_another(ray: Any, tmp_path: Path) -> None:
    job = config(UNHURRIED, output=str(tmp_path / "run"))
    (tmp_path / "job.json").write_text(json.dumps([make_rows(60), job]))
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [sys.executable, "program.py", "job.json", "out"]
    program = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    await_events(program, tmp_path / "run" / "journal.sqlite", 30)
    program.kill()
    program.communicate()
    before = {row["prompt_id"]: row["response"] for row in results(tmp_path / "run")}
    rows = apportion.solve_dataset(ray.data.from_items(make_rows(60)), job).take_all()
    assert ids(rows) == ids(make_rows(60))
    assert before.items() <= {row["id"]: row["response"] for row in rows}.items()
    with pytest.raises(RunDirectoryError, match="begun on other prompts"):
        apportion.solve_dataset(ray.data.from_items(make_rows(61)), job).take_all()


def test_the_process_of_a_job_that_is_done_ends_in_silence(tmp_path: Path) -> None:
    """Ray tells the whole program of a process that ends by itself, as of one that memory ran out for."""
    (tmp_path / "job.json").write_text(json.dumps([make_rows(8), config(output=str(tmp_path / "run"))]))
    (tmp_path / "program.py").write_text(PROGRAM + UNTIL_GONE)
    arguments, environment = [sys.executable, "program.py", "job.json", "out"], dict(os.environ)
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    program = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert program.returncode == 0, program.stderr
    assert len(results(tmp_path / "run")) == 8
    for word in ("died", "detached actor"):
        assert word not in program.stdout + program.stderr


def test_what_is_wrong_is_named(ray: Any) -> None:
    ds = ray.data.from_items(make_rows(4))
    with pytest.raises(ConfigError, match="did you mean 'budget'"):
        apportion.solve_dataset(ds, config(budgt=1))
    with pytest.raises(ConfigError, match=r"needs a ray.data.Dataset; rows in memory go to apportion\.solve"):
        apportion.solve_dataset(make_rows(4), config())  # type: ignore[arg-type]
    answered = ds.map(lambda row: {**row, "answer": 1})
    with pytest.raises(ConfigError, match="results would be called: answer"):
        apportion.solve_dataset(answered, config()).take_all()
    with pytest.raises(ConfigError, match="results would be called: answer"):
        apportion.solve_dataset(answered.materialize(), config())
    with pytest.raises(BudgetError, match="less than the cheapest purchase"):
        apportion.solve_dataset(ds, config(), ["budget.amount=5"]).take_all()
    with pytest.raises(DataError, match="no row has a column 'question'; known: a, id, note, q"):
        apportion.solve_dataset(ds, config(), ["dataset.prompt=question"]).take_all()
