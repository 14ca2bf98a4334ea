"""Stopping: on a problem small enough to solve exactly, the tables say what the exact recursion says."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.stopping import Grid, Tables, price_grid, solve_stopping
from apportion.difficulty.walks import Walks, walk_votes

RATES, SHARES = np.array([0.2, 0.6, 0.9]), np.array([0.3, 0.3, 0.4])
"""The pass rates of a prompt and their prior: a coin of one of three kinds, whose wrong side is one wrong answer."""
STEPS, WALKS = 6, 60_000
COST = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 0.5])
PRICES = np.geomspace(2e-3, 0.9, 70)


def likelihood(right: int, wrong: int) -> float:
    return float(SHARES @ (RATES**right * (1.0 - RATES) ** wrong))


def stopped(first: int, second: int) -> float:
    """The chance that the leading side is right. A tie was led by either side as often."""
    if first == second:
        return 0.5 if first else 0.0
    return likelihood(first, second) / (likelihood(first, second) + likelihood(second, first))


def further(first: int, second: int) -> list[tuple[float, int, int]]:
    """The states one vote later, with their chances."""
    if first == second:
        return [(1.0, first + 1, second)]
    here = likelihood(first, second) + likelihood(second, first)
    leads = (likelihood(first + 1, second) + likelihood(second, first + 1)) / here
    return [(leads, first + 1, second), (1.0 - leads, first, second + 1)]


def exact(price: float):
    """Value, reach and spend of every (first, second), and what going on is worth beyond stopping."""

    @cache
    def solve(first: int, second: int) -> tuple[float, float, float, float]:
        stop, step = stopped(first, second), first + second
        if step == STEPS:
            return stop, stop, 0.0, -np.inf
        ahead = np.sum([chance * np.array(solve(f, s)[:3]) for chance, f, s in further(first, second)], axis=0)
        on = float(ahead[0]) - price * COST[step]
        if on > stop:
            return on, float(ahead[1]), float(ahead[2]) + COST[step], on - stop
        return stop, stop, 0.0, on - stop

    return solve


def exact_critical(first: int, second: int) -> float:
    """The price at which going on is worth no more than stopping, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if exact(middle)(first, second)[3] > 1e-12 else (low, middle)
    return low


def coins(walks: int = WALKS, seed: int = 0) -> Walks:
    rng = np.random.default_rng(seed)
    rate = rng.choice(RATES, size=walks, p=SHARES)
    answers = (rng.random((walks, STEPS)) >= rate[:, None]).astype(np.int64)
    good = np.broadcast_to([True, False], (walks, 2))
    return walk_votes(answers, np.ones(answers.shape), good, range(1, STEPS + 1), np.ones(walks))


@lru_cache
def solved() -> tuple[Walks, Tables]:
    walks = coins()
    return walks, solve_stopping(walks, COST, Grid.of(walks, 1.0), 0.0, PRICES)


def states():
    return [(first, step - first) for step in range(STEPS) for first in range((step + 1) // 2, step + 1)]


@pytest.mark.parametrize(("first", "second"), states())
def test_the_critical_price_is_the_exact_one(first, second):
    _, tables = solved()
    found = float(tables.critical[first + second, tables.grid.cell(first, second)])
    assert found == pytest.approx(exact_critical(first, second), abs=0.015)


def test_what_a_price_reaches_and_costs_is_exact():
    _, tables = solved()
    start = tables.grid.cell(0, 0)
    true = np.array([exact(float(price))(0, 0) for price in PRICES])
    value = tables.reach[0, start] - PRICES * tables.spend[0, start]
    np.testing.assert_allclose(value, true[:, 0], atol=0.01)
    # Where two policies are worth nearly the same, either may be taken: at a few prices beside the jumps.
    assert np.mean(np.abs(tables.reach[0, start] - true[:, 1]) < 0.01) > 0.75
    assert np.mean(np.abs(tables.spend[0, start] - true[:, 2]) < 0.1) > 0.75


def test_where_it_stops_it_is_right_as_often_as_believed():
    _, tables = solved()
    for first, second in states():
        now = float(tables.now[first + second, tables.grid.cell(first, second)])
        assert now == pytest.approx(stopped(first, second), abs=0.02)


def test_the_rule_followed_on_other_walks_gives_what_it_promised():
    _, tables = solved()
    fresh, start = coins(seed=1), tables.grid.cell(0, 0)
    code = tables.grid.cells(fresh.first, fresh.second)
    critical = tables.critical[np.arange(STEPS + 1), code]
    for level in (5, 20, 40):
        stop = np.argmax(critical <= PRICES[level], axis=1)
        paid = np.concatenate([[0.0], np.cumsum(COST)])[stop].mean()
        right = fresh.right[np.arange(len(stop)), stop].mean()
        assert right == pytest.approx(float(tables.reach[0, start, level]), abs=0.01)
        assert paid == pytest.approx(float(tables.spend[0, start, level]), abs=0.05)


def test_the_greater_the_lead_the_cheaper_it_must_be_to_go_on():
    _, tables = solved()
    for step in range(2, STEPS):
        open_first = [
            float(tables.critical[step, tables.grid.cell(first, step - first)])
            for first in range((step + 1) // 2, step + 1)
        ]
        assert all(later <= earlier + 0.01 for earlier, later in pairwise(open_first))


@given(
    seed=st.integers(0, 1000),
    walks=st.integers(1, 200),
    cost=st.lists(st.floats(0.1, 30.0), min_size=STEPS, max_size=STEPS),
)
@settings(max_examples=20)
def test_laws_of_any_tables(seed, walks, cost):
    made, cost = coins(walks, seed), np.array(cost)
    tables = solve_stopping(made, cost, Grid.of(made, 1.0), 0.0)
    assert (np.diff(tables.prices) > 0.0).all()
    # A dearer price never buys more, and never reaches more.
    assert (np.diff(tables.spend, axis=2) <= 1e-3 * cost.sum()).all()
    assert (np.diff(tables.reach, axis=2) <= 1e-3).all()
    # Nothing is bought at the end, nor after a state that never goes on.
    assert (tables.critical[-1] == 0.0).all()
    assert (tables.spend[-1] == 0.0).all()
    assert (tables.spend[tables.critical == 0.0] == 0.0).all()
    assert (tables.spend <= np.append(np.cumsum(cost[::-1])[::-1], 0.0)[:, None, None] * (1 + 1e-5)).all()
    for each in (tables.now, tables.reach):
        assert (each >= 0.0).all()
        assert (each <= 1.0 + 1e-6).all()
    # Below its critical price a state spends, above it does not.
    lowest = tables.spend[:, :, 0] > 0.0
    np.testing.assert_array_equal(lowest, tables.critical > tables.prices[0])


def test_agreement_as_the_reward_knows_no_labels():
    """With plurality 1 the rule is the same whatever is right."""
    walks = coins(3000)
    turned = Walks(walks.first, walks.second, 1.0 - walks.right, walks.final, walks.weight)
    one, other = (solve_stopping(each, COST, Grid.of(walks, 1.0), 1.0) for each in (walks, turned))
    np.testing.assert_array_equal(one.critical, other.critical)
    np.testing.assert_array_equal(one.spend, other.spend)


def test_a_walk_that_counts_twice_is_two_walks():
    walks = coins(400)
    names = ("first", "second", "right", "final", "weight")
    twice = Walks(*(np.concatenate([getattr(walks, name)] * 2) for name in names))
    heavy = Walks(walks.first, walks.second, walks.right, walks.final, 2.0 * walks.weight)
    one, other = (solve_stopping(each, COST, Grid.of(walks, 1.0), 0.5) for each in (twice, heavy))
    np.testing.assert_allclose(one.critical, other.critical, rtol=1e-4, atol=1e-7)


def test_costs_in_another_unit_change_nothing_but_the_unit():
    walks = coins(2000)
    one, other = (solve_stopping(walks, each, Grid.of(walks, 1.0), 0.3) for each in (COST, 1e-6 * COST))
    np.testing.assert_allclose(one.critical, 1e-6 * other.critical, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(1e-6 * one.spend, other.spend, rtol=1e-3, atol=1e-12)


@given(first=st.floats(0.0, 300.0, width=32), second=st.floats(0.0, 300.0, width=32), unit=st.sampled_from([1.0, 0.25]))
@settings(max_examples=100)
def test_one_state_is_in_the_cell_that_many_are_in(first, second, unit):
    grid = Grid(unit, (40, 30))
    many = grid.cells(np.array([first], dtype=np.float32), np.array([second], dtype=np.float32))
    assert grid.cell(first, second) == many[0] < 40 * 30


def test_prices_cover_what_the_cheapest_step_may_decide():
    prices = price_grid(np.array([2.0, 8.0]))
    assert prices[-1] * 2.0 < 1.0 < prices[-1] * 8.0
    assert prices[0] * 2.0 < 1e-5
