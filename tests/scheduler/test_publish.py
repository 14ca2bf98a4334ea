"""Outputs behind a URL: what is published, who may go on from it, and what a lost machine costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow.parquet as pq
import pytest
import yaml
from test_recovery import BUDGET, PROMPTS, await_events, events_in, launch, results, write_job
from test_solve import config, rows

import apportion
from apportion.configs.build import load_job
from apportion.errors import ConfigError, RunDirectoryError
from apportion.scheduler.publish import Publisher, run_folder
from apportion.scheduler.solve import run_job

FILES = {
    "config.yaml", "dataset.json", "journal.sqlite", "results.jsonl", "results.parquet", "candidates.parquet",
    "set_aside.jsonl", "report.html", "summary.json", "published.json",
}  # fmt: skip


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store in memory, and a machine of one's own."""
    monkeypatch.setenv("APPORTION_RUNS", str(tmp_path / "machine1"))
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


class Bucketed(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A store that, like those behind S3, makes a bucket for a folder, and is asked for none."""

    protocol = ("az", "abfs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("az:/").rstrip("/")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError(f"{path} was to be made")

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())


def machine(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on at another machine."""
    monkeypatch.setenv("APPORTION_RUNS", str(tmp_path / f"machine{number}"))


def change_lease(folder: Path, **changes: Any) -> None:
    lease = json.loads((folder / "published.json").read_text())
    (folder / "published.json").write_text(json.dumps({**lease, **changes}))


@pytest.mark.parametrize("text", ["often", "-1", "nan", "inf"])
def test_a_time_between_publications_that_is_none_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPORTION_PUBLISH_SECONDS", text)
    with pytest.raises(ConfigError, match=f"APPORTION_PUBLISH_SECONDS is '{text}', but must be a number of seconds"):
        Publisher("memory://runs/math", tmp_path)


def test_a_path_stays_and_every_url_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert run_folder("runs/math") == (Path("runs/math"), None)
    folder, url = run_folder("s3://bucket/runs/math/")
    assert (folder.parent, url) == (tmp_path / "machine1", "s3://bucket/runs/math")
    assert folder == run_folder("s3://bucket/runs/math")[0] != run_folder("s3://other/runs/math")[0]
    assert folder.name.startswith("math-")


def test_no_bucket_is_made_for_an_output() -> None:
    fsspec.register_implementation("az", Bucketed, clobber=True)
    (result,) = apportion.solve(rows(1), config(output="az://bucket/run"))
    assert result.answer is not None
    assert {name.rpartition("/")[2] for name in Bucketed.store} == FILES


def test_a_finished_job_is_published_whole_and_is_complete_on_every_machine(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config(output="memory://bucket/run")
    first = {result.prompt_id: result for result in apportion.solve(rows(8), job)}
    assert {Path(path).name for path in memory.ls("/bucket/run", detail=False)} == FILES
    with memory.open("/bucket/run/results.parquet") as stream:
        assert {row["prompt_id"]: row["answer"] for row in pq.read_table(stream).to_pylist()} == {
            name: result.answer for name, result in first.items()
        }
    summary = json.loads(memory.cat("/bucket/run/summary.json"))
    machine(2, tmp_path, monkeypatch)
    assert run_job(load_job(job, rows_given=True), rows=rows(8)) == summary
    assert {result.prompt_id: result for result in apportion.solve(rows(8), job)} == first
    assert json.loads(memory.cat("/bucket/run/summary.json")) == summary
    with pytest.raises(RunDirectoryError, match=r"budget\.amount"):
        next(apportion.solve(rows(8), job, ["budget.amount=19999"]))


def test_another_machine_goes_on_from_what_a_dead_one_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPORTION_PUBLISH_SECONDS", "0.05")
    remote, url = tmp_path / "remote", f"file://{tmp_path}/remote"
    # Slow enough to be published from before it is done.
    fake = {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.05, "jitter": 2.0}}
    job = write_job(tmp_path, output=url, models={"small": fake, "prm": {**fake, "role": "scorer"}})
    folder = run_folder(url)[0]
    running = launch(job)
    await_events(running, remote / "journal.sqlite", 30)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (remote / "summary.json").exists()
    published = results(remote)
    with sqlite3.connect(remote / "journal.sqlite") as db:
        asked = {int(request.partition(".")[0]) for (request,) in db.execute("SELECT request FROM events")}
    assert {int(row["prompt_id"][1:]) for row in published} <= asked
    machine(2, tmp_path, monkeypatch)
    refused = launch(job)
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "wait for it, choose another output" in " ".join(output.split())
    change_lease(remote, at=time.time() - 3600.0)
    resumed = launch(job)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    # What was published stands, and nothing is answered twice.
    assert sorted(row["prompt_id"] for row in results(remote)) == sorted(f"q{i}" for i in range(PROMPTS))
    assert all(row in results(remote) for row in published)
    summary = json.loads((remote / "summary.json").read_text())
    assert summary["taken_over"] == 1
    assert summary["budget"]["spent"] <= BUDGET
    # The first machine comes back with work of its own: it is put aside, and what is published stands.
    machine(1, tmp_path, monkeypatch)
    assert events_in(folder / "journal.sqlite") > 0
    back = launch(job)
    output, _ = back.communicate(timeout=60)
    assert back.returncode == 0, output
    assert results(folder) == results(remote)
    (aside,) = folder.glob("superseded-*")
    assert events_in(aside / "journal.sqlite") > 0


def test_the_same_machine_goes_on_from_its_own_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_PUBLISH_SECONDS", "1000")
    url = f"file://{tmp_path}/remote"
    job = write_job(tmp_path, output=url)
    folder = run_folder(url)[0]
    running = launch(job)
    await_events(running, folder / "journal.sqlite", 40)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "remote" / "journal.sqlite").exists()
    assert launch(job).wait(timeout=120) == 0
    summary = json.loads((tmp_path / "remote" / "summary.json").read_text())
    assert "taken_over" not in summary
    assert (tmp_path / "remote" / "journal.sqlite").read_bytes()[:15] == b"SQLite format 3"


def test_another_machine_goes_on_at_once_where_the_first_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPORTION_PUBLISH_SECONDS", "1000")
    remote, url = tmp_path / "remote", f"file://{tmp_path}/remote"
    fake = {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.05}}
    job = write_job(tmp_path, output=url, models={"small": fake, "prm": {**fake, "role": "scorer"}})
    folder = run_folder(url)[0]
    running = launch(job)
    await_events(running, folder / "journal.sqlite", 40)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 130
    before = events_in(folder / "journal.sqlite")
    assert events_in(remote / "journal.sqlite") == before
    machine(2, tmp_path, monkeypatch)
    resumed = launch(job)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    summary = json.loads((remote / "summary.json").read_text())
    assert "taken_over" not in summary
    assert events_in(remote / "journal.sqlite") > before
    assert len(results(remote)) == PROMPTS


def test_a_job_that_was_taken_over_stops(tmp_path: Path) -> None:
    folder, url = run_folder(f"file://{tmp_path}/remote")
    assert url is not None

    def work() -> None:
        with Publisher(url, folder, 0.01) as one:
            change_lease(tmp_path / "remote", holder="another", host="elsewhere")
            while True:
                one.check()
                time.sleep(0.01)

    with pytest.raises(RunDirectoryError, match="taken over by a job on elsewhere"):
        work()


def test_a_store_that_is_gone_for_a_while_does_not_stop_the_job(tmp_path: Path) -> None:
    folder, url = run_folder(f"file://{tmp_path}/remote")
    assert url is not None
    with Publisher(url, folder, 0.01) as one:
        shutil.rmtree(tmp_path / "remote")
        (tmp_path / "remote").write_text("in the way")
        time.sleep(0.1)
        one.check()
        (tmp_path / "remote").unlink()
        (folder / "results.jsonl").write_text('{"prompt_id": "a"}\n')
    assert results(tmp_path / "remote") == [{"prompt_id": "a"}]


def test_what_cannot_be_used_is_named_before_anything_is_spent(tmp_path: Path, memory: Any) -> None:
    with pytest.raises(ConfigError, match="nowhere://x cannot be used"):
        next(apportion.solve(rows(2), config(output="nowhere://x")))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be written to or read"):
        next(apportion.solve(rows(2), config(output=f"file://{tmp_path}/file/run")))
    memory.pipe("/mine/config.yaml", yaml.safe_dump({"a": 1}).encode())
    with pytest.raises(RunDirectoryError, match=r"holds config.yaml, which no job published"):
        next(apportion.solve(rows(2), config(output="memory://mine")))
    assert memory.ls("/mine", detail=False) == ["/mine/config.yaml"]
