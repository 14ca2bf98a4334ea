"""Courses: what the best of many promises is lowered to about what it keeps on prompts nobody has seen."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from choice_world import COST, candidates, cascade_pool
from pool_world import make_pool

from apportion.difficulty import courses, playbook, search
from apportion.difficulty.courses import ended, even_courses, fitted_courses, vote_course
from apportion.difficulty.playbook import Orders
from apportion.difficulty.trial import watch

EACH = (1.0, 2.0, 4.0, 6.0)
"""Mean costs a prompt at which choices are compared."""
ALIKE = {"a": 1.0, "b": 1.5, "c": 2.0}
"""Arms that differ little: which is best is mostly luck."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(search, "PRICES", search.PRICES[1::3])
    monkeypatch.setattr(search, "SEARCH_WALKS", 400)
    monkeypatch.setattr(courses, "MOST_WALKS", 600)
    monkeypatch.setattr(playbook, "IMAGINED", 4000)
    playbook._plain_tables.cache_clear()
    yield
    playbook._plain_tables.cache_clear()


def alike(prompts, seed, count=4):
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.0, 1.5, prompts)
    rates = {arm: ease + rng.normal(0.2 * at, 1.0, prompts) for at, arm in enumerate(ALIKE)}
    return make_pool({arm: candidates(1.0 / (1.0 + np.exp(-one)), count, rng, 3) for arm, one in rates.items()})


def best_course(found, each):
    return max(found, key=lambda one: one.trial.at(each))


def rate(pool):
    return float(np.mean([deck.correct.mean() for deck in pool.decks.values()]))


@cache
def promises():
    """What the best course promised raw, lowered, and on fresh prompts; less what these are easier by, [cases, 3]."""
    found = []
    for seed in range(6):
        pool, fresh = alike(60, seed), alike(600, 1000 + seed)
        lowered = fitted_courses(pool, ALIKE)
        few, courses.FEWEST_PROMPTS = courses.FEWEST_PROMPTS, 1 << 30
        raw = fitted_courses(pool, ALIKE)
        courses.FEWEST_PROMPTS = few
        orders, easier = Orders(fresh, 3, seed=1), rate(fresh) - rate(pool)
        for each in EACH:
            chosen = best_course(raw, each)
            kept = watch(chosen.book, chosen.tables, orders, 1.0).at(each) - easier
            found.append((chosen.trial.at(each), best_course(lowered, each).trial.at(each), kept))
    return np.array(found)


def test_the_best_of_many_promises_more_than_it_keeps():
    raw, _, kept = promises().T
    assert (raw - kept).mean() > 0.005


def test_lowered_it_promises_about_what_it_keeps():
    raw, lowered, kept = promises().T
    assert abs((lowered - kept).mean()) < (raw - kept).mean()
    assert (lowered - kept).mean() > -0.02


def test_a_promise_is_never_raised():
    raw, lowered, _ = promises().T
    assert (lowered <= raw + 1e-9).all()
    assert (lowered >= 0.0).all()


def test_what_is_chosen_from_beside_is_lowered_alike(monkeypatch):
    pool = alike(60, 0)
    beside = vote_course(pool, "a", 1.0, 4, False, None)
    *sought, other = fitted_courses(pool, ALIKE, beside=[beside])
    assert [one.trial.value.tolist() for one in sought] == [
        one.trial.value.tolist() for one in fitted_courses(pool, ALIKE)
    ]
    monkeypatch.setattr(courses, "FEWEST_PROMPTS", 1 << 30)
    raw = fitted_courses(pool, ALIKE)
    lost = float((raw[0].trial.value - sought[0].trial.value).max())
    assert lost > 0.0
    np.testing.assert_allclose(other.trial.value, np.maximum(beside.trial.value - lost, 0.0))


def test_tables_are_for_the_costs_of_the_job():
    for one in fitted_courses(cascade_pool(), COST):
        assert one.tables.cost.tolist() == [COST[arm] * n for arm, n in one.book.steps]
        assert (one.trial.prices == one.tables.prices).all()


@pytest.mark.parametrize("prompts", [0, 1, 2, 5])
def test_hardly_any_prompts(prompts):
    pool = cascade_pool(8).part(np.arange(prompts))
    for one in fitted_courses(pool, COST):
        assert np.isfinite(one.trial.value).all()
        assert np.isfinite(one.tables.critical).all()
        assert one.trial.prompts == prompts


def test_the_same_pool_gives_the_same_courses():
    one, other = (fitted_courses(cascade_pool(48), COST) for _ in range(2))
    assert [course.book for course in one] == [course.book for course in other]
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.trial.value, second.trial.value)
        np.testing.assert_array_equal(first.tables.critical, second.tables.critical)


def test_a_plain_vote_is_tried_on_the_pool_in_the_budgets_unit():
    pool = cascade_pool(30)
    cheap = vote_course(pool, "cheap", 3.0, 16, False, None)
    assert not cheap.book.labelled
    assert cheap.trial.prompts == 30
    assert 3.0 * 2 < cheap.trial.cost[0] <= 3.0 * 8 + 1e-9
    assert cheap.trial.at(9.0) == pytest.approx(vote_course(pool, "cheap", 1.0, 16, False, None).trial.at(3.0))
    dear = vote_course(pool, "dear", 3.0, 16, False, None)
    assert dear.trial.at(9.0) > cheap.trial.at(9.0) + 0.1


def tempting(share, rate, prompts=80):
    """A vote of one arm with two answers, of which the right one is drawn at a low `rate` for this share of prompts."""
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(prompts) < share * prompts, rate, 0.9)
    return make_pool({"a": candidates(rates, 24, rng, 1)})


def test_where_votes_go_wrong_the_more_they_are_no_more_are_bought_however_cheap():
    pool = tempting(0.7, 0.3)
    made = [vote_course(pool, "a", 1.0, 16, False, None), *even_courses(pool, {"a": 1.0}, {"a": False})]
    assert made[1:]
    for course in made:
        best = float(course.trial.value.max())
        assert course.trial.value[0] < best - 0.08
        short = ended(course)
        clearly = courses.CLEARLY / np.sqrt(len(pool.ids))
        assert (short.trial.value[: np.argmax(course.trial.value) + 1] >= best - clearly).all()
        assert short.trial.cost.max() < 0.5 * course.trial.cost.max()
        # What is left to sell is sold at the same prices, and is what it says it will spend.
        some = short.tables.critical > 0.0
        assert (short.tables.critical[some] == course.tables.critical[some]).all()
        again = watch(short.book, short.tables, Orders(pool, 3, seed=1), 1.0)
        assert again.cost.max() < 0.5 * course.trial.cost.max()
        assert short.trial.at(16.0) == pytest.approx(course.trial.at(16.0))


@pytest.mark.parametrize("rate", [0.0, 0.6, 0.8])
def test_where_votes_do_no_harm_all_is_sold(rate):
    pool = tempting(0.7, rate)
    for course in [vote_course(pool, "a", 1.0, 16, False, None), *even_courses(pool, {"a": 1.0}, {"a": False})]:
        short = ended(course)
        np.testing.assert_array_equal(short.tables.critical, course.tables.critical)
        np.testing.assert_array_equal(short.trial.cost, course.trial.cost)
