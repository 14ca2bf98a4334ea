"""Whose a run directory is: nothing that no run wrote is written over, and what was sent is never forgotten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from apportion.errors import RunDirectoryError
from apportion.scheduler.claim import WRITTEN, begins, check_place
from apportion.scheduler.journal import Journal
from apportion.scheduler.outputs import RunDirectory, read_summary

CONFIG: dict[str, Any] = {"seed": 1}


def opened(path: Path, config: Mapping[str, Any] = CONFIG) -> None:
    """What a job does first in its run directory."""
    with RunDirectory(path, config, "f1"):
        pass


def files(path: Path) -> dict[str, bytes]:
    """What a folder holds, but for the lock."""
    return {one.name: one.read_bytes() for one in path.iterdir() if one.name != ".lock"}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_the_users_is_never_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(RunDirectoryError, match=rf"output: .* holds {name}, which no run wrote there.*choose another"):
        opened(tmp_path)
    assert files(tmp_path) == {name: b"mine\n"}


def test_a_recorded_pool_is_called_one(tmp_path: Path) -> None:
    for name in ("candidates.parquet", "prompts.parquet"):
        (tmp_path / name).write_text("recorded")
    with pytest.raises(
        RunDirectoryError, match=r"candidates\.parquet, which no run wrote there \(it is a recorded pool"
    ):
        opened(tmp_path)


def test_other_files_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("{}\n")
    opened(tmp_path)
    assert (tmp_path / "data.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("name", ["candidates.parquet", "results.parquet", "report.html"])
def test_what_came_into_a_directory_that_was_never_used_is_left_alone_too(tmp_path: Path, name: str) -> None:
    opened(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunDirectoryError, match=f"holds {name}"):
        opened(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_config_and_a_dataset_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    mine = {"config.yaml": b"mine: 1\n", "dataset.json": b'{"rows": 3}'}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunDirectoryError, match="belongs to another config"):
        opened(tmp_path)
    assert files(tmp_path) == mine


def test_a_summary_of_somebody_else_is_no_finished_run(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"mine": 1}')
    assert read_summary(tmp_path) is None
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with pytest.raises(RunDirectoryError, match=r"summary\.json is not the summary of a run; choose another output"):
        read_summary(tmp_path)


@pytest.mark.parametrize("written", [["dataset.json"], ["dataset.json", "fitted.json"]])
def test_a_job_that_was_killed_before_it_wrote_its_config_begins_again(tmp_path: Path, written: list[str]) -> None:
    for name in written:
        (tmp_path / name).write_text(json.dumps({"fingerprint": "f0"}))
    opened(tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text()) == {"fingerprint": "f1"}
    assert not (tmp_path / "fitted.json").exists()


def test_a_job_that_was_killed_before_its_first_reply_is_not_forgotten(tmp_path: Path) -> None:
    """What it had sent is charged when it goes on (see `Driver`), so its journal must be there, and its config too."""
    opened(tmp_path)
    with Journal(tmp_path / "journal.sqlite", {"dataset": "f1"}) as journal:
        assert not journal.sending()
    opened(tmp_path)
    with Journal(tmp_path / "journal.sqlite", {"dataset": "f1"}) as journal:
        assert journal.sending(), "that requests were sent is remembered"
    with pytest.raises(RunDirectoryError, match="belongs to another config: seed: 1 there, 2 here"):
        opened(tmp_path, {"seed": 2})


def test_a_job_whose_engines_never_started_leaves_its_directory_free(tmp_path: Path) -> None:
    opened(tmp_path)
    Journal(tmp_path / "journal.sqlite", {"dataset": "f1"}).close()
    opened(tmp_path, {"seed": 2})
    assert (tmp_path / "config.yaml").read_text() == "seed: 2\n"
    assert not (tmp_path / "journal.sqlite").exists()


@pytest.mark.parametrize("sent", [False, True])
def test_looking_writes_nothing(tmp_path: Path, sent: bool) -> None:
    opened(tmp_path)
    with Journal(tmp_path / "journal.sqlite", {"dataset": "f1"}) as journal:
        if sent:
            journal.sending()
    before = files(tmp_path)
    assert begins(tmp_path, CONFIG, "f1", None) is not sent
    assert begins(tmp_path / "new", CONFIG, "f1", None)
    assert files(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "runs" / "x"):
        with pytest.raises(
            RunDirectoryError, match=rf"output: {place} cannot be written \(.*file is no folder\); choose"
        ):
            check_place(place)
    check_place(tmp_path / "not" / "yet")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(RunDirectoryError, match=rf"{tmp_path} is not writable\); make it so, or choose another"):
        check_place(tmp_path / "not" / "yet")
