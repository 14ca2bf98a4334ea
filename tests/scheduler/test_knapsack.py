"""Hulls and the static plan: against brute force on tiny cases, and a linear program on middling ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array

from apportion.scheduler.hull import hulls
from apportion.scheduler.knapsack import plan, plan_from, price_for

amounts = st.integers(1, 9)
gains = st.floats(-0.2, 1.0, allow_nan=False)


@st.composite
def instances(draw):
    prompts, options = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cost = [[draw(amounts) for _ in range(options)] for _ in range(prompts)]
    gain = [[draw(gains) for _ in range(options)] for _ in range(prompts)]
    return np.array(cost, dtype=float), np.array(gain), float(draw(st.integers(0, 25)))


def best_of_all(cost, gain, budget):
    best = 0.0
    for choice in itertools.product(range(-1, cost.shape[1]), repeat=len(cost)):
        taken = [(row, option) for row, option in enumerate(choice) if option >= 0]
        if sum(cost[at] for at in taken) <= budget:
            best = max(best, sum(gain[at] for at in taken))
    return best


def by_parts(cost, gain, budget):
    return plan_from(lambda begin, end: (cost[begin:end], gain[begin:end]), len(cost), budget)


@pytest.mark.parametrize("solve", [plan, by_parts])
@given(instance=instances())
def test_plan_keeps_the_budget_and_its_certificate_holds(solve, instance):
    cost, gain, budget = instance
    found = solve(cost, gain, budget)
    best = best_of_all(cost, gain, budget)
    taken = [(row, option) for row, option in enumerate(found.options) if option >= 0]
    assert sum(cost[at] for at in taken) == pytest.approx(found.cost)
    assert sum(gain[at] for at in taken) == pytest.approx(found.value)
    assert found.cost <= budget + 1e-9
    assert found.value <= best + 1e-9 <= found.value + found.gap + 2e-9


@given(instances())
def test_hull_steps_fall_in_ratio_and_end_at_the_best_gain(instance):
    cost, gain, _ = instance
    steps = hulls(cost, gain)
    for row in range(len(cost)):
        mine = steps.prompt == row
        ratios = steps.ratio[mine]
        assert (np.diff(ratios) < 1e-12).all()
        assert steps.gain[mine].sum() == pytest.approx(max(0.0, gain[row].max()))
        # No option lies above the hull.
        corners_cost = np.concatenate([[0.0], np.cumsum(steps.cost[mine])])
        corners_gain = np.concatenate([[0.0], np.cumsum(steps.gain[mine])])
        assert (gain[row] <= np.interp(cost[row], corners_cost, corners_gain) + 1e-9).all()


@pytest.mark.parametrize("solve", [plan, by_parts])
def test_plan_is_within_its_gap_of_the_linear_program(solve):
    rng = np.random.default_rng(3)
    prompts, options = 300, 8
    cost = np.cumsum(rng.uniform(0.5, 3.0, (prompts, options)), axis=1)
    gain = np.sort(rng.uniform(0, 1, (prompts, options)), axis=1)
    budget = 450.0
    found = solve(cost, gain, budget)
    rows = np.repeat(np.arange(prompts), options)
    columns = np.arange(prompts * options)
    once = coo_array((np.ones(prompts * options), (rows, columns)))
    money = coo_array((cost.ravel(), (np.full(prompts * options, prompts), columns)), shape=(prompts + 1, len(columns)))
    once.resize((prompts + 1, len(columns)))
    bound = np.append(np.ones(prompts), budget)
    relaxed = linprog(-gain.ravel(), A_ub=once + money, b_ub=bound, bounds=(0, 1), method="highs")
    assert found.value <= -relaxed.fun + 1e-6
    assert found.value + found.gap == pytest.approx(-relaxed.fun, rel=1e-6)
    assert found.shortfall < 0.005


@pytest.mark.parametrize("solve", [plan, by_parts])
@pytest.mark.parametrize(
    ("cost", "gain", "budget", "options", "value", "gap"),
    [
        pytest.param([[2.0]], [[0.5]], 0.0, [-1], 0.0, 0.0, id="no budget"),
        pytest.param([[2.0], [3.0]], [[0.5], [0.1]], np.inf, [0, 0], 0.6, 0.0, id="no bound"),
        pytest.param([[2.0, 3.0]], [[0.0, -0.5]], 9.0, [-1], 0.0, 0.0, id="nothing gains"),
        pytest.param([[2.0, 3.0]], [[0.5, 0.5]], 9.0, [0], 0.5, 0.0, id="the same for more"),
        pytest.param([[2.0, 2.0]], [[0.5, 0.7]], 9.0, [1], 0.7, 0.0, id="more for the same"),
        pytest.param([[np.inf, 2.0]], [[0.9, 0.3]], 9.0, [1], 0.3, 0.0, id="not to be had"),
        pytest.param([[np.inf]], [[0.9]], np.inf, [-1], 0.0, 0.0, id="nothing to be had"),
        pytest.param([[2.0]] * 5, [[0.5]] * 5, 6.0, [0, 0, 0, -1, -1], 1.5, 0.0, id="all alike"),
        pytest.param([[2.0]] * 5, [[0.5]] * 5, 7.0, [0, 0, 0, -1, -1], 1.5, 0.25, id="all alike, one does not fit"),
        pytest.param([[1.0, 2.0, 3.0]], [[0.2, 0.4, 0.6]], 2.0, [-1], 0.0, 0.4, id="on one chord, all or nothing"),
        pytest.param([[1.0]], [[0.2]], -1.0, [-1], 0.0, 0.0, id="overspent"),
    ],
)
def test_plan_of_a_few(solve, cost, gain, budget, options, value, gap):
    found = solve(np.array(cost), np.array(gain), budget)
    assert found.options.tolist() == options
    assert found.value == pytest.approx(value)
    assert found.gap == pytest.approx(gap)


def test_no_prompts():
    assert (
        by_parts(np.zeros((0, 3)), np.zeros((0, 3)), 5.0).value
        == plan(np.zeros((0, 3)), np.zeros((0, 3)), 5.0).value
        == 0
    )


@given(
    st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0.1, 5.0)), min_size=1, max_size=30),
    st.floats(0.0, 60.0),
)
def test_price_is_the_least_at_which_all_dearer_steps_fit(steps, available):
    ratio, cost = (np.array(column) for column in zip(*steps, strict=True))
    price = price_for(ratio, cost, available)
    assert cost[ratio > price].sum() <= available + 1e-9
    if price > 0:
        assert price in ratio
        assert cost[ratio >= price].sum() > available - 1e-9


@pytest.mark.filterwarnings("error")
def test_what_costs_nothing_is_bought_at_any_price():
    steps = hulls(np.array([[0.0, 2.0], [1.0, 2.0]]), np.array([[0.5, 0.7], [0.4, 0.5]]))
    assert steps.ratio[0] == np.inf
    assert price_for(steps.ratio, steps.cost, 0.0) == 0.4
    found = plan(np.array([[0.0, 2.0], [1.0, 2.0]]), np.array([[0.5, 0.7], [0.4, 0.5]]), 0.0)
    assert found.options.tolist() == [0, -1]
