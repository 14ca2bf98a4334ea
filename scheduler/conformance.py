"""What every allocation policy must keep; run it on your own.

A small job is played with the queue of a real one, every offer checked, and played again: the same calls must give the
same offers, or a journal could not be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from apportion.scheduler.allocation import Allocation, Offer, Problem, Rest
from apportion.scheduler.queue import OfferQueue
from apportion.types import Candidate, Purchase

Make = Callable[[Problem], Allocation]
Deal = Callable[[int, str, int, int], tuple[Sequence[Candidate], float]]
"""Prompt, arm, how many of it the prompt has, and n: the candidates of a purchase, and what they really cost."""

REPRICINGS = 48
"""As in a job: the price is solved again this many times per pass over the prompts."""
ROUNDING = 1e-9
"""Costs may differ by this share through floating point."""
FORECASTS = (0.5, 1.0, 2.0)
"""Multiples of the budget that are forecast."""


@dataclass(frozen=True, slots=True)
class Trail:
    """What a job bought, in order, and what it spent."""

    purchases: tuple[tuple[int, Purchase], ...]
    spent: float


def check_allocation(make: Make, problem: Problem, deal: Deal) -> Trail:
    """Raise AssertionError where a policy breaks a rule; returns what it bought.

    Every offer is of an arm of the job, an amount its strategy takes, within the limits and within `most`; asking twice
    gives the same, and a prompt told to stop stays stopped. What is bought is paid from the budget. Difficulties lie in
    [0, 1]; a forecast is empty or has one entry for each budget, in order, and changes nothing. `deal` must give the
    same for the same arguments.
    """
    trail = _Job(make(problem), problem, deal).play()
    again = _Job(make(problem), problem, deal).play()
    assert again == trail, "played again, the same job bought something else"
    return trail


class _Job:
    def __init__(self, policy: Allocation, problem: Problem, deal: Deal) -> None:
        self.policy, self.problem, self.deal = policy, problem, deal
        self.arms = {arm.name: at for at, arm in enumerate(problem.arms)}
        self.left = problem.budget
        self.bought = [[0] * len(problem.arms) for _ in range(problem.prompts)]
        self.stopped: set[int] = set()
        self.purchases: list[tuple[int, Purchase]] = []
        self.queue = OfferQueue(problem.prompts, self.ask)

    def play(self) -> Trail:
        self.policy.reprice(self.left)
        self.check_forecast()
        since, every = 0, max(1, self.problem.prompts // REPRICINGS)
        while True:
            item = self.queue.pop()
            if item is None:
                self.policy.reprice(self.left)
                for prompt in self.queue.take_parked():
                    self.put(prompt)
                if self.queue.empty:
                    break
                continue
            prompt, offer = item
            if isinstance(offer, Offer) and offer.cost > self.left:
                offer = self.ask(prompt)
            if not isinstance(offer, Offer):
                if offer is Rest.WAIT:
                    self.queue.park(prompt)
                continue
            self.buy(prompt, offer)
            since += 1
            if since >= every:
                since = 0
                self.policy.reprice(self.left)
                self.queue.outdate(reopen=False)
            self.put(prompt)
        self.check_forecast()
        for prompt in sorted(self.stopped):
            self.ask(prompt)
        for prompt in range(self.problem.prompts):
            assert 0.0 <= self.policy.difficulty(prompt) <= 1.0, f"the difficulty of prompt {prompt} is no chance"
        return Trail(tuple(self.purchases), self.problem.budget - self.left)

    def ask(self, prompt: int) -> Offer | Rest:
        most = max(0.0, self.left)
        offer = self.policy.offer(prompt, most)
        assert self.policy.offer(prompt, most) == offer, f"prompt {prompt}, asked twice, was offered something else"
        if prompt in self.stopped:
            assert offer is Rest.STOP, f"prompt {prompt} had stopped and is offered {offer}"
        if offer is Rest.STOP:
            self.stopped.add(prompt)
        if isinstance(offer, Offer):
            self.check(prompt, offer, most)
        return offer

    def check(self, prompt: int, offer: Offer, most: float) -> None:
        purchase = offer.purchase
        assert purchase.arm in self.arms, f"{purchase.arm!r} is no arm of the job"
        at = self.arms[purchase.arm]
        why = self.problem.arms[at].strategy.check(purchase.n)
        assert purchase.n >= 1, f"a purchase of {purchase.n}"
        assert why is None, f"a purchase of {purchase.n} {purchase.arm}: {why}"
        assert offer.cost <= most * (1.0 + ROUNDING), f"an offer of {offer.cost} where {most} is left"
        assert 0.0 <= offer.gain < inf, f"an offer gains {offer.gain}"
        if self.problem.limits is not None:
            limit = int(self.problem.limits[prompt, at])
            total = self.bought[prompt][at] + purchase.n
            assert total <= limit, f"prompt {prompt} is offered {total} of {purchase.arm} in all; there are {limit}"

    def put(self, prompt: int) -> None:
        offer = self.ask(prompt)
        if isinstance(offer, Offer):
            self.queue.push(prompt, offer)
        elif offer is Rest.WAIT:
            self.queue.park(prompt)

    def buy(self, prompt: int, offer: Offer) -> None:
        arm, n = offer.purchase.arm, offer.purchase.n
        candidates, cost = self.deal(prompt, arm, self.bought[prompt][self.arms[arm]], n)
        self.bought[prompt][self.arms[arm]] += n
        self.purchases.append((prompt, offer.purchase))
        self.left -= cost
        self.policy.observe(prompt, offer.purchase, candidates, cost)

    def check_forecast(self) -> None:
        budgets = [self.left * multiple for multiple in FORECASTS]
        said = self.policy.forecast(budgets)
        assert self.policy.forecast(budgets) == said, "asked twice, the forecast is another"
        if not said:
            return
        assert [one.budget for one in said] == budgets, "one forecast for each budget, in order"
        for one in said:
            assert 0.0 <= one.low <= one.value <= one.high <= 1.0, f"{one} is no interval of chances"
            assert one.spent <= one.budget * (1.0 + ROUNDING), f"{one} spends more than its budget"
