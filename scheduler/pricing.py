"""Which form of the price policy a job gets: a playbook where one is known, closed forms of the beliefs elsewhere.

A fitted policy that knows the job's arms offers playbooks, the even ones of each arm among them, and the one that does
best at this budget on trial is taken. Without labels a vote of a single arm has a playbook of its own. Several arms
without labels, and searches, go by the beliefs, and so does a job that looked at its prompts' hidden states; objectives
that count candidates have closed forms of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from apportion.difficulty.courses import CLEARLY, Course, ended, even_courses, fitted_courses, vote_course
from apportion.difficulty.fitted import AT, FittedPolicy, is_search, search_size
from apportion.difficulty.keep import kept
from apportion.difficulty.playbook import plain_book, plain_tables
from apportion.difficulty.pools import Pool
from apportion.difficulty.vote_length import fit_slope
from apportion.difficulty.votes import Votes
from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.policies.strategy import draws_independently
from apportion.scheduler.allocation import UNBOUNDED, Allocation, Problem
from apportion.scheduler.counted import Counted
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.reading import Reading
from apportion.scheduler.sequenced import Sequenced

PLAIN_SELECTORS = ("majority", "weighted")
LONGEST_VOTE = 118
"""Candidates of one arm a prompt is given at most: a vote that is open after a hundred is open after a thousand, and
the grid of the tables tells votes apart up to here."""
UNTAUGHT_SLOPE = -0.05
"""Tilt of a plain vote that no labels taught: ties and all but ties go to the shorter responses, which with most models
are right more often (Hassid et al. 2025, arXiv 2505.17813). See benchmarks/greedy.py."""
REMEMBERED = 16
"""Sets of playbooks kept ready: a replay asks for the same ones hundreds of times."""


def price(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The price policy of a job. Raises ConfigError for a setting that is unknown or out of range."""
    chosen = own_settings(PriceSettings, settings)
    if not 0.0 < chosen.stride <= 1.0:
        raise ConfigError(
            f"allocation.stride is {chosen.stride}; it is the share of a purchase to buy at once, above 0 and at most 1"
        )
    if problem.counts:
        return Counted(problem, known.start)
    # A playbook goes by votes alone; what was paid to be known of each prompt beforehand, beliefs take in.
    if problem.objective == "accuracy" and problem.prompts and problem.guessed is None:
        sources = _sources(problem, known.fitted)
        courses = _courses(problem, sources, known.fitted) if sources and known.fitted is not None else []
        if courses:
            sold = {name: source.arm.name for name, source in sources.items()}
            each = problem.budget / problem.prompts
            courses = [_as_served(one, problem, sold) for one in courses]
            best = max(courses, key=lambda one: one.trial.worth(each))
            others = [one for one in courses if one is not best]
            return Sequenced(problem, best.book, best.tables, best.trial, chosen.stride, sold, others, best.once)
        if _alone(problem):
            most, by_score = _most(problem), _by_score(problem)
            book, tables = plain_book(problem.arms[0].name, most, by_score), plain_tables(most, by_score)
            if problem.arms[0].select == "majority":
                book = replace(book, votes=Votes(slope=UNTAUGHT_SLOPE))
            return Sequenced(problem, book, tables, None, chosen.stride)
    tight = replace(problem, arms=tuple(map(_from_one, problem.arms)))

    @cache
    def begin(fits: bool) -> Outlook:
        return Outlook.begin(problem if fits else tight, known.start)

    least = _least(problem)
    return Price(chosen, begin(problem.budget >= least), known.probe, lambda budget: begin(budget >= least))


def _from_one(arm: Arm) -> Arm:
    """The arm with one sample, too, where it samples and sells no less than more.

    Where the least amount of the config cannot be bought for all prompts, one candidate for each of more is better.
    """
    alone = draws_independently(arm.strategy) and 1 not in arm.amounts and arm.strategy.check(1) is None
    return replace(arm, amounts=(1, *arm.amounts)) if alone else arm


def _least(problem: Problem) -> float:
    """What the cheapest purchase is expected to cost for all prompts."""
    everyone = np.arange(problem.prompts)
    return min(float(problem.costs.predict(everyone, arm.name, min(arm.amounts)).sum()) for arm in problem.arms)


def _alone(problem: Problem) -> bool:
    """Whether the job is a vote of one arm."""
    arm = problem.arms[0]
    return len(problem.arms) == 1 and draws_independently(arm.strategy) and _plain(arm)


def _plain(arm: Arm) -> bool:
    return arm.select in PLAIN_SELECTORS


def _by_score(problem: Problem) -> bool:
    return problem.arms[0].select == "weighted"


def _most(problem: Problem) -> int:
    """Candidates a prompt may have of the first arm: what there is of it, or the largest amount the config names."""
    most = problem.most(0)
    return min(max(problem.arms[0].amounts) if most >= UNBOUNDED else max(1, most), LONGEST_VOTE)


_COURSES: OrderedDict[tuple[Any, ...], tuple[FittedPolicy, list[Course]]] = OrderedDict()


def _courses(problem: Problem, sources: Mapping[str, _Source], fitted: FittedPolicy) -> list[Course]:
    """The courses of a fitted policy for the job's arms; none where one costs nothing."""
    cost = {name: _each(problem, source) for name, source in sources.items()}
    reading = Reading(problem, {name: source.arm.name for name, source in sources.items()})
    once = {name: float(fixed.mean()) for name, fixed in reading.fixed.items() if fixed.any()}
    if min(cost.values()) <= 0.0:
        return []
    most = _most(problem) if _alone(problem) else 0
    costs = tuple(
        (name, source.deck, f"{cost[name]:.6g}", f"{once.get(name, 0.0):.6g}") for name, source in sources.items()
    )
    unscored = tuple(name for name, source in sources.items() if not _scores(problem, source.arm))
    weighs = {name: source.arm.select == "weighted" for name, source in sources.items() if _plain(source.arm)}
    key = (id(fitted), costs, most, tuple(weighs.items()), unscored)
    if key not in _COURSES:
        # The policy is kept beside its courses, so that its id stays its own.
        pool = _whole(_named(kept(fitted.pool or {}), sources, unscored))
        even = even_courses(pool, cost, weighs, once)
        found = [ended(one) for one in _make(fitted, pool, cost, once, problem, most, even)]
        unsure = most and not any(one.book.labelled for one in found)
        _COURSES[key] = (fitted, [*found[:1], *map(_doubted, found[1:])] if unsure else found)
        while len(_COURSES) > REMEMBERED:
            _COURSES.popitem(last=False)
    return _COURSES[key][1]


def _doubted(course: Course) -> Course:
    """A course that is to be taken only where it is clearly better: all that vote by one arm know nearly the same."""
    return replace(course, trial=replace(course.trial, doubt=CLEARLY / np.sqrt(max(1, course.trial.prompts))))


def _as_served(course: Course, problem: Problem, sold: Mapping[str, str]) -> Course:
    """The course as it does on the job's prompts, of which those that its arms have nothing for reach nothing."""
    if problem.limits is None:
        return course
    place = {arm.name: at for at, arm in enumerate(problem.arms)}
    mine = problem.limits[:, sorted({place[sold[name]] for name in course.book.arms})]
    share, trial = float((mine > 0).any(axis=1).mean()), course.trial
    return replace(course, trial=replace(trial, cost=trial.cost * share, value=trial.value * share))


@dataclass(frozen=True, slots=True)
class _Source:
    """What a playbook's arm is: an arm of the job, and its deck in the pool, of which one step takes `n`."""

    arm: Arm
    deck: str
    n: int


def _sources(problem: Problem, fitted: FittedPolicy | None) -> dict[str, _Source]:
    """The playbook's arms for those of the job, by name; none where the pool does not know them all.

    An arm that draws independently is the deck of its name, or where it samples its model, of the model's; a search, or
    samples recorded so, are a deck for each amount sold (beam@4, beam@16), and an arm of a replay is its own deck.
    There are none either where two arms of the job would be one deck: its candidates would vote twice, and the arms
    differ in settings that the pool knows nothing of.
    """
    known = {} if fitted is None or fitted.pool is None else fitted.pool["decks"]
    found: dict[str, _Source] = {}
    for arm in problem.arms:
        decks: dict[str, str] = {}
        if draws_independently(arm.strategy) and not is_search(arm.name):
            names = (arm.name, arm.policy) if arm.samples else (arm.name,)
            deck = next((name for name in names if name in known), None)
            decks = {} if deck is None else {arm.name: deck}
        if not decks:
            amounts = {f"{arm.name}{AT}{n}" for n in arm.amounts} | {arm.name}
            decks = {name: name for name in sorted(amounts) if name in known and is_search(name)}
        if not decks:
            return {}
        found |= {name: _Source(arm, deck, search_size(name)) for name, deck in decks.items()}
    return found if len({source.deck for source in found.values()}) == len(found) else {}


def _scores(problem: Problem, arm: Arm) -> bool:
    """Whether the arm's candidates may have scores: of a verifier, or as they were recorded."""
    return arm.scored or problem.recorded


def _named(pool: Pool, sources: Mapping[str, _Source], unscored: Sequence[str]) -> Pool:
    """The pool of these arms under the playbook's names for them, without the scores they will not have in the job."""
    decks = {name: replace(pool.deck(source.deck), arm=name) for name, source in sources.items()}
    decks |= {name: replace(decks[name], score=np.full(len(decks[name].score), np.nan)) for name in unscored}
    return replace(pool, decks=decks)


def _each(problem: Problem, source: _Source) -> float:
    """Mean cost of one candidate more of an arm; of a search, its share of the whole."""
    everyone, name = np.arange(problem.prompts), source.arm.name
    if is_search(source.deck):
        return float(problem.costs.predict(everyone, name, source.n).mean()) / source.n
    once, twice = (problem.costs.predict(everyone, name, n) for n in (1, 2))
    return float((twice - once).mean())


def _whole(pool: Pool) -> Pool:
    """The pool without the prompts that have few candidates of an arm: walks take as many of every prompt.

    Few is under half of what most have, as where a recording ended early; none is always too few.
    """
    full = np.ones(len(pool.ids), dtype=bool)
    for deck in pool.decks.values():
        some = deck.sizes[deck.sizes > 0]
        full &= deck.sizes >= max(1.0, 0.5 * float(np.median(some)) if len(some) else 1.0)
    return pool.part(np.flatnonzero(full))


def _make(
    fitted: FittedPolicy,
    pool: Pool,
    cost: Mapping[str, float],
    once: Mapping[str, float],
    problem: Problem,
    most: int,
    even: Sequence[Course],
) -> list[Course]:
    """All courses, the even ones among them.

    Labels teach how to weigh scores, arms and lengths. For a plain vote of one arm they teach the prior beside.
    """
    if not pool.ids:
        return list(even)
    if not most:
        return fitted_courses(pool, cost, once, even)
    name = problem.arms[0].name
    prior = np.array(fitted.prior) if fitted.reference in (name, problem.arms[0].policy) else None
    reading = once.get(name, 0.0)
    alone = [vote_course(pool, name, cost[name], most, _by_score(problem), prior, reading), *even]
    if pool.decks[name].scored:
        return fitted_courses(pool, cost, once, alone)
    # What is to be chosen by scores, which this pool has not, is not to be chosen by lengths.
    slope = fit_slope(pool.deck(name)) if problem.arms[0].select == "majority" else 0.0
    return [vote_course(pool, name, cost[name], most, False, prior, reading, slope), *alone] if slope else alone
