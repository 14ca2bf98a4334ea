"""Playbooks: a vote knows when it is settled, and a pool is dealt fairly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from pool_world import make_pool
from scipy.special import betainc
from scipy.stats import spearmanr

from apportion.difficulty import playbook
from apportion.difficulty.belief import base_prior
from apportion.difficulty.grid import PASS
from apportion.difficulty.playbook import Orders, Playbook, book_tables, plain_book, plain_tables
from apportion.difficulty.votes import Curve, Votes

IMAGINED = 8000
"""A fifth of what is used: enough for states that matter."""


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(playbook, "IMAGINED", IMAGINED)
    playbook._plain_tables.cache_clear()
    yield
    playbook._plain_tables.cache_clear()


def critical(tables, first, second):
    """By one candidate at a time, of a majority vote."""
    return float(tables.critical[int(first + second), tables.grid.cell(first, second)])


def test_two_that_agree_are_nearer_to_the_end_than_two_that_do_not():
    tables = plain_tables(16, False)
    assert 0.0 < critical(tables, 2, 0) < 0.6 * critical(tables, 1, 1)
    assert critical(tables, 4, 0) < critical(tables, 3, 1) < critical(tables, 2, 2)


def test_a_vote_is_settled_after_about_eight_that_agree():
    tables = plain_tables(32, False)
    settled = [n for n in range(1, 12) if critical(tables, n, 0) == 0.0]
    assert 6 <= settled[0] <= 10
    assert settled == list(range(settled[0], 12))
    assert critical(tables, 6, 5) > 0.0


def test_the_last_look_buys_nothing_and_the_first_candidate_is_the_dearest_to_leave_out():
    tables = plain_tables(16, False)
    assert (tables.critical[-1] == 0.0).all()
    assert critical(tables, 0, 0) > max(critical(tables, first, 0) for first in range(1, 12))


def test_states_rank_as_adaptive_consistency_ranks_them():
    """ASC stops by the chance that the leader of two keeps its lead: the order here is much the same."""
    tables = plain_tables(32, False)
    states = [(first, second) for first in range(1, 9) for second in range(first + 1) if first + second < 12]
    found = [critical(tables, first, second) for first, second in states]
    asc = [float(betainc(first + 1, second + 1, 0.5)) for first, second in states]
    assert spearmanr(found, asc).statistic > 0.8


def test_a_wider_lead_is_never_much_dearer_to_leave():
    tables = plain_tables(16, False)
    for step in range(3, 12):
        along = [critical(tables, first, step - first) for first in range((step + 1) // 2, step + 1)]
        assert all(later <= earlier * 1.15 + 1e-3 for earlier, later in pairwise(along))


def test_a_prior_of_settled_prompts_stops_sooner_than_one_of_open_ones():
    easy, open_ = base_prior(), base_prior()
    easy[PASS < 0.9] *= 1e-3
    open_[(PASS < 0.4) | (PASS > 0.6)] *= 1e-3
    one, other = plain_tables(16, False, easy), plain_tables(16, False, open_)
    assert critical(one, 3, 1) < critical(other, 3, 1)
    start = one.grid.cell(0.0, 0.0)
    middle = len(one.prices) * 3 // 4
    assert one.spend[0, start, middle] < other.spend[0, start, middle]


@pytest.mark.parametrize("by_score", [False, True])
def test_a_plain_vote_is_one_arm_to_the_end(by_score):
    book = plain_book("vote", 40, by_score)
    assert book.arms == ("vote",)
    assert book.stops[-1] == 40 == sum(n for _, n in book.steps)
    assert not book.labelled
    tables = plain_tables(40, by_score)
    assert tables.critical.shape[0] == len(book.steps) + 1
    assert tables.cost.tolist() == [n for _, n in book.steps]
    assert tables.critical[0, tables.grid.cell(0.0, 0.0)] > 0.0


def rows(rates, count, seed, name):
    """Each candidate has an answer of its own, right or wrong, so that it can be told where it came from."""
    rng = np.random.default_rng(seed)
    return {
        f"p{at}": [(f"{name}{at}.{k}", bool(rng.random() < rate), float(k)) for k in range(count + at % 2)]
        for at, rate in enumerate(rates)
    }


def test_orders_deal_each_prompts_own_candidates_once_in_random_order():
    pool = make_pool({"a": rows([0.3, 0.6, 0.9], 5, 0, "a"), "b": rows([0.3, 0.6, 0.9], 2, 1, "b")})
    orders = Orders(pool, 200, seed=0)
    assert (orders.most("a"), orders.most("b")) == (5, 2)
    assert orders.weight.sum() == pytest.approx(3.0)
    book = Playbook((("a", 5), ("b", 2)), Votes({"a": Curve((0.0,), (2.0,))}))
    walks = orders.walks(book)
    # All answers differ: whichever comes first leads, and it is right as often as its prompt's candidates are.
    assert (walks.first[:, 1] == 2.0).all()
    assert (walks.second[:, 2] == 2.0).all()
    deck = pool.decks["a"]
    for prompt in range(3):
        share = deck.correct[deck.begin[prompt] : deck.begin[prompt + 1]].mean()
        assert walks.right[orders.prompts == prompt, 1].mean() == pytest.approx(share, abs=0.12)


def test_a_step_of_several_candidates_looks_as_often_as_it_has_steps():
    pool = make_pool({"a": rows([0.5] * 4, 6, 2, "a")})
    one = Orders(pool, 8, seed=3).walks(Playbook((("a", 1),) * 6, Votes()))
    some = Orders(pool, 8, seed=3).walks(Playbook((("a", 2), ("a", 4)), Votes()))
    assert some.first.shape[1] == 3
    for name in ("first", "second", "right", "final"):
        np.testing.assert_array_equal(getattr(some, name), getattr(one, name)[:, [0, 2, 6]])


def test_the_prompt_is_read_for_an_arms_first_candidate():
    book = Playbook((("small", 1), ("large", 2), ("small", 3), ("large", 1)), Votes())
    each = {"small": 1.0, "large": 10.0}
    assert book.costs(each, {}) == [1.0, 20.0, 3.0, 10.0]
    assert book.costs(each, {"large": 5.0}) == [1.0, 25.0, 3.0, 10.0]


def test_the_same_seed_deals_the_same_orders_to_every_sequence():
    pool = make_pool({"a": rows([0.2, 0.5, 0.8], 6, 0, "a"), "b": rows([0.5] * 3, 6, 1, "b")})
    first, again, other = (Orders(pool, 40, seed=seed) for seed in (5, 5, 6))
    short, long = Playbook((("a", 1),), Votes()), Playbook((("a", 1), ("b", 1)), Votes())
    np.testing.assert_array_equal(first.walks(short).right[:, 1], again.walks(long).right[:, 1])
    assert (first.walks(short).right != other.walks(short).right).any()


def test_a_fitted_playbook_goes_on_where_its_pool_says_that_it_pays():
    """Half the prompts are always right; of the others the second answer settles which of two is right."""
    sure = {f"s{at}": [("right", True)] * 8 for at in range(40)}
    open_ = {f"o{at}": [("right", True)] * 5 + [("wrong", False)] * 3 for at in range(40)}
    pool = make_pool({"a": {**sure, **open_}})
    book = Playbook((("a", 1),) * 7, Votes(), plurality=0.0)
    orders = Orders(pool, 50, seed=0)
    tables = book_tables(book, orders, [1.0] * 7)
    assert critical(tables, 2, 1) > 0.01
    assert critical(tables, 4, 0) < 0.3 * critical(tables, 2, 1)
    start = tables.grid.cell(0.0, 0.0)
    assert tables.reach[0, start, 0] == pytest.approx(float(orders.walks(book).right[:, -1].mean()), abs=0.05)
