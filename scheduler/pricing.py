"""Which form of the price policy a job gets: a playbook where one is known, closed forms of the beliefs elsewhere.

A fitted policy that knows the job's arms offers playbooks, and the one that does best at this budget on trial is
taken. Without labels a vote of a single arm has a playbook of its own. Several arms without labels, and searches, go by
the beliefs; objectives that count candidates have closed forms of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.keep import kept
from apportion.difficulty.playbook import Orders, Playbook, book_tables, plain_book, plain_tables
from apportion.difficulty.pools import Pool
from apportion.difficulty.search import find_playbooks
from apportion.difficulty.stopping import Tables
from apportion.difficulty.trial import Trial, try_out, watch
from apportion.policies.settings import build
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.sequenced import Sequenced

PLAIN_SELECTORS = ("majority", "weighted")
ORDERS, MOST_WALKS = 24, 24_000
"""Random orders of each labelled prompt for the tables, as far as there are no more than so many walks."""
REMEMBERED = 16
"""Sets of playbooks kept ready: a replay asks for the same ones hundreds of times."""


@dataclass(frozen=True, slots=True)
class Course:
    """A playbook with its tables and its trial, for the costs of a job."""

    book: Playbook
    tables: Tables
    trial: Trial | None


def price(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The price policy of a job. Raises ConfigError for an unknown setting."""
    chosen = build(PriceSettings, settings, "allocation")
    if problem.objective == "accuracy" and problem.prompts:
        courses = _fitted(problem, known.fitted)
        if courses:
            each = problem.budget / problem.prompts
            best = max(courses, key=lambda one: one.trial.at(each) if one.trial is not None else 0.0)
            return Sequenced(problem, best.book, best.tables, best.trial)
        if _alone(problem):
            most, by_score = _most(problem), problem.arms[0].select == "weighted"
            return Sequenced(
                problem, plain_book(problem.arms[0].name, most, by_score), plain_tables(most, by_score), None
            )
    return Price(chosen, Outlook.begin(problem, known.start), known.probe)


def _alone(problem: Problem) -> bool:
    """Whether the job is a vote of one arm."""
    arm = problem.arms[0]
    return len(problem.arms) == 1 and arm.strategy.name == "best_of_n" and arm.select in PLAIN_SELECTORS


def _most(problem: Problem) -> int:
    """Candidates a prompt may have of the first arm: what there is of it, or the largest amount the config names."""
    if problem.limits is not None:
        return max(1, int(np.max(problem.limits[:, 0])))
    return max(problem.arms[0].amounts)


_COURSES: OrderedDict[tuple[Any, ...], tuple[FittedPolicy, list[Course]]] = OrderedDict()


def _fitted(problem: Problem, fitted: FittedPolicy | None) -> list[Course]:
    """The courses of a fitted policy for the job's arms that it knows; none where it does not know them all."""
    if fitted is None or fitted.pool is None:
        return []
    names = [arm.name for arm in problem.arms]
    if any(name not in fitted.pool["decks"] for name in names):
        return []
    everyone = np.arange(problem.prompts)
    cost = {name: float(problem.costs.predict(everyone, name, 1).mean()) for name in names}
    most = _most(problem) if _alone(problem) else 0
    key = (id(fitted), tuple((name, f"{cost[name]:.6g}") for name in names), most)
    if key not in _COURSES:
        # The policy is kept beside its courses, so that its id stays its own.
        _COURSES[key] = (fitted, _courses(kept(fitted.pool).only(names), cost, problem, most))
        while len(_COURSES) > REMEMBERED:
            _COURSES.popitem(last=False)
    return _COURSES[key][1]


def _courses(pool: Pool, cost: Mapping[str, float], problem: Problem, most: int) -> list[Course]:
    books = find_playbooks(pool, cost)
    orders = Orders(pool, max(1, min(ORDERS, MOST_WALKS // max(1, len(pool.ids)))), seed=1)
    courses = []
    for book in books:
        steps = [cost[arm] * n for arm, n in book.steps]
        tables = book_tables(book, orders, steps)
        courses.append(Course(book, tables, try_out(book, orders, steps, tables.prices)))
    if most:
        arm = problem.arms[0]
        book, tables = (
            plain_book(arm.name, most, arm.select == "weighted"),
            plain_tables(most, arm.select == "weighted"),
        )
        courses.append(Course(book, tables, watch(book, tables, orders, cost[arm.name])))
    return courses
