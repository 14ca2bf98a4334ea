"""The journal keeps what it is given, exactly, and refuses what is not its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.codec import decode_reply, encode_reply
from apportion.errors import JournalError
from apportion.scheduler.events import Event, Failed, Granted, Lost, Replied, RequestId
from apportion.scheduler.journal import Journal
from apportion.types import Completion, Embedded, Finish, Generated, LogprobStats, Purchase, Reply, Scored, Usage

floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts, counts, floats)
any_text = st.text(st.characters(codec=None))  # lone surrogates too: a model can write them
completions = st.builds(
    Completion, any_text, counts, st.sampled_from(Finish), st.none() | st.builds(LogprobStats, floats, floats, floats)
)
replies = st.one_of(
    st.builds(Generated, st.lists(completions, max_size=3).map(tuple), usages),
    st.builds(Embedded, st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False)).map(tuple), usages),
    st.builds(Scored, st.lists(st.lists(floats, max_size=3).map(tuple), max_size=3).map(tuple), usages),
)


@given(replies)
def test_a_reply_survives_the_trip_unchanged(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


def test_events_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    reply = Generated((Completion("a\nb\udc80", 3, Finish.END),), Usage(1, 3, 4, 0, 0.25))
    events: list[Event] = [
        Lost(RequestId(5, 0, 0, 0), 1, "its replica died"),
        Lost(RequestId(5, 0, 0, 0), 2, "and so did the next"),
        Replied(RequestId(5, 0, 0, 0), reply),
        Failed(RequestId(2, 1, 3, 4), "boom"),
        Failed(RequestId(2, 1, 3, 5), "charged", Usage(7, 5, 40, 2, 0.5)),
        Replied(RequestId(0, 0, 0, 1), reply),
    ]
    with Journal(tmp_path / "j.sqlite", {"config": "x"}) as journal:
        journal.append(events[:1])
        journal.append(events[1:])
    with Journal(tmp_path / "j.sqlite", {"config": "x"}) as journal:
        assert list(journal.events()) == events
        assert len(journal) == 6


def test_whether_requests_were_sent_before_is_remembered(tmp_path: Path) -> None:
    for before in (False, True, True):
        with Journal(tmp_path / "j.sqlite", {}) as journal:
            assert journal.sending() is before


def test_a_journal_of_a_version_that_decides_otherwise_is_refused_and_says_so(tmp_path: Path) -> None:
    Journal(tmp_path / "j.sqlite", {"config": "x"}).close()
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        db.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    with pytest.raises(JournalError, match=r"format '1'.*with the version that began it, or choose another output"):
        Journal(tmp_path / "j.sqlite", {"config": "x"})


def test_a_journal_of_another_job_is_refused_with_what_differs(tmp_path: Path) -> None:
    Journal(tmp_path / "j.sqlite", {"dataset": "aaa"}).close()
    with pytest.raises(JournalError, match=r"its dataset is 'aaa', this job's is 'bbb'"):
        Journal(tmp_path / "j.sqlite", {"dataset": "bbb"})


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_text("hello, I am a text file, and quite a long one at that" * 50)
    with pytest.raises(JournalError, match="not a journal"):
        Journal(tmp_path / "j.sqlite", {})


def test_a_replayed_grant_must_be_the_recorded_one(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        journal.record([Granted(0, 0, Purchase("vote", 4))])
        journal.verify([Granted(0, 0, Purchase("vote", 4)), Granted(0, 1, Purchase("vote", 8))])
        with pytest.raises(JournalError, match="replaying"):
            journal.verify([Granted(0, 0, Purchase("vote", 2))])


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"generated": [[1]], "usage": [0,0,0,0,0]}', "\x00"])
def test_a_damaged_reply_is_named(body: str) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        decode_reply(body)
