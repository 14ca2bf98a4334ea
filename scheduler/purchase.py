"""One purchase under way: a strategy's generator, the requests it waits for, and what it has cost so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from apportion.costs import ZERO_COST, Cost, Unit
from apportion.policies.arm import Arm
from apportion.policies.strategy import CutOff, Plan, Task, extends_conversation
from apportion.scheduler.allocation import Offer
from apportion.scheduler.bounds import Bounds
from apportion.scheduler.events import RequestId
from apportion.scheduler.meter import Meter
from apportion.scheduler.prompt_state import PromptState
from apportion.types import Draft, Purchase, Reply, Request

Read = Callable[[PromptState, str], str | None]
"""The answer in a response to a prompt."""


class OpenPurchase:
    """Drives one generator. `requests` are the step it waits on; `drafts` is set once it has returned."""

    def __init__(self, prompt: int, number: int, purchase: Purchase, plan: Plan, expected: float) -> None:
        self.prompt = prompt
        self.number = number
        self.purchase = purchase
        self.held = expected
        self.pilot = False
        """whether it was begun before anybody had seen what its arm costs"""
        self.turn = 0
        """its place among all purchases of the job, by when they were begun"""
        self.cost: Cost = ZERO_COST
        self.step = 0
        self.requests: tuple[Request, ...] = ()
        self.bounds = Bounds(())
        """of the present step's requests"""
        self.drafts: tuple[Draft, ...] | None = None
        self.cut = False
        self.lost = False
        """whether its cost holds work that was done more than once"""
        self._plan = plan
        self._replies: dict[int, Reply | None] = {}
        self._resume(None)

    def ids(self) -> tuple[RequestId, ...]:
        """The ids of the present step's requests."""
        return tuple([RequestId(self.prompt, self.number, self.step, part) for part in range(len(self.requests))])

    def pay(self, cost: Cost, unit: Unit) -> float:
        """Add a cost. Returns by how much the purchase now holds more of the budget than it did.

        `held` is what the purchase takes of the budget: what is expected of it, or what it has cost where that is more.
        """
        self.cost = cost if self.cost is ZERO_COST else self.cost + cost
        before, self.held = self.held, max(self.held, self.cost.of(unit))
        return self.held - before

    def reply(self, part: int, reply: Reply | None) -> bool:
        """Keep one reply of the present step, None for a request that failed for good; after the last one, go on.

        A step with a failure cuts the purchase off, once all its requests are back: what was drawn is kept.
        Returns whether the step was over.
        """
        self._replies[part] = reply
        if len(self._replies) < len(self.requests):
            return False
        replies = tuple([self._replies[part] for part in range(len(self.requests))])
        self._replies.clear()
        self.step += 1
        whole = tuple([reply for reply in replies if reply is not None])
        if len(whole) == len(replies):
            self._resume(whole)
        else:
            self.cut_off()
        return True

    def cut_off(self) -> None:
        """The present step will not be answered in full: take what the strategy has."""
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

    def _resume(self, replies: tuple[Reply, ...] | None) -> None:
        try:
            self.requests = next(self._plan) if replies is None else self._plan.send(replies)
        except StopIteration as end:
            self.requests = ()
            self.drafts = end.value
        self.bounds = Bounds(self.requests)


def open_purchase(
    state: PromptState,
    arm: Arm,
    offer: Offer,
    seed: int,
    meter: Meter | None = None,
    read: Read | None = None,
    afresh: bool = False,
) -> OpenPurchase:
    """The prompt's next purchase, up to its first requests; `seed` is the job's.

    A strategy that makes the conversation longer is told how much the `meter` says there is room for. `read` is how
    answers are read. `afresh`, it does not know of earlier drafts, and draws with seeds of its own all the same.
    """
    messages = state.prompt.messages
    room = meter.room(arm.policy, messages) if meter is not None and extends_conversation(arm.strategy) else None
    task = Task(
        messages=messages,
        policy=arm.policy,
        verifier=arm.verifier,
        sampling=arm.sampling,
        step_separator=arm.step_separator,
        n=offer.purchase.n,
        drawn=state.drawn(arm.name),
        key=f"{seed}/{state.prompt.id}/{arm.name}",
        second=arm.second,
        earlier=() if afresh else tuple([one.draft for one in state.candidates if one.arm == arm.name]),
        room=room,
        read=None if read is None else partial(read, state),
        second_room=None if meter is None or arm.second is None else partial(meter.room_beside, arm.second),
    )
    return OpenPurchase(state.index, len(state.purchases), offer.purchase, arm.strategy.plan(task), offer.cost)
