"""A job that asks for every prompt's hidden state before its first purchase, and then is a machine like any other.

Pure, as the machine is, and told and asked the same way: events in, instructions out. The looks come first, all of
them, because a price is solved over all prompts: until every prompt's difficulty is guessed, no purchase can be known
to be worth it. One look is one pass over the prompt, reserved and charged to its prompt like any request, under the
arm `LOOKS`. Replayed from a journal, a look that was answered is not asked for again.

A look that fails, or that the budget does not cover, leaves its prompt with what is believed of any: it never costs a
prompt its answer. Both are counted (`report`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.scheduler.bounds import Bounds
from apportion.scheduler.events import Dispatch, Event, Failed, Instruction, Lost, Replied, RequestId
from apportion.scheduler.flight import Flight
from apportion.scheduler.ledger import Ledger
from apportion.scheduler.machine import Machine
from apportion.scheduler.meter import Meter
from apportion.types import Embed, Embedded, Prompt, Request

LOOKS = "(difficulty)"
"""The arm that looks are charged to."""
LOOK = 1_000_000_000
"""Stands for the number of the purchase in a look's id: no prompt makes so many."""

Floats = NDArray[np.float64]
Guess = Callable[[Sequence[float]], float]
"""From a hidden state to pass@1."""
Make = Callable[[Floats], Machine]
"""The machine of the job, given what was guessed of each prompt, [prompts]; nan where nothing was."""


class Looking:
    """Looks, then `make`s a machine on the same ledger and hands everything on to it. At most `most` at once."""

    def __init__(
        self, prompts: Sequence[Prompt], model: str, ledger: Ledger, meter: Meter, most: int, guess: Guess, make: Make
    ) -> None:
        self.ledger = ledger
        self._prompts = prompts
        self._model = model
        self._meter = meter
        self._most = most
        self._guess = guess
        self._make = make
        self._flight = Flight(ledger, meter)
        self._guessed = np.full(len(prompts), np.nan)
        self._next = self._answered = self._failed = 0
        self._error: str | None = None
        self._machine: Machine | None = None

    @property
    def flight(self) -> Flight:
        """The requests in flight."""
        return self._flight if self._machine is None else self._machine.flight

    @property
    def done(self) -> bool:
        """Whether every prompt is committed."""
        return self._machine is not None and self._machine.done

    @property
    def running(self) -> int:
        """Looks, or purchases, under way."""
        return len(self._flight) if self._machine is None else self._machine.running

    @property
    def committed(self) -> int:
        """Prompts that are done."""
        return 0 if self._machine is None else self._machine.committed

    @property
    def answered(self) -> int:
        """Prompts that have an answer."""
        return 0 if self._machine is None else self._machine.answered

    @property
    def total(self) -> int:
        """Prompts in the job."""
        return len(self._prompts)

    @property
    def price(self) -> float:
        """The machine's; 0 while there is none."""
        return 0.0 if self._machine is None else self._machine.price

    def report(self) -> dict[str, Any]:
        """How many looks were answered, failed, or were not paid for, and the first error; plain data."""
        missing = self.total - self._answered - self._failed
        return {"read": self._answered, "failed": self._failed, "not_paid": missing, "first_error": self._error}

    def start(self) -> list[Instruction]:
        """The first instructions."""
        return self._advance()

    def handle(self, event: Event) -> list[Instruction]:
        """What to do after one event. Raises JournalError for a reply to a request that is not in flight."""
        if self._machine is not None:
            return self._machine.handle(event)
        if isinstance(event, Lost):
            self._flight.lose(event)
            return self._advance()
        paid = self._flight.pays(event.request)
        self._flight.end(event)
        prompt = event.request.prompt
        if isinstance(event, Replied) and isinstance(event.reply, Embedded):
            self._answered += 1
            self._guessed[prompt] = self._guess(event.reply.vector)
        elif isinstance(event, Failed) and paid:
            self._failed += 1
            self._error = self._error or event.error
        return self._advance()

    def find(self, prompt: int, request: Request) -> RequestId:
        """The id of a request in flight, known by the object that was dispatched."""
        return _name(prompt) if self._machine is None else self._machine.find(prompt, request)

    def audit(self) -> None:
        """Raise AssertionError where an invariant does not hold; for tests and for the end of a job."""
        assert not self._flight or self._machine is None
        if self._machine is not None:
            self._machine.audit()

    def _advance(self) -> list[Instruction]:
        """Look while there is room and money; after the last answer, go on to the machine."""
        out: list[Instruction] = []
        while self._next < self.total and len(self._flight) < self._most:
            request = Embed(self._model, self._prompts[self._next].messages)
            bound = Bounds((request,)).covered(self.ledger, self._meter)
            if bound is None and self._flight:
                break
            if bound is None:
                # Nothing in flight could be refunded: the rest cannot be had.
                self._next = self.total
                break
            name = _name(self._next)
            self._flight.begin(name, request, LOOKS, bound[0])
            out.append(Dispatch(name, request))
            self._next += 1
        if not self._flight and self._next == self.total:
            self._machine = self._make(self._guessed)
            out += self._machine.start()
        return out


def _name(prompt: int) -> RequestId:
    return RequestId(prompt, LOOK, 0, 0)
