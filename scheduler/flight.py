"""The requests in flight and their reservations: begun, answered, failed, or lost and to be sent again.

Invariant: a request in flight is reserved at its worst case, but for one whose work was lost and that the budget does
not cover once more: it holds nothing, and must not be sent (`pays`); its failure is then no fault of its prompt.
"""

from __future__ import annotations

from apportion.costs import Cost
from apportion.errors import JournalError
from apportion.scheduler.bounds import Bounds
from apportion.scheduler.events import Failed, Lost, Replied, RequestId
from apportion.scheduler.ledger import Account, Ledger
from apportion.scheduler.meter import Meter, kind_of
from apportion.types import Request


class Flight:
    """What a job waits for; books its costs in the ledger."""

    def __init__(self, ledger: Ledger, meter: Meter) -> None:
        self._ledger = ledger
        self._meter = meter
        self._flying: dict[RequestId, tuple[Request, Account]] = {}
        self._unpaid: set[RequestId] = set()

    def __len__(self) -> int:
        return len(self._flying)

    def pays(self, name: RequestId) -> bool:
        """Whether a request is in flight with its worst case reserved: it may be sent."""
        return name in self._flying and name not in self._unpaid

    def begin(self, name: RequestId, request: Request, arm: str, bound: float) -> None:
        """Reserve a request's worst case."""
        self._ledger.reserve(name, bound)
        self._flying[name] = (request, Account(name.prompt, arm, request.model, kind_of(request)))

    def end(self, event: Replied | Failed) -> Cost | None:
        """Book what an answer, or failed work, has cost; None where it was nothing."""
        name = event.request
        request, account = self._known(name)
        del self._flying[name]
        self._unpaid.discard(name)
        if isinstance(event, Replied):
            cost = self._meter.charge(request, event.reply)
        elif event.usage is None:
            self._ledger.release(name)
            return None
        else:
            cost = self._meter.cost(request, event.usage)
        self._ledger.settle(name, cost, account)
        return cost

    def lose(self, event: Lost) -> Cost:
        """Charge work that was lost, and reserve for doing it again where the budget covers that."""
        name = event.request
        request, account = self._known(name)
        cost = self._ledger.lose(name, self._meter.bound(request), account)
        again = Bounds((request,)).covered(self._ledger, self._meter)
        if again is None:
            self._unpaid.add(name)
        else:
            self._unpaid.discard(name)
        self._ledger.reserve(name, again[0] if again is not None else 0.0)
        return cost

    def _known(self, name: RequestId) -> tuple[Request, Account]:
        found = self._flying.get(name)
        if found is None:
            raise JournalError(
                f"an answer to request {name}, which is not in flight, reached the job; the journal is of another "
                "config or version. Restore it, or choose another output."
            )
        return found
