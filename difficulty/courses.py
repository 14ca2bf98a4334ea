"""Courses: playbooks for a job's arms and costs, with their tables and what they did on trial.

A course that was chosen among many because it did best on trial does worse elsewhere. By how much is measured: the
search is run on either half of the prompts and its choices tried on the other, and the trials of the courses are
lowered by what was lost there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.even import even_book, even_tables
from apportion.difficulty.fitted import search_size
from apportion.difficulty.playbook import Orders, Playbook, book_tables, plain_book, plain_tables
from apportion.difficulty.pools import Pool
from apportion.difficulty.search import find_playbooks
from apportion.difficulty.stopping import Tables
from apportion.difficulty.trial import Trial, try_out, watch
from apportion.difficulty.vote_length import spread_of
from apportion.difficulty.votes import Votes, fit_votes

Floats = NDArray[np.float64]

ORDERS, MOST_WALKS = 24, 24_000
"""Random orders of each labelled prompt for the tables, as far as there are no more than so many walks."""
BUDGETS = 8
"""Mean costs a prompt at which the optimism of a choice is measured, over the range that the courses cover."""
HALF_OPTIMISM = 0.6
"""Half the prompts choose worse than all of them: what is lost goes about with one over the root of their number."""
CLEARLY = 0.2
"""Over the root of the number of prompts: about the noise between two courses that differ on one prompt in 25."""
FEWEST_PROMPTS = 40
"""With fewer, halves are too small to tell anything, and the optimism is left to the interval."""


@dataclass(frozen=True, slots=True)
class Course:
    """A playbook with its tables and its trial, for the costs of a job.

    `once` is what the first candidate of an arm costs more, as the prompt is read for it, where the tables have it in.
    The trial always has.
    """

    book: Playbook
    tables: Tables
    trial: Trial
    once: Mapping[str, float] = field(default_factory=dict)


def vote_course(
    pool: Pool,
    arm: str,
    cost: float,
    most: int,
    by_score: bool,
    prior: Floats | None,
    once: float = 0.0,
    slope: float = 0.0,
) -> Course:
    """A vote of one arm by prompts imagined from a prior, tried on the pool. Its tables leave `once` out.

    With a `slope` length tilts the votes.
    """
    lengths = spread_of(pool.deck(arm), slope) if slope else None
    book, tables = plain_book(arm, most, by_score, slope), plain_tables(most, by_score, prior, lengths)
    trial = watch(book, tables, _orders(pool), cost)
    return Course(book, tables, replace(trial, cost=np.where(trial.cost > 0.0, trial.cost + once, 0.0)))


def fitted_courses(
    pool: Pool, cost: Mapping[str, float], once: Mapping[str, float] | None = None, beside: Sequence[Course] = ()
) -> list[Course]:
    """Courses over the arms that `cost` names: of one candidate, in the budget's unit; the first costs `once` more.

    Then those `beside`, as much lowered: the best is chosen from them all.
    """
    once = once or {}
    sought = _found(pool, cost, once)
    found = [*sought, *beside]
    if len(sought) < 2 or len(pool.ids) < FEWEST_PROMPTS:
        return found
    lost = HALF_OPTIMISM * max(0.0, _optimism(pool, cost, once))
    return [replace(one, trial=replace(one.trial, value=np.maximum(one.trial.value - lost, 0.0))) for one in found]


def even_courses(
    pool: Pool, cost: Mapping[str, float], by_score: Mapping[str, bool], once: Mapping[str, float] | None = None
) -> list[Course]:
    """The even courses of each arm that `cost` names: by its own selector, where `by_score` says that it weighs votes
    by scores or counts them, and by learned votes, where there are any to learn. Costs are as for `fitted_courses`."""
    once, orders, found = once or {}, _orders(pool), []
    for arm in cost:
        most = orders.most(arm)
        if most < search_size(arm):
            continue
        learned = fit_votes(pool, [arm])
        plain = [(Votes(by_score=by_score[arm]), False)] if arm in by_score else []
        for votes, labelled in [*plain, *([(learned, True)] if learned.curves else [])]:
            book = even_book(arm, most, votes, labelled)
            tables = even_tables(book, orders, book.costs(cost, once))
            found.append(Course(book, tables, watch(book, tables, orders, 1.0), once))
    return found


def ended(course: Course) -> Course:
    """The course that sells nothing below the lowest price at which its trial was not clearly worse than at its best.

    Where the more votes there are the more often they go wrong, more of them are not bought however much money is left.
    """
    trial, tables = course.trial, course.tables
    clearly = CLEARLY / np.sqrt(max(1, trial.prompts))
    level = int(np.flatnonzero(trial.value >= trial.value.max() - clearly)[0])
    levels = np.maximum(np.arange(len(trial.prices)), level)
    critical = (
        np.where(tables.critical > trial.prices[level], tables.critical, np.float32(0.0)) if level else tables.critical
    )
    tables = replace(tables, critical=critical, reach=tables.reach[..., levels], spend=tables.spend[..., levels])
    return replace(course, tables=tables, trial=replace(trial, cost=trial.cost[levels], value=trial.value[levels]))


def _found(pool: Pool, cost: Mapping[str, float], once: Mapping[str, float]) -> list[Course]:
    orders, courses = _orders(pool), []
    for book in find_playbooks(pool, cost, once=once):
        steps = book.costs(cost, once)
        tables = book_tables(book, orders, steps)
        courses.append(Course(book, tables, try_out(book, orders, steps, tables.prices), once))
    return courses


def _optimism(pool: Pool, cost: Mapping[str, float], once: Mapping[str, float]) -> float:
    """How much less the choices of one half reach on the other than they promised, on average over budgets."""
    lost = []
    half = np.arange(len(pool.ids)) % 2
    for one in range(2):
        courses = _found(pool.part(np.flatnonzero(half == one)), cost, once)
        if not courses:
            continue
        others = _orders(pool.part(np.flatnonzero(half != one)))
        tests = [watch(course.book, course.tables, others, 1.0) for course in courses]
        costs = [float(course.trial.cost[course.trial.cost > 0.0].min(initial=np.inf)) for course in courses]
        range_ = min(costs), max(float(course.trial.cost.max()) for course in courses)
        if not np.isfinite(range_[0]):
            continue
        for each in np.geomspace(*range_, BUDGETS):
            at = max(range(len(courses)), key=lambda at: courses[at].trial.at(each))
            lost.append(courses[at].trial.at(each) - tests[at].at(each))
    return float(np.mean(lost)) if lost else 0.0


def _orders(pool: Pool) -> Orders:
    return Orders(pool, max(1, min(ORDERS, MOST_WALKS // max(1, len(pool.ids)))), seed=1)
