"""The search finds what was hidden in the pool: a cascade where one pays, and nothing where nothing does."""

from __future__ import annotations

import numpy as np
import pytest
from choice_world import COST, candidates, cascade_pool
from pool_world import make_pool

from apportion.difficulty import search
from apportion.difficulty.playbook import Orders, Playbook, book_tables
from apportion.difficulty.search import find_playbooks
from apportion.difficulty.trial import try_out
from apportion.difficulty.votes import fit_votes

PRICES = search.PRICES


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(search, "PRICES", search.PRICES[1::3])
    monkeypatch.setattr(search, "SEARCH_WALKS", 800)


def trial_of(pool, book, cost):
    orders = Orders(pool, 12, seed=1)
    steps = [cost[arm] * n for arm, n in book.steps]
    return try_out(book, orders, steps, book_tables(book, orders, steps).prices)


def alone(pool, arm, cost):
    book = Playbook(((arm, 1),) * 8, fit_votes(pool, [arm]), labelled=True)
    return trial_of(pool, book, cost)


@pytest.mark.parametrize("seed", range(3))
def test_where_money_is_dear_it_starts_cheap_and_goes_on_to_the_expensive_arm(seed):
    books = find_playbooks(cascade_pool(seed=seed), COST)
    assert books[0].arms == ("cheap", "dear")
    assert books[0].labelled


def test_the_expensive_arm_is_bought_only_where_the_vote_is_open():
    pool = cascade_pool()
    book = next(book for book in find_playbooks(pool, COST) if "dear" in book.arms)
    steps = [COST[arm] * n for arm, n in book.steps]
    orders = Orders(pool, 12, seed=1)
    tables, walks = book_tables(book, orders, steps), orders.walks(book)
    limit = tables.critical[np.arange(len(steps) + 1), tables.grid.cells(walks.first, walks.second)]
    stop = np.argmax(limit <= 0.01, axis=1)
    dear = np.cumsum([0, *(n * (arm == "dear") for arm, n in book.steps)])[stop] > 0
    hard = orders.prompts % 3 == 2
    assert dear[~hard].mean() < 0.35
    assert dear[hard].mean() > 0.75


def test_on_trial_it_beats_both_arms_alone_at_equal_cost():
    pool = cascade_pool()
    trials = [trial_of(pool, book, COST) for book in find_playbooks(pool, COST)]
    singles = [alone(pool, arm, COST) for arm in COST]
    for cost in (5.0, 7.0):
        assert max(one.at(cost) for one in trials) > max(one.at(cost) for one in singles) + 0.05
    for cost in (2.0, 20.0):
        assert max(one.at(cost) for one in trials) > max(one.at(cost) for one in singles) - 0.03


@pytest.mark.parametrize("dearness", [0.2, 1.0, 20.0])
def test_an_arm_that_knows_nothing_is_not_bought(dearness):
    pool = cascade_pool(extra=True)
    assert all("useless" not in book.arms for book in find_playbooks(pool, {**COST, "useless": dearness}))


def test_the_cheap_arm_of_a_cascade_is_found_among_many_that_are_better_by_themselves(monkeypatch):
    monkeypatch.setattr(search, "PRICES", PRICES)
    rng, easy = np.random.default_rng(2), np.arange(90) % 3 < 2
    rates = {"cheap": np.where(easy, 0.95, 0.15), "dear": np.full(90, 0.95)}
    crowd = {f"middling {at}": np.where(easy, 0.95, 0.3) for at in range(8)}
    pool = make_pool({arm: candidates(rate, 8, rng) for arm, rate in (crowd | rates).items()})
    books = find_playbooks(pool, {**COST, **dict.fromkeys(crowd, 2.5)})
    assert any(book.steps[0][0] == "cheap" and "dear" in book.arms for book in books), [book.arms for book in books]


def test_what_reading_costs_counts_against_a_second_arm():
    pool = cascade_pool()
    free, read = (find_playbooks(pool, COST, once=once) for once in ({}, {"dear": 10_000.0}))
    assert any("dear" in book.arms for book in free)
    assert not any("dear" in book.arms for book in read)


def test_an_arm_that_is_better_and_cheaper_is_bought_alone():
    books = find_playbooks(cascade_pool(), {"cheap": 8.0, "dear": 1.0})
    assert books
    assert all(book.arms == ("dear",) for book in books[:2])


def test_one_arm():
    pool = cascade_pool()
    books = find_playbooks(pool, {"cheap": 1.0})
    assert books
    assert {book.arms for book in books} == {("cheap",)}


def test_no_sequence_draws_more_than_every_prompt_has():
    pool = cascade_pool(count=3)
    for book in find_playbooks(pool, COST):
        assert all(sum(n for name, n in book.steps if name == arm) <= 3 for arm in book.arms)


def test_decks_of_one_sample_a_prompt():
    rng = np.random.default_rng(0)
    easy = np.arange(80) % 3 < 2

    def one(rates):
        drawn = candidates(rates, 1, rng)
        # A confidence tells right from wrong.
        return {
            at: [(a, r, float(np.clip(0.3 + 0.4 * r + rng.normal(0, 0.15), 0, 1))) for a, r in rows]
            for at, rows in drawn.items()
        }

    pool = make_pool({"cheap": one(np.where(easy, 0.95, 0.1)), "dear": one(np.full(80, 0.95))})
    books = find_playbooks(pool, COST)
    assert books
    assert all(len(book.steps) <= 2 for book in books)
    assert any(book.arms == ("cheap", "dear") for book in books)


def test_the_same_pool_and_seed_give_the_same_playbooks():
    pool = cascade_pool()
    assert find_playbooks(pool, COST, seed=3) == find_playbooks(pool, COST, seed=3)


def test_costs_in_another_unit_find_the_same():
    pool = cascade_pool()
    one, other = (find_playbooks(pool, {arm: unit * each for arm, each in COST.items()}) for unit in (1.0, 2.0**-16))
    assert [book.steps for book in one] == [book.steps for book in other]


@pytest.mark.parametrize("prompts", [0, 1, 2])
def test_hardly_any_prompts(prompts):
    pool = cascade_pool(4).part(np.arange(prompts))
    for book in find_playbooks(pool, COST):
        assert book.steps


def test_an_arm_that_lacks_candidates_is_left_out():
    rng = np.random.default_rng(0)
    some = candidates(np.full(20, 0.9), 3, rng)
    pool = make_pool({"whole": candidates(np.full(20, 0.6), 4, rng), "gaps": {**some, "p7": []}, "none": {}})
    books = find_playbooks(pool, {"whole": 1.0, "gaps": 1.0, "none": 1.0})
    assert {book.arms for book in books} == {("whole",)}
    assert find_playbooks(pool, {"gaps": 1.0, "none": 1.0}) == []
