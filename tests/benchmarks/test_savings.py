"""The arithmetic behind benchmarks/allocation.py, on frontiers whose savings are known by hand."""

from __future__ import annotations

import arms
import numpy as np
import pytest
import savings
from hypothesis import given
from hypothesis import strategies as st

COST = np.array([1.0, 2.0, 4.0, 8.0])
VALUE = np.array([0.5, 0.6, 0.7, 0.72])

accuracies = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8)


def curve(cost: list[float], value: list[float], prompts: int = 4) -> object:
    """A frontier that is the same on every prompt."""
    values, costs = (np.repeat(np.array(row)[:, None], prompts, axis=1) for row in (value, cost))
    return savings.Curve(values, costs, max(cost))


@pytest.mark.parametrize(
    ("target", "cost"),
    [(0.4, 1.0), (0.5, 1.0), (0.55, 1.5), (0.6, 2.0), (0.65, 3.0), (0.72, 8.0), (0.73, float("nan"))],
)
def test_the_cost_to_reach_is_linear_between_budgets(target: float, cost: float) -> None:
    assert savings.cost_to_reach(COST, VALUE, target) == pytest.approx(cost, nan_ok=True)


def test_a_larger_budget_that_lost_by_chance_is_not_held_against_a_policy() -> None:
    dipping = np.array([0.5, 0.6, 0.55, 0.72])
    assert savings.cost_to_reach(COST, dipping, 0.6) == pytest.approx(2.0)
    assert savings.cost_to_reach(COST, dipping, 0.66) == pytest.approx(6.0)


@given(accuracies, st.floats(0.0, 1.0), st.randoms())
def test_budgets_may_come_in_any_order(value: list[float], target: float, random: object) -> None:
    cost = np.arange(1.0, len(value) + 1.0)
    order = np.array(random.sample(range(len(value)), len(value)))  # type: ignore[attr-defined]
    reached = np.array(value)
    shuffled = savings.cost_to_reach(cost[order], reached[order], target)
    assert shuffled == pytest.approx(savings.cost_to_reach(cost, reached, target), nan_ok=True)


@given(accuracies, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_accuracy_never_costs_less(value: list[float], one: float, other: float) -> None:
    cost, reached = np.arange(1.0, len(value) + 1.0), np.array(value)
    costs = [savings.cost_to_reach(cost, reached, target) for target in sorted((one, other))]
    assert not costs[0] > costs[1]
    assert not np.isnan(costs[0]) or np.isnan(costs[1])


def test_targets_are_shares_of_what_uniform_gains() -> None:
    weights = savings.resamples("pool", 4, 0, 3)
    targets = savings.gain_targets(curve([1.0, 2.0, 4.0], [0.5, 0.7, 0.6]), weights, (0.0, 0.5, 1.0))
    assert targets == pytest.approx(np.tile([0.5, 0.6, 0.7], (4, 1)))


@pytest.mark.parametrize("times", [0.5, 1.0, 3.0])
def test_a_policy_that_needs_a_third_saves_three_times(times: float) -> None:
    uniform = curve([1.0, 2.0, 4.0, 8.0], [0.5, 0.6, 0.7, 0.72])
    policy = curve([cost / times for cost in (1.0, 2.0, 4.0, 8.0)], [0.5, 0.6, 0.7, 0.72])
    weights = savings.resamples("pool", 4, 0, 5)
    targets = savings.gain_targets(uniform, weights, (0.8, 0.99))
    costs = [savings.costs_to_reach(one, weights, targets) for one in (uniform, policy)]
    assert savings.savings(*costs) == pytest.approx(np.full((6, 2), times))


def test_the_best_baseline_is_uniform_where_the_others_are_worse_or_never_reach() -> None:
    saved = np.array([[2.0, 2.0, 2.0]])
    baselines = [np.array([[0.5, np.nan, 4.0]]), np.array([[0.8, np.nan, np.nan]])]
    assert savings.against_best(saved, baselines) == pytest.approx(np.array([[2.0, 2.0, 0.5]]))


def test_a_baseline_that_was_best_by_luck_is_scored_on_other_repeats() -> None:
    price = [np.array([[2.0]]), np.array([[2.0]])]
    lucky_once, steady = [np.array([[4.0]]), np.array([[1.0]])], [np.array([[1.5]]), np.array([[1.5]])]
    # Chosen on the first half, the lucky one has 1 on the second; chosen on the second, the steady one has 1.5.
    expected = np.sqrt(2.0 / 1.0 * 2.0 / 1.5)
    assert savings.against_chosen(price, [lucky_once, steady]) == pytest.approx(np.array([[expected]]))


def test_what_is_best_on_all_repeats_is_no_matter_of_the_reading() -> None:
    price, other = np.array([[3.0, 0.9]]), np.array([[2.0, 0.8]])
    found = savings.against_chosen([price, price], [[other, other]])
    assert found == pytest.approx(np.array([[1.5, 0.9]]))
    assert found == pytest.approx(savings.against_best(price, [other]))


def test_a_baseline_that_does_not_reach_again_leaves_its_place_to_the_next() -> None:
    price, fickle = np.array([[3.0]]), [np.array([[4.0]]), np.array([[np.nan]])]
    steady = [np.array([[1.5]]), np.array([[1.5]])]
    found = savings.against_chosen([price, price], [fickle, steady])
    assert found == pytest.approx(np.array([[3.0 / 1.5]]))


def test_the_curve_of_all_repeats_is_the_mean_of_its_halves() -> None:
    halves = [curve([1.0, 2.0], [0.2, 0.4]), curve([1.0, 3.0], [0.4, 0.6])]
    cost, value = savings.Curve.mean(halves).means(np.full((1, 4), 0.25))
    assert cost == pytest.approx(np.array([[1.0, 2.5]]))
    assert value == pytest.approx(np.array([[0.3, 0.5]]))


def test_a_target_never_reached_costs_the_largest_budget() -> None:
    assert savings.bounded(np.array([[3.0, np.nan]]), 8.0) == pytest.approx(np.array([[3.0, 8.0]]))


def test_the_first_draw_is_the_prompts_as_they_are_and_every_draw_is_a_mean() -> None:
    weights = savings.resamples("pool", 7, 0, 20)
    assert weights[0] == pytest.approx(np.full(7, 1 / 7))
    assert weights.sum(axis=1) == pytest.approx(np.ones(21))
    assert (weights == savings.resamples("pool", 7, 0, 20)).all()
    assert not (weights == savings.resamples("another", 7, 0, 20)).all()


def test_pools_count_alike_whatever_their_number_of_arms() -> None:
    two, eight = np.full((3, 2), 2.0), np.full((3, 2), 8.0)
    whole, pools = savings.over_pools({"one arm": [two], "three arms": [eight, eight, eight]})
    assert whole == pytest.approx(np.full(3, 4.0))
    assert pools["three arms"] == pytest.approx(np.full(3, 8.0))


def test_a_figure_comes_with_the_interval_of_its_resamples() -> None:
    draws = np.concatenate([[9.0], np.linspace(0.0, 1.0, 101)])
    assert savings.figure("saving", draws) == {"saving": 9.0, "saving_interval": pytest.approx([0.05, 0.95])}


def test_a_gain_within_its_standard_error_is_noise() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400)
    costs = np.tile([[1.0], [2.0]], 400)
    plain = savings.Curve(np.stack([first, first + rng.normal(0.0, 0.5, 400)]), costs, 2.0)
    large = savings.Curve(np.stack([first, first + rng.normal(0.2, 0.5, 400)]), costs, 2.0)
    assert not savings.clear_gain(plain)
    assert savings.clear_gain(large)


@given(accuracies, st.integers(1, 100), st.randoms(use_true_random=False))
def test_the_best_single_arm_reaches_what_is_to_be_matched_on_any_prompts(
    value: list[float], prompts: int, random: object
) -> None:
    drawn = [[random.random() < one for one in value] for _ in range(prompts)]  # type: ignore[attr-defined]
    single = savings.Curve(np.array(drawn, dtype=float).T, np.ones((len(value), prompts)), 1.0)
    weights = savings.resamples("pool", prompts, 0, 50)
    targets = arms.targets_of({"best": single}, "best", weights)
    assert not np.isnan(savings.costs_to_reach(single, weights, targets)).any()
