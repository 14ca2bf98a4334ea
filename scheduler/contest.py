"""What replays of one set of arms share: the table, the two halves of the prompts, what each half may know.

Every policy and budget of a repeat is dealt the same shuffle. The halves are drawn once for a seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.costs import Unit
from apportion.difficulty.fit import fit
from apportion.difficulty.fitted import FittedPolicy, search_size
from apportion.difficulty.objectives import COUNTING, OBJECTIVES, Objective
from apportion.difficulty.pools import Deck, Pool
from apportion.errors import BudgetError, ConfigError, DataError, nearest
from apportion.policies.registry import SELECTORS
from apportion.scheduler.allocation import Allocation, Forecast, Problem
from apportion.scheduler.allocations import ALLOCATIONS, build_allocation, check_serves
from apportion.scheduler.binned import ORACLE
from apportion.scheduler.curves import truth_of
from apportion.scheduler.dealing import GRAINS, Dealer, Table, check_whole, lengths_of
from apportion.scheduler.known import Truth
from apportion.scheduler.labels import labelled
from apportion.scheduler.ledger import ROUNDING
from apportion.scheduler.playing import Game, Make, Played, play, problem_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROBE = 4
"""Candidates a policy may look at first: what `difficulty.probe` is in a job's config unless it says otherwise."""
FOLDS = 2
PLAYED = tuple(name for name in ALLOCATIONS if name != "calibration")
"""All but the policy that records pools."""
MANY_ARMS = frozenset({"price", "oracle", "binned"})
"""Policies that choose among arms; the others are replayed on each arm by itself."""
NEED_TRUTH = frozenset({"oracle"})
NEED_LABELS = frozenset({"binned", "damani"})
FORECAST = frozenset({"price"})
"""Policies whose forecast is recorded beside what they reached."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all replays of a command have in common.

    `fitted` is known to every policy; with `cross` each half of the prompts knows what the other was fitted to.
    `select` None is each arm's own (`default_select`).
    """

    repeats: int = 20
    seed: int = 0
    cross: bool = False
    fitted: FittedPolicy | None = None
    goal: Objective = field(default_factory=Objective)
    select: str | None = None
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy on some arms, at budgets per prompt in `unit`."""

    arms: tuple[str, ...]
    policy: str
    unit: Unit
    budgets: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """Some prompts of a contest that are played as one job, and what is known of them beforehand."""

    prompts: Ints
    lengths: Mapping[str, float]
    fitted: FittedPolicy | None


class Contest:
    """A pool's arms, ready to be played on."""

    def __init__(self, pool: Pool, arms: Sequence[str], unit: Unit, terms: Terms) -> None:
        self.terms = terms
        self.unit = unit
        self._pool = pool.only(arms)
        select = {name: terms.select or default_select(deck) for name, deck in self._pool.decks.items()}
        checkable = terms.goal.name != "accuracy"
        if checkable:
            select = dict.fromkeys(select, "max_score")
        self._table = Table(self._pool, self.unit, select, revealed=checkable)
        self._parts = [self._part(one, other) for one, other in self._split()]
        self._known_truth: Truth | None = None

    def repeat(self, entry: Entry, repeat: int) -> tuple[Floats, Floats]:
        """One repeat at every budget of an entry: what each prompt reached and cost, [budgets, prompts].

        The prompts come in a random order too, the same for all: how a pool is sorted is nobody's to know.
        """
        value, cost = np.zeros((2, len(entry.budgets), len(self._pool.ids)))
        for at, order, played in self._played(entry, repeat):
            value[at, order], cost[at, order] = played.value, played.cost
        return value, cost

    def shares(self, entry: Entry, repeat: int) -> Floats:
        """What each prompt spent on each arm in one repeat at every budget, [budgets, prompts, arms]."""
        spent = np.zeros((len(entry.budgets), len(self._pool.ids), len(self._table.names)))
        for at, order, played in self._played(entry, repeat):
            spent[at, order] = played.by_arm
        return spent

    def _played(self, entry: Entry, repeat: int) -> Iterator[tuple[int, Ints, Played]]:
        """One repeat, part by part: the budget's place, the part's prompts, and what came of it."""
        dealer = Dealer(self._table, self.terms.seed, repeat)
        rng = np.random.default_rng([self.terms.seed, repeat])
        orders = [part.prompts[rng.permutation(len(part.prompts))] for part in self._parts]
        for at, budget in enumerate(entry.budgets):
            for part, order in zip(self._parts, orders, strict=True):
                game, make = self._game(part, order, budget), self._make(entry, part, order)
                yield at, order, play(self._table, game, make, dealer)

    def forecast(self, entry: Entry) -> Floats:
        """What the policy says beforehand of each budget: value, low and high, [budgets, 3].

        The halves' errors are taken to be independent, as their prompts are.
        """
        share = np.array([len(part.prompts) for part in self._parts]) / len(self._pool.ids)
        rows = []
        for budget in entry.budgets:
            said = [self._forecast(entry, part, budget) for part in self._parts]
            value = float(share @ [one.value for one in said])
            below = float(np.linalg.norm(share * [one.value - one.low for one in said]))
            above = float(np.linalg.norm(share * [one.high - one.value for one in said]))
            rows.append((value, max(0.0, value - below), min(1.0, value + above)))
        return np.array(rows)

    def _forecast(self, entry: Entry, part: Part, budget: float) -> Forecast:
        game = self._game(part, part.prompts, budget)
        problem, _, _ = problem_of(self._table, game)
        return self._make(entry, part, part.prompts)(problem).forecast([game.budget])[0]

    def _game(self, part: Part, prompts: Ints, budget: float) -> Game:
        return Game(prompts, budget * len(prompts), self.terms.goal, part.lengths, self.terms.in_flight)

    def _make(self, entry: Entry, part: Part, prompts: Ints) -> Make:
        needed = entry.policy in NEED_TRUTH or entry.settings.get("difficulty") == ORACLE
        truth = self._truth(prompts) if needed else None

        def make(problem: Problem) -> Allocation:
            return build_allocation(entry.policy, entry.settings, problem, PROBE, part.fitted, truth)

        return make

    def _truth(self, prompts: Ints) -> Truth:
        """The truth about some prompts, in the order given."""
        if self._known_truth is None:
            self._known_truth = truth_of(self._pool, self.terms.goal.name, self._table.select, self.unit)
        whole = self._known_truth
        return Truth(
            whole.amounts,
            {name: curve[prompts] for name, curve in whole.curves.items()},
            {name: cost[prompts] for name, cost in whole.costs.items()},
        )

    def _split(self) -> list[tuple[Ints, Ints]]:
        """The parts of the prompts that are played as one job, each with the prompts it may be fitted on."""
        everyone = np.arange(len(self._pool.ids))
        if not self.terms.cross:
            return [(everyone, everyone)]
        if len(everyone) < FOLDS:
            raise DataError(f"pool {self._pool.name} has {len(everyone)} prompts, too few to split: use --fit none")
        order = np.random.default_rng([self.terms.seed, FOLDS]).permutation(everyone)
        halves = [np.sort(half) for half in np.array_split(order, FOLDS)]
        return [(halves[0], halves[1]), (halves[1], halves[0])]

    def _part(self, prompts: Ints, others: Ints) -> Part:
        other = self._pool.part(others)
        lengths = {name: mean_length(other, name, self.unit) for name in other.decks}
        return Part(prompts, lengths, fit([other]) if self.terms.cross else self.terms.fitted)


def goal_of(text: str) -> Objective:
    """An objective as it is written on the command line: a name, and for quota and pairs a number after a colon.

    Raises ConfigError.
    """
    name, _, number = text.partition(":")
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r} is unknown: {nearest(name, OBJECTIVES)}")
    if (name in COUNTING) != number.isdigit() or number == "0":
        example = f"write {name}:K, such as {name}:4" if name in COUNTING else f"write {name} alone"
        raise ConfigError(f"objective is {text!r}; {example}")
    return Objective(name, int(number)) if number else Objective(name)


def unit_of(name: str) -> Unit:
    """The unit of that name. Raises ConfigError for one that no pool records."""
    if name not in GRAINS:
        raise ConfigError(f"unit {name!r} is not recorded in pools: {nearest(name, [unit.value for unit in GRAINS])}")
    return Unit(name)


def default_unit(pool: Pool) -> Unit:
    """The first of FLOPs, tokens and dollars that is known of every candidate, else samples.

    FLOPs first: they tell a large model's token from a small one's.
    """
    units = (Unit.FLOPS, Unit.TOKENS, Unit.DOLLARS, Unit.SAMPLES)
    return next(unit for unit in units if all(np.isfinite(deck.cost(unit)).all() for deck in pool.decks.values()))


def default_select(deck: Deck) -> str:
    """Weighted by scores where an arm has them, by the highest where it has one candidate a prompt; else majority."""
    if not deck.scored:
        return "majority"
    return "weighted" if deck.sizes.max(initial=0) > 1 else "max_score"


def mean_length(pool: Pool, arm: str, unit: Unit) -> float:
    """Mean over prompts of the mean length of a candidate, as `Table` counts lengths."""
    deck = pool.deck(arm)
    total = np.bincount(deck.owner, weights=lengths_of(pool.name, deck, unit), minlength=len(deck.sizes))
    return float((total[deck.sizes > 0] / deck.sizes[deck.sizes > 0]).mean())


def mean_costs(pool: Pool, unit: Unit) -> dict[str, float]:
    """What one candidate of each arm costs on average, in the unit."""
    if unit is Unit.SAMPLES:
        return dict.fromkeys(pool.decks, 1.0)
    return {name: GRAINS[unit] * mean_length(pool, name, unit) for name in pool.decks}


def least_costs(pool: Pool, unit: Unit) -> dict[str, float]:
    """What the least purchase of each arm costs on average: one candidate, or a search whole, and its prompt."""
    return {
        name: search_size(name) * cost + _reading(pool.decks[name], unit)
        for name, cost in mean_costs(pool, unit).items()
    }


def _reading(deck: Deck, unit: Unit) -> float:
    """Mean cost of reading a prompt that has candidates."""
    some = deck.sizes > 0
    return 0.0 if deck.reuse is None or not some.any() else float(deck.reuse.reading(unit)[some].mean())


def spread(pool: Pool, unit: Unit, count: int) -> tuple[float, ...]:
    """`count` budgets per prompt, geometric: the cheapest least purchase, to all candidates of the dearest arm."""
    each = least_costs(pool, unit)
    whole = 0.0
    for deck in pool.decks.values():
        if unit is Unit.SAMPLES:
            spent = float(len(deck.correct))
        else:
            spent = float(lengths_of(pool.name, deck, unit).sum()) * GRAINS[unit]
            spent += 0.0 if deck.reuse is None else float(deck.reuse.reading(unit).sum())
        whole = max(whole, spent / len(pool.ids))
    return tuple(np.geomspace(min(each.values()), max(whole, min(each.values())), count).tolist())


def check_budgets(pool: Pool, unit: Unit, budgets: Sequence[float]) -> None:
    """Raise BudgetError where a budget buys nothing, and DataError where there is nothing to buy of an arm."""
    check_whole(pool)
    prompts = len(pool.ids)
    cheapest, arm = min((mean, name) for name, mean in least_costs(pool, unit).items())
    for budget in budgets:
        if not budget * prompts >= cheapest * (1.0 - ROUNDING):
            raise BudgetError(
                f"a budget of {budget:g} {unit} per prompt is less, over the {prompts} prompts of pool {pool.name}, "
                f"than the cheapest purchase costs on average: {search_size(arm)} of arm {arm!r}, {cheapest:g}; give "
                "larger --budgets"
            )


def check_terms(terms: Terms, policies: Sequence[str]) -> None:
    """Raise ConfigError for a name or number that no replay could use."""
    for policy in policies:
        if policy not in PLAYED:
            raise ConfigError(f"policy {policy!r} is unknown: {nearest(policy, PLAYED)}")
        check_serves(policy, terms.goal)
        if policy in NEED_LABELS and not terms.cross:
            labelled(policy, terms.fitted)
    if terms.select is not None and terms.select not in SELECTORS:
        raise ConfigError(f"select {terms.select!r} is unknown: {nearest(terms.select, SELECTORS)}")
    if terms.repeats < 1:
        raise ConfigError(f"repeats is {terms.repeats}; play at least 1")
    if terms.seed < 0:
        raise ConfigError(f"seed is {terms.seed}; use at least 0")
