"""How sure a forecast is: no surer than the prompts it is about are many, nor than those it was learned from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_pools import make_pool
from simulated import arm, problem

from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.objectives import Objective
from apportion.difficulty.registry import estimate
from apportion.difficulty.trial import Trial
from apportion.scheduler.counted import Counted
from apportion.scheduler.forecasts import NINETY, fit_variance, interval, spread_of
from apportion.scheduler.outlook import Outlook

SIZES = (8, 30, 120)
"""Prompts that policies are fitted on."""


def trial(prompts):
    return Trial(np.array([0.1, 0.2]), np.array([2.0, 1.0]), np.array([0.8, 0.6]), prompts)


def policies():
    return [fit_beliefs(make_pool(120, {"small": 8}, seed=3).part(np.arange(size)), ["made-up"]) for size in SIZES]


def widths(made):
    return [high - low for low, high in made]


@given(st.floats(0.0, 1.0), st.integers(1, 10_000))
def test_what_was_measured_on_prompts_is_as_sure_as_they_are_many(mean, prompts):
    found = fit_variance(mean, prompts)
    assert found >= mean * (1.0 - mean) * (prompts / (prompts + 2.0)) ** 2 / prompts
    assert 0.0 < found <= 0.25 / prompts
    assert found == pytest.approx(fit_variance(1.0 - mean, prompts))


def test_nothing_measured_adds_nothing():
    assert fit_variance(0.5, 0) == 0.0


def test_a_mean_of_one_on_few_prompts_is_not_certain():
    low, high = spread_of(1.0, 1_000_000, trial(20), 0)
    assert low < 0.95
    assert high == 1.0
    assert spread_of(1.0, 1_000_000, trial(2000), 0)[0] > 0.99


def test_a_trial_on_fewer_prompts_is_less_sure():
    made = widths(spread_of(0.7, 500, trial(prompts), 0) for prompts in (10, 40, 160, 640))
    assert all(wide > narrow * 1.3 for wide, narrow in pairwise(made[:3]))
    assert made[0] > 2 * NINETY * np.sqrt(0.21 / 10) * 0.9


def test_closed_forms_know_how_many_prompts_they_were_fitted_on():
    made = problem(400, 1600.0, arm("small"))
    outlooks = [Outlook.begin(made, estimate(made.arms, made.texts, fitted)) for fitted in policies()]
    value = np.full(400, 0.6)
    found = widths((one.low, one.high) for one in (interval(outlook, value, 1.0, 1.0) for outlook in outlooks))
    assert found[0] > found[1] > found[2]
    assert found[0] > 2 * NINETY * np.sqrt(0.2 / SIZES[0])


@pytest.mark.parametrize("objective", [Objective("quota", 3), Objective("pairs", 2)])
def test_so_do_counts(objective):
    given = problem(400, 1600.0, arm("small", "max_score"))
    made = [
        Counted(
            given.__class__(given.texts, given.arms, given.costs, 1600.0, objective, 0),
            estimate(given.arms, given.texts, one),
        )
        for one in policies()
    ]
    said = [policy.forecast([800.0])[0] for policy in made]
    for one, size in zip(said, SIZES, strict=True):
        assert one.high - one.low > 1.2 * NINETY * np.sqrt(fit_variance(one.value, size))
