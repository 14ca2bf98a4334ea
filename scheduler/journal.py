"""The journal: the durable record of every grant and every reply, in SQLite.

Invariants: a reply is on disk before the machine sees it; replies are kept in the order in which the machine saw
them; nothing is ever changed or deleted. So the journal's replies, fed again to a fresh machine, bring it back. The
grants are written for people and as a check: replaying must give the same ones.

Write-ahead logging with synchronous=NORMAL survives the death of the process at any instruction. A power cut may lose
the last replies, which are then asked for again; it cannot tear the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from apportion.codec import EMBEDDED, decode_reply, encode_reply, encode_usage
from apportion.errors import JournalError
from apportion.scheduler.events import Event, Failed, Granted, Lost, Replied, RequestId
from apportion.types import Embedded, Purchase, Reply, Usage

FORMAT = "5"
"""Raised whenever replaying an older journal would give other decisions or fail."""
_SENDING = "sending"
"""Of `meta`: present once requests of this job were sent, so that what has no answer may have been worked on."""

_PRIMARY = 0xFF
"""The part of SQLite's error codes that says what went wrong; the rest says where."""
_ATTEMPT = "#"
"""Between a request and which of its attempts was lost."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, request TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS grants (
    prompt INTEGER NOT NULL, number INTEGER NOT NULL, arm TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (prompt, number));
"""


class Journal:
    """One job's journal. `identity` (what the job is: config and dataset) must be the one it was made with.

    Raises JournalError where the file is not a journal, or is one of another format or identity; and, then as in all
    its methods, where the disk is full or fails.
    """

    def __init__(self, path: Path | str, identity: Mapping[str, str]) -> None:
        self.path = str(path)
        self._recorded: dict[tuple[int, int], Purchase] | None = None
        with _telling(self.path):
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with _telling(self.path):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(_SCHEMA)
                self._adopt({"format": FORMAT, **identity})
        except BaseException:
            self._db.close()
            raise

    def _adopt(self, identity: dict[str, str]) -> None:
        known = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        if not known:
            with self._transaction():
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", identity.items())
            return
        if known.get("format") != FORMAT:
            raise JournalError(
                f"{self.path} has format {known.get('format')!r}, and this apportion, which would decide otherwise, "
                f"writes {FORMAT!r}. Finish the job with the version that began it, or choose another output."
            )
        for key, value in identity.items():
            if known.get(key) != value:
                raise JournalError(
                    f"{self.path} was written by another job: its {key} is {known.get(key)!r}, this job's is "
                    f"{value!r}. Restore what changed, or choose another output."
                )

    def sending(self) -> bool:
        """Note that requests are being sent now; whether they had been before."""
        with self._transaction():
            return self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, '1')", (_SENDING,)).rowcount == 0

    def append(self, events: Iterable[Event]) -> None:
        """Make events durable, in order, in one transaction."""
        rows = [_encode(event) for event in events]
        if not rows:
            return
        with self._transaction():
            self._db.executemany("INSERT INTO events (request, kind, body) VALUES (?, ?, ?)", rows)

    def record(self, grants: Iterable[Granted]) -> None:
        """Write grants; one that is there already stays (see `verify`)."""
        known = self._recorded or {}
        rows = [(g.prompt, g.number, g.purchase.arm, g.purchase.n) for g in grants if (g.prompt, g.number) not in known]
        if not rows:
            return
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO grants VALUES (?, ?, ?, ?)", rows)

    def verify(self, grants: Iterable[Granted]) -> None:
        """Raise JournalError where a replayed grant is not the one that was recorded when the journal was opened."""
        if self._recorded is None:
            with _telling(self.path):
                rows = self._db.execute("SELECT prompt, number, arm, n FROM grants").fetchall()
            self._recorded = {(prompt, number): Purchase(arm, n) for prompt, number, arm, n in rows}
        for grant in grants:
            expected = self._recorded.get((grant.prompt, grant.number), grant.purchase)
            if expected != grant.purchase:
                raise JournalError(
                    f"replaying {self.path} grants {grant.purchase} to prompt {grant.prompt}, but {expected} was "
                    "recorded: the config, the fitted policy or this package's version changed. Restore it, or choose "
                    "another output."
                )

    def events(self) -> Iterator[Event]:
        """All events, in the order the machine saw them."""
        with _telling(self.path):
            for request, kind, body in self._db.execute("SELECT request, kind, body FROM events ORDER BY seq"):
                yield _decode(request, kind, body)

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT COUNT(*) FROM events").fetchone()
        return int(count)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _telling(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk ends a transaction by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """SQLite's errors about the file as JournalErrors. Only what is no database may be moved away: a journal is the
    bill of its job."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        kind = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if kind == sqlite3.SQLITE_NOTADB:
            message = f"{path} is not a journal ({error}); move it away, or choose another output"
        elif kind == sqlite3.SQLITE_CORRUPT:
            message = f"{path} is damaged ({error}); restore it from a copy, or choose another output"
        elif kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            message = (
                f"{path} cannot be written or read ({error}): its disk is full or fails. Free space there and run the "
                "same command again: it goes on from what the journal holds, which is kept"
            )
        elif isinstance(error, sqlite3.OperationalError):
            message = (
                f"{path} cannot be written or read ({error}). See that the file can be written and that no other "
                "program has it open, and run the same command again: it goes on from what the journal holds"
            )
        else:
            raise
        raise JournalError(message) from error


def has_work(path: Path) -> bool:
    """Whether the journal at `path` says that requests were sent, so that something may have been spent.

    False where there is none; a file that cannot be read counts as one that says so. Nothing is written.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False
    # SQLite would make a log, and leave it, where the journal was closed and has none.
    whole = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    try:
        db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro{whole}", uri=True)
        try:
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            sent = "meta" in there and db.execute("SELECT 1 FROM meta WHERE key = ?", (_SENDING,)).fetchone()
            return bool(sent or ("events" in there and db.execute("SELECT 1 FROM events LIMIT 1").fetchone()))
        finally:
            db.close()
    except sqlite3.Error:
        return True


def read_replies(path: Path, beginning: str = "") -> Iterator[tuple[RequestId, Reply]]:
    """The replies of a journal, whatever job it is of, or those whose text begins so.

    Raises JournalError where there is no journal.
    """
    if not path.is_file():
        raise JournalError(
            f"{path} is not there, and what engines replied is kept nowhere else; record again, elsewhere"
        )
    db = sqlite3.connect(path)
    try:
        for request, body in db.execute(
            "SELECT request, body FROM events WHERE kind = 'replied' AND body LIKE ? ORDER BY seq", (beginning + "%",)
        ):
            yield RequestId.parse(request), decode_reply(body)
    finally:
        db.close()


def read_states(path: Path) -> Iterator[tuple[RequestId, Embedded]]:
    """The hidden states of a journal. Raises as `read_replies` does."""
    for name, reply in read_replies(path, EMBEDDED):
        if isinstance(reply, Embedded):
            yield name, reply


def _encode(event: Event) -> tuple[str, str, str]:
    if isinstance(event, Replied):
        return str(event.request), "replied", encode_reply(event.reply)
    if isinstance(event, Lost):
        # Its own key: the request's is that of its answer, which is still to come.
        return f"{event.request}{_ATTEMPT}{event.attempt}", "lost", json.dumps({"cause": event.cause})
    body: dict[str, Any] = {"error": event.error}
    if event.usage is not None:
        body["usage"] = encode_usage(event.usage)
    return str(event.request), "failed", json.dumps(body)


def _decode(request: str, kind: str, body: str) -> Event:
    request, _, attempt = request.partition(_ATTEMPT)
    identity = RequestId.parse(request)
    if kind == "lost":
        return Lost(identity, int(attempt), json.loads(body)["cause"])
    if kind == "replied":
        return Replied(identity, decode_reply(body))
    failed = json.loads(body)
    return Failed(identity, failed["error"], Usage(*failed["usage"]) if "usage" in failed else None)
