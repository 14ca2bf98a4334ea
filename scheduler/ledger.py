"""The ledger: what was reserved, spent and refunded, by prompt, arm, model and kind of work.

The law: reserved + spent <= budget + excess, after every call. A reservation covers the worst case of one request in
flight; settling it books what the work really cost and refunds the rest. Work whose cost cannot be bounded beforehand
(measured time), or whose engine reports more than its worst case, may settle above its reservation: that `excess` is
booked too, taken from what is unreserved, and where even that does not suffice it is in `overrun` and shown to the
user, never hidden. Nothing more is reserved then.

Work that was lost with the replica that did it is charged too (`lose`). Nobody saw what it cost: it is charged as a
whole attempt, at the share of its worst case that such work has cost on average, out of its own reservation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from apportion.costs import ZERO_COST, Cost, Unit
from apportion.errors import BudgetError

ROUNDING = 1e-9
"""Relative slack of the law: sums of floats in different orders differ by this much at most."""

UNSEEN_SHARE = 0.5
"""What of its worst case lost work is taken to have cost, before any work like it was seen to the end: completions
seldom reach their bound, and what was lost was seldom at its end."""


class Kind(StrEnum):
    """The kind of work a cost paid for."""

    GENERATE = "generate"
    SCORE = "score"
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a cost is charged to."""

    prompt: int
    arm: str
    model: str
    kind: Kind


class _Tally:
    """A cost that grows by every reply: adding in place is several times quicker than making a new value."""

    __slots__ = ("dollars", "flops", "gpu_seconds", "held", "paid", "samples", "tokens")

    def __init__(self) -> None:
        self.tokens = self.flops = self.gpu_seconds = self.dollars = self.samples = 0.0
        self.held = self.paid = 0.0
        """of what was seen to its end, in the budget's unit: worst case and cost"""

    def add(self, cost: Cost) -> None:
        self.tokens += cost.tokens
        self.flops += cost.flops
        self.gpu_seconds += cost.gpu_seconds
        self.dollars += cost.dollars
        self.samples += cost.samples

    @property
    def cost(self) -> Cost:
        return Cost(self.tokens, self.flops, self.gpu_seconds, self.dollars, self.samples)


class Ledger:
    """Amounts in the budget's unit, costs in all units. Keys of reservations are any hashable, used once at a time."""

    def __init__(self, budget: float, unit: Unit) -> None:
        self.budget = budget
        self.unit = unit
        self.by_prompt: dict[int, Cost] = {}
        self.lost: Cost = ZERO_COST
        """of all that was spent, what lost work is charged with"""
        self.excess = 0.0
        """by how much settled work cost more than was reserved for it, in the budget's unit"""
        self._spent = 0.0
        self._booked: dict[tuple[str, str, Kind], _Tally] = {}
        self._held: dict[object, float] = {}
        self._reserved = 0.0

    @property
    def spent(self) -> float:
        """What finished work has cost, in the budget's unit."""
        return self._spent

    @property
    def total(self) -> Cost:
        """What finished work has cost."""
        return sum((tally.cost for tally in self._booked.values()), ZERO_COST)

    @property
    def by_arm(self) -> dict[str, Cost]:
        """What finished work of each arm has cost, arms in the order in which they first cost something."""
        return self._by(lambda arm, model, kind: arm)

    @property
    def by_model(self) -> dict[str, Cost]:
        """What finished work of each model has cost."""
        return self._by(lambda arm, model, kind: model)

    @property
    def by_kind(self) -> dict[str, Cost]:
        """What finished work of each kind has cost, by the kind's name."""
        return self._by(lambda arm, model, kind: kind.value)

    @property
    def reserved(self) -> float:
        """The worst case of what is in flight, in the budget's unit."""
        return self._reserved

    @property
    def available(self) -> float:
        """What can still be reserved; never negative."""
        return max(0.0, self.budget - self._spent - self._reserved)

    @property
    def overrun(self) -> float:
        """How far the job went over its budget, by nothing but `excess`; 0 where engines keep to their worst case."""
        return max(0.0, self.spent - self.budget * (1.0 + ROUNDING))

    def covers(self, amount: float) -> bool:
        """Whether `amount` can be reserved now."""
        return self._spent + self._reserved + amount <= self.budget

    def reserve(self, key: object, amount: float) -> None:
        """Hold `amount` for one request. Raises BudgetError, changing nothing, where the budget does not cover it."""
        if key in self._held:
            raise BudgetError(f"request {key} is already reserved; settle or release it first")
        if not amount >= 0.0:
            raise BudgetError(f"cannot reserve {amount} {self.unit}; an amount must be a number of at least 0")
        # What was covered as a sum is reserved one by one: the slack is for the other order of adding.
        # To hold nothing is always possible, also after an overrun.
        if amount > 0.0 and self._spent + self._reserved + amount > self.budget * (1.0 + ROUNDING):
            raise BudgetError(
                f"cannot reserve {amount:g} {self.unit}: {self.available:g} of {self.budget:g} are left; "
                "raise the budget"
            )
        self._held[key] = amount
        self._reserved += amount

    def settle(self, key: object, cost: Cost, account: Account) -> float:
        """Book what a reserved request cost and refund the rest; returns the refund (negative for an overrun)."""
        held = self._take(key)
        tally = self._book(cost, account)
        amount = cost.of(self.unit)
        tally.held += held
        tally.paid += amount
        self.excess += max(0.0, amount - held)
        return held - amount

    def lose(self, key: object, worst: Cost, account: Account) -> Cost:
        """Charge a reserved request whose work was lost, never more than was reserved; returns the charge.

        `worst` is the request's worst case in all units. Its reservation is gone: to send it again takes another one.
        """
        held, most = self._take(key), worst.of(self.unit)
        tally = self._booked.get((account.arm, account.model, account.kind))
        share = tally.paid / tally.held if tally is not None and tally.held > 0.0 else UNSEEN_SHARE
        share = min(share, held / most if most > 0.0 else 1.0)
        cost = worst.scaled(share)
        self._book(cost, account)
        self.lost += cost
        return cost

    def _book(self, cost: Cost, account: Account) -> _Tally:
        key = (account.arm, account.model, account.kind)
        tally = self._booked.get(key)
        if tally is None:
            tally = self._booked[key] = _Tally()
        tally.add(cost)
        earlier = self.by_prompt.get(account.prompt)
        self.by_prompt[account.prompt] = cost if earlier is None else earlier + cost
        self._spent += cost.of(self.unit)
        return tally

    def release(self, key: object) -> float:
        """Give a reservation back unspent; returns it."""
        return self._take(key)

    def _by(self, name: Callable[[str, str, Kind], str]) -> dict[str, Cost]:
        found: dict[str, Cost] = {}
        for key, tally in self._booked.items():
            found[name(*key)] = found.get(name(*key), ZERO_COST) + tally.cost
        return found

    def _take(self, key: object) -> float:
        if key not in self._held:
            raise BudgetError(f"request {key} was never reserved; reserve before settling")
        held = self._held.pop(key)
        # An empty ledger holds exactly nothing: rounding must not accumulate over millions of requests.
        self._reserved = self._reserved - held if self._held else 0.0
        return held
