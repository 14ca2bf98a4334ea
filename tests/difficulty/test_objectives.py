"""Objectives that count candidates: against enumeration of all outcomes, and the shape of their curves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from apportion.difficulty.grid import PASS, beta_on_grid
from apportion.difficulty.objectives import Objective, value

AMOUNTS = [0, 1, 2, 3, 5, 7]
rates = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3)
few = st.integers(0, 4)


def expected(goal, accepted, rejected, amounts, weights, passing):
    """The objective of prompts with so many of each after each amount, [rows, amounts]."""
    state = goal.state(np.array(accepted), np.array(rejected))
    return value(goal.table(amounts, passing), state, weights)


def enumerated(goal, accepted, rejected, n, rate):
    """The expectation over every sequence of n outcomes."""
    total = 0.0
    for outcomes in itertools.product((0, 1), repeat=n):
        right = sum(outcomes)
        chance = rate**right * (1 - rate) ** (n - right)
        a, b = accepted + right, rejected + n - right
        done = {"quota": min(a, goal.k), "coverage": min(a, 1), "pairs": min(a, b, goal.k)}[goal.name]
        total += chance * done / (1 if goal.name == "coverage" else goal.k)
    return total


@given(st.sampled_from(["quota", "pairs", "coverage"]), st.integers(1, 4), few, few, rates, st.integers(0, 100))
def test_values_are_those_of_every_outcome_counted(name, k, accepted, rejected, passing, seed):
    goal = Objective(name, k)
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(passing)), 1)
    a, b, p = np.array([accepted]), np.array([rejected]), np.array(passing)
    found = expected(goal, a, b, AMOUNTS, weights, p)
    for column, n in enumerate(AMOUNTS):
        exact = sum(
            w * enumerated(goal, accepted, rejected, n, rate) for w, rate in zip(weights[0], passing, strict=True)
        )
        assert found[0, column] == pytest.approx(exact, abs=1e-12)
    assert goal.reached(a, b) == pytest.approx(found[:, 0])


@pytest.mark.parametrize("name", ["quota", "pairs"])
def test_many_candidates_that_count_are_those_of_the_binomial_law(name):
    goal, amounts, rate = Objective(name, 40), [16, 64, 120], 0.3
    table = goal.table(amounts, np.array([rate]))
    for accepted, rejected in [(0, 0), (3, 0), (0, 39), (39, 12), (40, 40)]:
        state = int(goal.state(np.array([accepted]), np.array([rejected]))[0])
        for column, n in enumerate(amounts):
            right = np.arange(n + 1)
            reached = goal.reached(accepted + right, rejected + n - right)
            assert table[state, column, 0] == pytest.approx(reached @ binom.pmf(right, n, rate), abs=1e-9)


@given(st.integers(1, 8), st.integers(0, 8), st.floats(0.02, 0.98), st.floats(0.2, 20.0))
def test_a_quota_rises_and_each_candidate_adds_less_than_the_one_before(k, accepted, mean, strength):
    weights = beta_on_grid(mean, strength)[None]
    curve = expected(Objective("quota", k), [accepted], [0], range(40), weights, PASS)[0]
    gains = np.diff(curve)
    assert (gains >= -1e-12).all()
    assert (np.diff(gains) <= 1e-12).all()
    assert curve[-1] <= 1 + 1e-12


@given(st.integers(1, 4), few, few, st.floats(0.02, 0.98))
def test_pairs_rise_with_every_candidate(k, accepted, rejected, mean):
    weights = beta_on_grid(mean, 2.0)[None]
    curve = expected(Objective("pairs", k), [accepted], [rejected], range(40), weights, PASS)[0]
    assert (np.diff(curve) >= -1e-12).all()


def test_a_pair_needs_two_so_its_curve_is_not_concave():
    weights = beta_on_grid(0.5, 2.0)[None]
    fresh = expected(Objective("pairs"), [0], [0], range(4), weights, PASS)[0]
    assert fresh[0] == fresh[1] == 0.0
    assert fresh[2] > 0.2
    # With one side in hand it is a matter of the other, and concave again.
    half = expected(Objective("pairs"), [3], [0], range(20), weights, PASS)[0]
    assert (np.diff(half, 2) <= 1e-12).all()


def test_large_amounts_stay_exact():
    weights = beta_on_grid(0.5, 1.0)[None]
    curve = expected(Objective("coverage"), [0], [0], [1, 256, 100_000], weights, PASS)[0]
    assert curve == pytest.approx([weights[0] @ (1 - (1 - PASS) ** n) for n in (1, 256, 100_000)], rel=1e-12)


def test_prompts_in_different_states_each_get_their_own_curve():
    weights = np.repeat(beta_on_grid(0.3, 3.0)[None], 3, axis=0)
    quota = Objective("quota", 3)
    together = expected(quota, [0, 2, 9], [0, 0, 0], [1, 4], weights, PASS)
    apart = [expected(quota, [a], [0], [1, 4], weights[:1], PASS)[0] for a in (0, 2, 9)]
    assert together == pytest.approx(np.array(apart))
    assert together[2] == pytest.approx([1.0, 1.0])


@settings(max_examples=30)
@given(
    goal=st.sampled_from([Objective("quota", 3), Objective("coverage"), Objective("pairs", 2)]),
    state=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    rate=st.floats(0.02, 0.98),
    seed=st.integers(0, 99),
)
def test_who_stops_with_enough_buys_what_drawing_says(goal, state, rate, seed):
    amounts = [1, 4, 30, 90]
    have = np.minimum(state, goal.enough)
    at = int(goal.state(have[:1], have[1:])[0])
    said = goal.until(amounts, np.array([rate]))[at, :, 0]
    drawn = np.random.default_rng(seed).random((4000, max(amounts))) < rate
    yes = have[0] + np.concatenate([np.zeros((4000, 1), dtype=int), np.cumsum(drawn, axis=1)], axis=1)
    no = have[1] + np.arange(max(amounts) + 1) - (yes - have[0])
    enough = goal.reached(yes, no) >= 1.0
    needed = np.where(enough.any(axis=1), enough.argmax(axis=1), max(amounts))
    for amount, one in zip(amounts, said, strict=True):
        bought = np.minimum(needed, amount)
        assert one == pytest.approx(bought.mean(), abs=0.01 * amount + 4 * bought.std() / 4000**0.5)
