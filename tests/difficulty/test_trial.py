"""A trial: on prompts the rule was not made from; what it says is what following the rule gives."""

from __future__ import annotations

import numpy as np
import pytest
from choice_world import candidates, cascade_pool
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_world import make_pool

from apportion.difficulty import playbook
from apportion.difficulty.playbook import Orders, Playbook, book_tables, plain_book, plain_tables
from apportion.difficulty.trial import HALVES, Trial, quick_value, try_out, watch
from apportion.difficulty.votes import Votes

CASCADE = Playbook((("cheap", 1),) * 3 + (("dear", 1),) * 3, Votes(), plurality=0.3, labelled=True)
STEPS = [1.0] * 3 + [8.0] * 3


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(playbook, "IMAGINED", 4000)
    playbook._plain_tables.cache_clear()
    yield
    playbook._plain_tables.cache_clear()


def tried(pool, book=CASCADE, steps=STEPS):
    orders = Orders(pool, 16, seed=1)
    return orders, try_out(book, orders, steps, book_tables(book, orders, steps).prices)


def test_a_dearer_price_costs_less_and_both_ends_are_what_they_must_be():
    orders, trial = tried(cascade_pool())
    assert (np.diff(trial.cost) <= 0.05).all()
    assert trial.cost[0] <= sum(STEPS)
    assert trial.value[0] == pytest.approx(float(orders.walks(CASCADE).right[:, -1].mean()), abs=0.05)
    assert trial.value[-1] < trial.value[0]
    assert trial.prompts == 80


@given(
    points=st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 1.0)), min_size=1, max_size=8),
    asked=st.lists(st.floats(0.0, 100.0), min_size=2, max_size=6),
)
@settings(max_examples=60)
def test_more_money_never_reaches_less_and_nothing_nothing(points, asked):
    cost, value = np.array(points).T
    trial = Trial(np.arange(1.0, len(cost) + 1), cost, value, 10)
    found = [trial.at(each) for each in sorted(asked)]
    assert found == sorted(found)
    assert found[0] >= 0.0
    assert found[-1] <= max(value)
    assert trial.at(float("inf")) == pytest.approx(max(value))
    if min(cost) > 0.0:
        assert trial.at(0.0) == 0.0


def test_it_is_not_taken_in_by_noise():
    """Of prompts that no evidence tells apart the tables promise more than there is; the trial does not."""
    rng = np.random.default_rng(0)
    promised, found = [], []
    for _ in range(5):
        pool = make_pool({"a": candidates(rng.uniform(0.1, 0.9, 16), 7, rng, kinds=2)})
        book = Playbook((("a", 1),) * 7, Votes(), plurality=0.0)
        orders = Orders(pool, 4, seed=0)
        tables = book_tables(book, orders, [1.0] * 7)
        trial = try_out(book, orders, [1.0] * 7, tables.prices)
        start = tables.grid.cell(0.0, 0.0)
        promised.append(float((tables.reach - tables.prices * tables.spend)[0, start].mean()))
        found.append(float((trial.value - trial.prices * trial.cost).mean()))
    assert np.mean(found) <= np.mean(promised) + 1e-6


@pytest.mark.parametrize("price", [0.003, 0.02, 0.1])
def test_the_quick_value_is_nearly_that_of_the_trial(price):
    pool = cascade_pool(160)
    orders = Orders(pool, 16, seed=1)
    trial = try_out(CASCADE, orders, STEPS, np.array([price, 2.0 * price]))
    careful = float(trial.value[0] - price * trial.cost[0])
    quick = quick_value(orders.walks(CASCADE), orders.prompts % HALVES, np.array(STEPS), CASCADE, price)
    assert quick == pytest.approx(careful, abs=0.03)


def test_tables_that_owe_nothing_to_the_pool_are_watched_on_all_of_it():
    pool = make_pool({"a": candidates(np.linspace(0.2, 0.95, 30), 6, np.random.default_rng(1))})
    orders = Orders(pool, 20, seed=1)
    book, tables = plain_book("a", 16, False), plain_tables(16, False)
    one, other = (watch(book, tables, orders, unit) for unit in (1.0, 7.0))
    # No more than the pool has, at a price that buys all there is to buy.
    assert one.cost[0] <= 6.0 + 1e-9
    assert one.cost[0] > 2.0
    np.testing.assert_allclose(other.cost, 7.0 * one.cost)
    np.testing.assert_array_equal(other.value, one.value)
    assert one.value[0] > one.value[-1]


def test_a_pool_without_candidates_shows_nothing():
    pool = make_pool({"a": {"p0": [("right", True)], "p1": []}})
    trial = watch(plain_book("a", 4, False), plain_tables(4, False), Orders(pool, 2, seed=1), 1.0)
    assert (trial.cost == 0.0).all()
    assert (trial.value == 0.0).all()
    assert trial.at(5.0) == 0.0


def test_the_trial_of_a_cascade_is_what_playing_it_gives():
    _, trial = tried(cascade_pool(240))
    assert trial.at(8.0) > trial.at(2.0) + 0.1
    assert trial.at(8.0) > 0.85
    # The cheap arm alone where money is dear, the expensive one for a part where it is not.
    assert trial.at(1.0) < 0.75 < trial.at(6.0)
