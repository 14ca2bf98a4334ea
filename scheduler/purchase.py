"""One purchase under way: a strategy's generator, the requests it waits for, and what it has cost so far."""

from __future__ import annotations

from apportion.costs import ZERO_COST, Cost, Unit
from apportion.policies.strategy import CutOff, Plan
from apportion.scheduler.events import RequestId
from apportion.types import Draft, Purchase, Reply, Request


class OpenPurchase:
    """Drives one generator. `requests` are the step it waits on; `drafts` is set once it has returned."""

    def __init__(self, prompt: int, number: int, purchase: Purchase, plan: Plan, expected: float) -> None:
        self.prompt = prompt
        self.number = number
        self.purchase = purchase
        self.held = expected
        self.cost: Cost = ZERO_COST
        self.step = 0
        self.requests: tuple[Request, ...] = ()
        self.drafts: tuple[Draft, ...] | None = None
        self.cut = False
        self._plan = plan
        self._replies: dict[int, Reply] = {}
        self._resume(None)

    def ids(self) -> tuple[RequestId, ...]:
        """The ids of the present step's requests."""
        return tuple(RequestId(self.prompt, self.number, self.step, part) for part in range(len(self.requests)))

    def pay(self, cost: Cost, unit: Unit) -> float:
        """Add a cost. Returns by how much the purchase now holds more of the budget than it did.

        `held` is what the purchase takes of the budget: what is expected of it, or what it has cost where that is more.
        """
        self.cost += cost
        before, self.held = self.held, max(self.held, self.cost.of(unit))
        return self.held - before

    def reply(self, part: int, reply: Reply) -> bool:
        """Keep one reply of the present step; when it was the last, go on. Returns whether the generator went on."""
        self._replies[part] = reply
        if len(self._replies) < len(self.requests):
            return False
        replies = tuple(self._replies[part] for part in range(len(self.requests)))
        self._replies = {}
        self.step += 1
        self._resume(replies)
        return True

    def cut_off(self) -> None:
        """The budget does not cover the present step: take what the strategy has."""
        self.cut = True
        self.requests = ()
        try:
            self._plan.throw(CutOff())
        except StopIteration as end:
            self.drafts = end.value
        except CutOff:
            self.drafts = ()
        else:
            self._plan.close()
            raise RuntimeError(f"strategy of arm {self.purchase.arm!r} asked for more after it was cut off")

    def abandon(self) -> None:
        """A request failed for good: close the generator and keep nothing."""
        self._plan.close()
        self.requests = ()
        self.drafts = ()

    def _resume(self, replies: tuple[Reply, ...] | None) -> None:
        try:
            self.requests = next(self._plan) if replies is None else self._plan.send(replies)
        except StopIteration as end:
            self.requests = ()
            self.drafts = end.value
