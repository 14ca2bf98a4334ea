"""A disk that is full or fails: what cannot be written is named, the journal is kept, and the job goes on later."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from apportion.errors import JournalError, RunDirectoryError
from apportion.scheduler import outputs
from apportion.scheduler.events import Failed, RequestId
from apportion.scheduler.journal import Journal
from apportion.scheduler.outputs import RunDirectory

FULL = r"journal\.sqlite cannot be written or read \(database or disk is full\).*Free space there and run the same"


def failed(at: int) -> Failed:
    return Failed(RequestId(at, 0, 0, 0), "x" * 3000)


def fill(journal: Journal, pages: int = 12) -> None:
    """Let the file grow no further, as on a full disk."""
    journal._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_told_and_what_was_written_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with Journal(file, {}) as journal:
        fill(journal)
        kept = 0
        with suppress(JournalError):
            while True:
                journal.append([failed(kept)])
                kept += 1
        with pytest.raises(JournalError, match=FULL):
            journal.append([failed(kept)])
    with Journal(file, {}) as journal:
        assert list(journal.events()) == [failed(at) for at in range(kept)]
        journal.append([failed(kept)])
        assert len(journal) == kept + 1


def test_a_full_disk_is_no_reason_to_move_the_journal_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(sqlite3.Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR | 5 << 8
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(path, factory=Full, **options))
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path / "journal.sqlite", {})
    assert "(disk I/O error): its disk is full or fails. Free space" in str(caught.value)
    assert "move it away" not in str(caught.value)


def test_a_place_where_no_file_can_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"unable to open database file\)\. See that the file can be written"):
        Journal(tmp_path / "gone" / "journal.sqlite", {})


def test_a_damaged_journal_is_not_to_be_moved_away(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with Journal(file, {}) as journal:
        journal.append([failed(at) for at in range(50)])
    data = bytearray(file.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(JournalError, match=r"is damaged .*restore it from a copy, or choose another output"):
        list(Journal(file, {}).events())


@pytest.mark.parametrize("step", ["set_aside", "finish"])
def test_other_files_of_a_run_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    message = r"output: .* cannot be written \(\[Errno 28\] No space left on device\); free space there, or make it"
    with RunDirectory(tmp_path, {"seed": 1}, "f1") as directory:
        monkeypatch.setattr(outputs, "write_whole", full)
        with pytest.raises(RunDirectoryError, match=message):
            directory.set_aside([]) if step == "set_aside" else directory.finish({}, "page")
    assert not (tmp_path / "summary.json").exists(), "the job is not done"
