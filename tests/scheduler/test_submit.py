"""What is sent to a cluster, and following a job there over a connection that breaks off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from apportion.errors import SubmissionError
from apportion.scheduler import submit
from apportion.scheduler.submit import RECONNECTS, follow, stop, submit_parcel
from apportion.scheduler.submit_cluster import Cluster, JobState
from apportion.scheduler.submit_config import Parcel


class Connected(Cluster):
    """A cluster whose log is `log`; each connection breaks off after the characters of the next of `breaks`."""

    def __init__(self, log: str = "", breaks: list[int] | None = None) -> None:
        self.url = "http://head:8265"
        self.log = log
        self.breaks = breaks or []
        self.stopped: list[str] = []
        self.never_ends = False
        self.sent: dict[str, Any] = {}

    def state(self, job_id: str) -> JobState:
        status = "RUNNING" if self.breaks or self.never_ends else "SUCCEEDED"
        return JobState(job_id, status, None, 0, 1.0, 2.0, "/out", "job.yaml")

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        end = self.breaks.pop(0) if self.breaks else None
        for character in self.log[:end]:
            yield character
        if end is not None:
            raise SubmissionError("the dashboard stopped answering")

    def stop(self, job_id: str) -> None:
        self.stopped.append(job_id)

    def submit(self, job_id: str, entrypoint: str, runtime_env: Mapping[str, Any], output: str, config: str) -> None:
        wheel, folder = map(Path, runtime_env["py_modules"])
        files = {path.name: path.read_text() for path in folder.iterdir()}
        self.sent = {"id": job_id, "wheel": wheel.name, "package": folder.name, "files": files, **runtime_env}
        assert wheel.is_file()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RECONNECT_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(submit, name, 0.0)


def test_a_job_is_sent_as_a_wheel_and_its_own_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "fitted.json").write_text('{"a": 1}')
    config = {"output": "/out", "arms": {"vote": {"stop": ["ü"]}}}
    cluster = Connected()
    job_id = submit_parcel(cluster, Parcel(config, "my job.yaml", "/out", tmp_path / "fitted.json", None), None)
    assert job_id == cluster.sent["id"]
    assert job_id.startswith("my-job-")
    assert cluster.sent["wheel"].startswith("apportion-")
    assert cluster.sent["package"] == "apportion_job"
    assert "working_dir" not in cluster.sent
    files = cluster.sent["files"]
    assert yaml.safe_load(files["config.yaml"]) == config
    assert json.loads(files["fitted.json"]) == {"a": 1}
    assert json.loads(files["shipped.json"]) is None
    assert "ray[default]" in files["requirements.txt"]


def test_a_folder_is_shipped_where_one_is_named(tmp_path: Path) -> None:
    cluster = Connected()
    submit_parcel(cluster, Parcel({}, "the config", "/out", None, ("data/d.jsonl",)), tmp_path)
    assert cluster.sent["working_dir"] == str(tmp_path)
    assert json.loads(cluster.sent["files"]["shipped.json"]) == ["data/d.jsonl"]
    assert "fitted.json" not in cluster.sent["files"]


@pytest.mark.parametrize("breaks", [[], [3], [0], [0, 0, 4], [5, 5, 2, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_a_log_is_told_once_however_often_the_connection_breaks(breaks: list[int]) -> None:
    written: list[str] = []
    state = follow(Connected("one\ntwo\nend", list(breaks)), "job", written.append)
    assert "".join(written) == "one\ntwo\nend"
    assert state.status == "SUCCEEDED"


def test_a_connection_that_stays_away_is_given_up() -> None:
    with pytest.raises(SubmissionError, match="stopped answering"):
        follow(Connected("log", [2] + [0] * (RECONNECTS + 2)), "job", lambda _: None)


def test_a_job_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def state(job_id: str) -> JobState:
        asked.append(job_id)
        raise SubmissionError(f"no job {job_id!r} on the cluster")

    cluster = Connected()
    monkeypatch.setattr(cluster, "state", state)
    with pytest.raises(SubmissionError, match="no job 'gone'"):
        follow(cluster, "gone", lambda _: None)
    assert asked == ["gone"]


def test_stop_waits_for_the_end_and_says_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Connected()
    assert stop(cluster, "job").ended
    assert cluster.stopped == ["job"]
    cluster.never_ends = True
    monkeypatch.setattr(submit, "STOP_SECONDS", 0)
    monkeypatch.setattr(submit, "_KILLED_SECONDS", 0.05)
    with pytest.raises(SubmissionError, match=r"was asked to stop and is still RUNNING; .*apportion status job"):
        stop(cluster, "job")
