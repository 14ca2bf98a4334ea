"""What the job machine is told, and what it asks for: events in, instructions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from apportion.errors import JournalError
from apportion.scheduler.results import Committed
from apportion.types import Purchase, Reply, Request, Usage


class RequestId(NamedTuple):
    """The place of a request in a job; the same in every replay. Written `prompt.purchase.step.part`.

    A tuple, because a job looks it up half a dozen times for every reply: hashing a dataclass would be felt.
    """

    prompt: int
    purchase: int
    step: int
    part: int

    def __str__(self) -> str:
        return f"{self.prompt}.{self.purchase}.{self.step}.{self.part}"

    @classmethod
    def parse(cls, text: str) -> RequestId:
        """The id that `str` wrote. Raises JournalError for anything else."""
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isdigit() for part in parts):
            raise JournalError(f"{text!r} is not a request id (prompt.purchase.step.part); the journal is damaged")
        return cls(*map(int, parts))


@dataclass(frozen=True, slots=True)
class Replied:
    """A request was answered."""

    request: RequestId
    reply: Reply


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed for good, after the backend's own retries. `usage` is what it cost all the same."""

    request: RequestId
    error: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """What was done of a request is lost with the replica, or the driver, that held it; it is to be sent again.

    `attempt` counts a request's losses, from 1.
    """

    request: RequestId
    attempt: int
    cause: str


Event = Replied | Failed | Lost


@dataclass(frozen=True, slots=True)
class Granted:
    """A purchase was granted; to be recorded."""

    prompt: int
    number: int
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A request to send; its worst case is reserved."""

    id: RequestId
    request: Request


@dataclass(frozen=True, slots=True)
class Commit:
    """A prompt is done; its result is final."""

    committed: Committed


Instruction = Granted | Dispatch | Commit
