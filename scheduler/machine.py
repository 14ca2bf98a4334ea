"""The job as a pure state machine.

Events in (`Replied`, `Failed`, `Lost`), instructions out (`Granted`, `Dispatch`, `Commit`). It owns no task, no client,
no clock and no randomness: the same prompts, settings and events give the same instructions, which is what makes a
journal enough to recover a job. Invariants, checked by `audit`:
- every request in flight is reserved in the ledger at its worst case, and nothing else is (see `flight`);
- each prompt is committed exactly once, after its last purchase ended;
- at most `in_flight` purchases are under way.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from apportion.policies.arm import Arm
from apportion.scheduler.admission import Admission
from apportion.scheduler.allocation import Allocation, Answering, Closing, Offer, Rest
from apportion.scheduler.events import Dispatch, Event, Failed, Granted, Instruction, Lost, Replied, RequestId
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.finish import Finisher
from apportion.scheduler.flight import Flight
from apportion.scheduler.ledger import ROUNDING, Ledger
from apportion.scheduler.meter import Meter
from apportion.scheduler.prompt_state import PromptState
from apportion.scheduler.purchase import OpenPurchase, open_purchase
from apportion.scheduler.queue import OfferQueue
from apportion.scheduler.repricing import Repricing
from apportion.scheduler.results import Ended
from apportion.types import Prompt, Request


@dataclass(frozen=True, slots=True)
class Settings:
    """`in_flight` bounds purchases under way. `seed` is the job's. `difficulty` is whether results say how difficult
    their prompts are believed to be: a replay has no use for it, and it is the dearest part of a cheap policy. `afresh`
    is whether no purchase goes on from what earlier ones left, as where each is recorded as if it were the first."""

    in_flight: int
    seed: int
    difficulty: bool = True
    afresh: bool = False


class Machine:
    """One job's decisions. Call `start` once, then `handle` for each event, until `done`."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        arms: Sequence[Arm],
        allocation: Allocation,
        ledger: Ledger,
        meter: Meter,
        costs: ExpectedCosts,
        finisher: Finisher,
        settings: Settings,
    ) -> None:
        self.ledger = ledger
        self.allocation = allocation
        self.meter = meter
        self.committed = self.answered = 0
        self._answering = allocation if isinstance(allocation, Answering) else None
        self._closing = allocation if isinstance(allocation, Closing) else None
        self._arms = {arm.name: arm for arm in arms}
        self._costs = costs
        self._finisher = finisher
        self._settings = settings
        self._states = [PromptState(index, prompt) for index, prompt in enumerate(prompts)]
        self._open: dict[int, OpenPurchase] = {}
        self.flight = Flight(ledger, meter)
        self._turns = 0
        self._stalled: list[OpenPurchase] = []
        self._queue = OfferQueue(len(prompts), self._offer)
        # Looks at the prompts may have been paid for already.
        self._observed_cost = ledger.spent
        self._under_way = 0.0
        self._repricing = Repricing(len(prompts))
        self._admission = Admission(costs.known)
        self._out: list[Instruction] = []

    @property
    def done(self) -> bool:
        """Whether every prompt is committed."""
        return self.committed == self.total

    @property
    def price(self) -> float:
        """The allocation's."""
        return self.allocation.price

    @property
    def running(self) -> int:
        """Purchases under way."""
        return len(self._open)

    @property
    def total(self) -> int:
        """Prompts in the job."""
        return len(self._states)

    def start(self) -> list[Instruction]:
        """The first instructions."""
        self.allocation.reprice(self._left())
        self._advance()
        return self._flush()

    def handle(self, event: Event) -> list[Instruction]:
        """What to do after one event. Raises JournalError for a reply to a request that is not in flight."""
        name = event.request
        unpaid = isinstance(event, Failed) and not self.flight.pays(name)
        cost = self.flight.lose(event) if isinstance(event, Lost) else self.flight.end(event)
        purchase = self._open[name.prompt]
        if cost is not None:
            self._under_way += purchase.pay(cost, self.ledger.unit)
        if isinstance(event, Lost):
            purchase.lost = True
        else:
            if unpaid:
                self._states[name.prompt].short = True
            elif isinstance(event, Failed):
                self._states[name.prompt].error = event.error
            if purchase.reply(name.part, event.reply if isinstance(event, Replied) else None):
                self._go_on(purchase)
        self._advance()
        return self._flush()

    def find(self, prompt: int, request: Request) -> RequestId:
        """The id of a request in flight, known by the object that was dispatched."""
        purchase = self._open[prompt]
        return next(name for name, one in zip(purchase.ids(), purchase.requests, strict=True) if one is request)

    def audit(self) -> None:
        """Raise AssertionError where an invariant does not hold; for tests and for the end of a job."""
        assert self.ledger.spent + self.ledger.reserved <= (self.ledger.budget + self.ledger.excess) * (1 + ROUNDING)
        assert (self.ledger.reserved > 0) <= bool(self.flight)
        assert len(self._open) <= self._settings.in_flight
        assert self.committed == sum(state.committed for state in self._states)
        assert not self.done or not (self._open or self._stalled)

    def _flush(self) -> list[Instruction]:
        out, self._out = self._out, []
        return out

    def _offer(self, prompt: int) -> Offer | Rest:
        return self.allocation.offer(prompt, self._uncommitted())

    def _left(self) -> float:
        return max(0.0, self.ledger.budget - self._observed_cost)

    def _uncommitted(self) -> float:
        """What is left once the purchases under way have cost what is expected of them."""
        return max(0.0, self.ledger.budget - self._observed_cost - self._under_way)

    def _advance(self) -> None:
        """Dispatch what can be paid for, until capacity or the budget is taken, or nothing is worth its price."""
        while True:
            self._unstall()
            self._fill()
            if self._open or self.done:
                return
            # Twice: a policy that is asked again and has sold nothing since may ask for less.
            if self._queue.empty and not (self._reopen() or self._reopen()):
                for prompt in self._queue.take_parked():
                    self._commit(prompt, "price")

    def _fill(self) -> None:
        while not self._stalled and len(self._open) < self._settings.in_flight:
            item = self._queue.pop()
            if item is None:
                return
            prompt, offer = item
            if not isinstance(offer, Offer):
                self._rest(prompt, offer)
            elif not self._grant(prompt, offer):
                return

    def _reopen(self) -> bool:
        """Nothing is under way: price what is left again, and queue parked prompts that now want something."""
        self._reprice()
        for prompt in self._queue.take_parked():
            self._queue_offer(prompt)
        return not self._queue.empty

    def _grant(self, prompt: int, offer: Offer) -> bool:
        """Open a purchase. False where its first requests must wait for refunds; it is then queued again."""
        state = self._states[prompt]
        while True:
            arm, given = self._arms[offer.purchase.arm], self._settings
            opened = open_purchase(state, arm, offer, given.seed, self.meter, self._finisher.read, given.afresh)
            free = not self._open or self._admission.admit(arm, offer.cost, self._under_way, self._left())
            if free and opened.bounds.covered(self.ledger, self.meter) is not None:
                break
            if self._open:
                self._queue.push(prompt, offer)
                return False
            less = (self.allocation.offer(prompt, most) for most in (offer.cost / 2.0, math.nextafter(offer.cost, 0.0)))
            smaller = next((one for one in less if isinstance(one, Offer)), None)
            if smaller is None:
                self._commit(prompt, "budget")
                return True
            offer = smaller
        state.grant(offer.purchase)
        opened.turn = self._turns = self._turns + 1
        opened.pilot = self._admission.begin(offer.purchase.arm, offer.cost)
        self._open[prompt] = opened
        self._under_way += opened.held
        self._out.append(Granted(prompt, opened.number, offer.purchase))
        self._go_on(opened)
        return True

    def _go_on(self, purchase: OpenPurchase) -> None:
        """Send a purchase's present step, hold it back until refunds come, or end it; older purchases go first."""
        if purchase.drafts is not None:
            self._end(purchase)
        elif (self._stalled and self._stalled[0].turn < purchase.turn) or not self._send(purchase):
            insort(self._stalled, purchase, key=attrgetter("turn"))

    def _send(self, purchase: OpenPurchase) -> bool:
        bounds = purchase.bounds.covered(self.ledger, self.meter)
        if bounds is None:
            return False
        for name, request, bound in zip(purchase.ids(), purchase.requests, bounds, strict=True):
            self.flight.begin(name, request, purchase.purchase.arm, bound)
            self._out.append(Dispatch(name, request))
        return True

    def _unstall(self) -> None:
        """Send stalled steps, oldest purchases first: were all to advance in step, all would be cut off in the end.

        With nothing in flight no refund will come: the youngest is cut off, which has had the least.
        """
        while self._stalled:
            if self._send(self._stalled[0]):
                self._stalled.pop(0)
            elif self.flight:
                return
            else:
                youngest = self._stalled.pop()
                youngest.cut_off()
                self._end(youngest)

    def _end(self, purchase: OpenPurchase) -> None:
        """A purchase is over: its candidates become evidence, and its prompt is reconsidered."""
        prompt, bought = purchase.prompt, purchase.purchase
        del self._open[prompt]
        state, arm = self._states[prompt], self._arms[bought.arm]
        new = self._finisher.candidates(state, arm, purchase.number, purchase.drafts or ())
        self.answered += state.take(new)
        state.ended.append(Ended(purchase.cost, purchase.cut))
        cost = purchase.cost.of(self.ledger.unit)
        self._observed_cost += cost
        self._under_way = self._under_way - purchase.held if self._open else 0.0
        if not (purchase.cut or purchase.lost) and state.error is None:
            self._costs.learn(prompt, bought.arm, bought.n, new, cost)
        self.allocation.observe(prompt, bought, new, cost)
        learned = purchase.pilot and self._admission.end(bought.arm)
        if self._repricing.due() or learned:
            self._reprice()
        if state.error is not None:
            self._commit(prompt, "failed")
        else:
            self._queue_offer(prompt)

    def _queue_offer(self, prompt: int) -> None:
        offer = self._offer(prompt)
        if isinstance(offer, Offer):
            self._queue.push(prompt, offer)
        else:
            self._rest(prompt, offer)

    def _rest(self, prompt: int, rest: Rest) -> None:
        if rest is Rest.WAIT:
            self._queue.park(prompt)
        else:
            self._commit(prompt, "settled")

    def _reprice(self) -> None:
        self.allocation.reprice(self._left())
        self._queue.outdate(self._repricing.reopens(self.allocation.price))

    def _commit(self, prompt: int, reason: str) -> None:
        state = self._states[prompt]
        state.committed = True
        if self._closing is not None:
            self._closing.close(prompt)
        reason = "budget" if state.short and not (state.candidates or state.error) else reason
        self.committed += 1
        state.spent = self.ledger.by_prompt.pop(prompt, state.spent)
        self.meter.forget(state.prompt.messages)
        difficulty = self.allocation.difficulty(prompt) if self._settings.difficulty else math.nan
        answer = None if self._answering is None else self._answering.answer(prompt)
        self._out.append(self._finisher.commit(state, difficulty, reason, answer))
        state.forget()
