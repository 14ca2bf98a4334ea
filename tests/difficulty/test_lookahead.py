"""Looking ahead: against every stopping rule there is, and where it sees what a greedy index does not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.grid import PASS, beta_on_grid
from apportion.difficulty.lookahead import HORIZON, Ahead
from apportion.difficulty.objectives import Objective

STEPS = 3
STATES = [(i, t - i) for t in range(STEPS) for i in range(t + 1)]


def of_rule(rule, weights, passing, accepted, rejected, goal, cost):
    """Gain and cost of buying on exactly in the states of `rule`, by walking all outcomes at every pass rate."""

    def walk(i, j, rate):
        here = float(goal.reached(np.array(accepted + i), np.array(rejected + j)))
        if (i, j) not in rule:
            return here, 0.0
        yes, no = walk(i + 1, j, rate), walk(i, j + 1, rate)
        return rate * yes[0] + (1 - rate) * no[0], cost + rate * yes[1] + (1 - rate) * no[1]

    start = float(goal.reached(np.array(accepted), np.array(rejected)))
    ends = [walk(0, 0, rate) for rate in passing]
    return weights @ [value for value, _ in ends] - start, weights @ [spent for _, spent in ends]


RULES = [
    frozenset(state for state, go in zip(STATES, chosen, strict=True) if go)
    for chosen in itertools.product((False, True), repeat=len(STATES))
]


@settings(max_examples=40)
@given(
    st.sampled_from([Objective("quota", 2), Objective("quota", 3), Objective("pairs", 1), Objective("coverage")]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.floats(0.01, 1.5),
    st.integers(0, 1000),
)
def test_no_stopping_rule_does_better(goal, accepted, rejected, price, seed):
    rng = np.random.default_rng(seed)
    passing, weights, cost = rng.uniform(0.02, 0.98, 3), rng.dirichlet(np.ones(3)), 0.7
    ends = [of_rule(rule, weights, passing, accepted, rejected, goal, cost) for rule in RULES]
    at = (weights[None], passing, np.array([accepted]), np.array([rejected]), goal)
    found = Ahead(*at, horizon=STEPS, beyond=()).best(np.array([cost]), price)
    assert found.gain[0] - price * found.cost[0] == pytest.approx(max(g - price * c for g, c in ends), abs=1e-12)
    longer = Ahead(*at, horizon=STEPS, beyond=(2, 9)).best(np.array([cost]), price)
    assert longer.gain[0] - price * longer.cost[0] >= found.gain[0] - price * found.cost[0] - 1e-12


def one(weights, goal, accepted=0, rejected=0, **settings):
    return Ahead(weights[None], PASS, np.array([accepted]), np.array([rejected]), goal, **settings)


def index(ahead, cost=1.0):
    """The highest price at which a first candidate is bought."""
    low, high = 0.0, 1.0 / cost
    for _ in range(50):
        price = 0.5 * (low + high)
        low, high = (price, high) if ahead.best(np.array([cost]), price).cost[0] > 0.0 else (low, price)
    return low


def test_for_coverage_the_greedy_index_is_the_best_one():
    weights = beta_on_grid(0.3, 1.0)
    assert index(one(weights, Objective("coverage")), 2.0) == pytest.approx(weights @ PASS / 2.0)


def test_good_news_to_come_is_worth_a_first_try():
    easy_or_hopeless = 0.1 * beta_on_grid(0.95, 60.0) + 0.9 * beta_on_grid(0.002, 900.0)
    all_the_same = beta_on_grid(float(easy_or_hopeless @ PASS), 900.0)
    hope, same = (index(one(weights, Objective("quota", 8))) for weights in (easy_or_hopeless, all_the_same))
    greedy = float(easy_or_hopeless @ PASS) / 8
    assert greedy < same < 1.1 * greedy
    assert hope > 4 * greedy


def test_a_pair_is_seen_behind_the_first_candidate_that_makes_none():
    # Two make a pair about half the time; and after two alike one may go on.
    assert 0.25 < index(one(beta_on_grid(0.5, 20.0), Objective("pairs", 1))) < 0.5


def test_what_is_reached_is_worth_no_price():
    found = one(beta_on_grid(0.5, 2.0), Objective("quota", 4), 4).best(np.array([1.0]), 1e-6)
    assert (found.gain[0], found.cost[0]) == (0.0, 0.0)


@given(st.floats(0.001, 0.3), st.floats(1.1, 4.0))
def test_a_higher_price_buys_less(price, factor):
    ahead = one(beta_on_grid(0.4, 1.5), Objective("quota", 4))
    low, high = (ahead.best(np.array([1.0]), at) for at in (price, price * factor))
    assert high.cost[0] <= low.cost[0] + 1e-12
    assert high.gain[0] <= low.gain[0] + 1e-12


@pytest.mark.parametrize("goal", [Objective("quota", 4), Objective("coverage"), Objective("pairs", 2)])
def test_for_little_the_rare_are_waited_for_beyond_the_horizon(goal):
    """One candidate in a hundred is accepted: who buys until there is enough needs `enough` hundreds of them."""
    weights = np.zeros(len(PASS))
    weights[at := int(np.argmin(abs(PASS - 0.01)))] = 1.0
    near, far = (one(weights, goal, beyond=some).best(np.array([1.0]), 1e-7) for some in ((), (64, 256, 1024)))
    assert near.gain[0] < 0.5
    assert far.gain[0] > 0.98
    assert far.cost[0] == pytest.approx(goal.enough / PASS[at], rel=0.05)


def test_nobody_buys_more_than_there_is():
    weights = beta_on_grid(0.02, 50.0)
    costs = [
        one(weights, Objective("quota", 4), most=np.array([most])).best(np.array([1.0]), 1e-7).cost[0]
        for most in (0, 5, HORIZON, HORIZON + 7, HORIZON + 8, HORIZON + 70)
    ]
    assert costs[0] == 0.0
    assert 4.9 < costs[1] <= 5.0
    assert 0.9 * HORIZON < costs[2] == costs[3] <= HORIZON
    assert costs[3] < costs[4] <= HORIZON + 8
    assert costs[4] < costs[5] <= HORIZON + 64
