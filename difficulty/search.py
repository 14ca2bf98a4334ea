"""Which sequence of purchases: playbooks found on a labelled pool, for the arms and costs of a job.

Local search at a few prices, from dear to cheap, each starting from the best so far: add candidates of an arm at the
end, insert some at the front, exchange or leave one out, as long as the value on trial (objective less price times
cost, on prompts the stopping rule was not made from) grows. It finds cascades (a cheap model first, an expensive one
where the vote stays open) and mixed votes of models that err apart. The playbooks that come of it are few; which is
best at a job's budget is for their trials to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.fitted import search_size
from apportion.difficulty.playbook import SCORE_UNIT, VOTE_UNIT, Orders, Playbook
from apportion.difficulty.pools import Pool
from apportion.difficulty.trial import HALVES, quick_value
from apportion.difficulty.votes import VoteFits, Votes

Floats = NDArray[np.float64]

ORDERS, SEARCH_WALKS = 16, 4000
"""Random orders of each prompt, as far as there are no more than so many walks in all: a search looks at hundreds."""
PRICES = tuple(0.1 * 0.45**step for step in range(9))
"""Searched, per cost of one candidate of the cheapest arm."""
LEAST_GAIN = 5e-4
"""A change must bring this much, about half a prompt in a thousand: less is noise on any pool."""
PLURALITY = 0.3
"""Weight of agreement in the reward: what labels say of a rare state is mostly noise, and a vote is not."""
BLOCKS = (1, 2, 4)
LONGEST = 40
FRONT = 5
"""Positions at which candidates are inserted, exchanged or left out: the first few decide who pays for the rest."""
ARMS_TRIED = 7
"""Arms the search considers at a price: the best by themselves there, and those that were at dearer prices."""
ARMS_IN_THREES = 5
"""All sequences of up to three candidates are starting points, of three candidates those of the best few arms."""
TAIL = 12
"""Candidates added to a found sequence, of its own arms in turn, so that a generous budget finds something to buy."""


@dataclass(frozen=True, slots=True)
class _Setting:
    orders: Orders
    cost: Mapping[str, float]
    once: Mapping[str, float]
    votes: Callable[[Sequence[str]], Votes]
    unit: float

    def book(self, arms: Sequence[str]) -> Playbook:
        steps = tuple((arm, search_size(arm)) for arm in arms)
        return Playbook(steps, self.votes(arms), self.unit, PLURALITY, labelled=True)

    def costs(self, book: Playbook) -> Floats:
        """What its steps cost."""
        return np.array(book.costs(self.cost, self.once))

    def each(self, arm: str) -> float:
        """What the first step of an arm costs."""
        return search_size(arm) * self.cost[arm] + self.once.get(arm, 0.0)

    def most(self, arm: str) -> int:
        """How many steps of an arm every prompt of the pool has candidates for."""
        return self.orders.most(arm) // search_size(arm)


def find_playbooks(
    pool: Pool, cost: Mapping[str, float], seed: int = 0, once: Mapping[str, float] | None = None
) -> list[Playbook]:
    """Playbooks over the arms that `cost` (of one candidate, in the budget's unit) names, all of them in the pool.

    A step is one candidate, or a search whole. An arm's first costs `once` more. They are sought with the votes of all
    arms, and with those learned for a playbook's own: which do better, trials must say.
    """
    arms = [arm for arm in cost if len(pool.decks[arm].sizes) and pool.decks[arm].sizes.min() >= search_size(arm)]
    if not arms:
        return []
    small = pool.only(arms)
    orders = Orders(small, max(1, min(ORDERS, SEARCH_WALKS // max(1, len(pool.ids)))), seed)
    scored = any(deck.scored for deck in small.decks.values())
    fits, unit = VoteFits(small), SCORE_UNIT if scored or len(arms) > 1 else VOTE_UNIT
    books: list[Playbook] = []
    of_all = fits.of(arms)
    for votes in (lambda _: of_all, fits.of) if len(arms) > 1 else (fits.of,):
        books += _found(_Setting(orders, cost, once or {}, votes, unit), arms)
    return [book for at, book in enumerate(books) if book not in books[:at]]


def _found(setting: _Setting, arms: Sequence[str]) -> list[Playbook]:
    least = min(setting.each(arm) for arm in arms)
    found: list[tuple[str, ...]] = []
    best: tuple[str, ...] = ()
    leaders: dict[str, None] = {}
    for price in PRICES:
        best = _search(setting, arms, price / least, best, leaders)
        if best and best not in found:
            found.append(best)
    return [_with_tail(setting, sequence) for sequence in found]


def _search(
    setting: _Setting, arms: Sequence[str], price: float, start: tuple[str, ...], leaders: dict[str, None]
) -> tuple[str, ...]:
    """The best sequence at a price. `leaders` are the arms that were best by themselves at dearer ones.

    They are tried whatever they are worth here, as a cascade begins with one; this price's own is added.
    """
    known: dict[tuple[str, ...], float] = {(): 0.0}
    half = setting.orders.prompts % HALVES

    def value(sequence: tuple[str, ...]) -> float:
        if sequence not in known:
            book = setting.book(sequence)
            known[sequence] = quick_value(setting.orders.walks(book), half, setting.costs(book), book, price)
        return known[sequence]

    alone = {arm: max(value((arm,) * n) for n in (1, min(3, setting.most(arm)))) for arm in arms}
    ranked = sorted(arms, key=lambda arm: -alone[arm])
    tried = list(dict.fromkeys((ranked[0], *leaders, *ranked)))[:ARMS_TRIED]
    leaders[ranked[0]] = None
    short = [*product(tried, repeat=1), *product(tried, repeat=2), *product(tried[:ARMS_IN_THREES], repeat=3)]
    few = [option for option in short if _can(setting, option)]
    current = max([start, *few], key=value)
    while True:
        for moves in (_longer, _other):
            options = [option for option in moves(current, tried) if _can(setting, option)]
            best = max(options, key=value, default=current)
            if value(best) > value(current) + LEAST_GAIN:
                current = best
                break
        else:
            return current


def _longer(sequence: tuple[str, ...], arms: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for arm in arms:
        for block in BLOCKS:
            yield (*sequence, *(arm,) * block)


def _other(sequence: tuple[str, ...], arms: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for at in range(min(FRONT, len(sequence))):
        before, after = sequence[:at], sequence[at + 1 :]
        yield (*before, *after)
        for arm in arms:
            if arm != sequence[at]:
                yield (*before, arm, *after)
                for block in BLOCKS[:2]:
                    yield (*before, *(arm,) * block, *sequence[at:])


def _can(setting: _Setting, sequence: tuple[str, ...]) -> bool:
    return 0 < len(sequence) <= LONGEST and all(
        sequence.count(arm) <= setting.most(arm) for arm in dict.fromkeys(sequence)
    )


def _with_tail(setting: _Setting, sequence: tuple[str, ...]) -> Playbook:
    """The sequence, and then its own arms in turn as far as there are candidates."""
    longer = sequence
    for _ in range(TAIL):
        arms = [arm for arm in dict.fromkeys(sequence) if longer.count(arm) < setting.most(arm)]
        if not arms:
            break
        # The arm drawn least beyond the sequence, cheapest first.
        longer = (*longer, min(arms, key=lambda arm: (longer.count(arm) - sequence.count(arm), setting.each(arm))))
    return setting.book(longer)
