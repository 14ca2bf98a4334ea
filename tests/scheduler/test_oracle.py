"""The oracle: the best static plan, whatever the curves, and never more than the budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import Lengths, job, pool
from simulated import PerSample, arm, problem

from apportion.costs import Unit
from apportion.policies.arm import Arm
from apportion.scheduler.allocation import Offer, Problem, Rest
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.conformance import check_allocation
from apportion.scheduler.curves import truth_of
from apportion.scheduler.known import Truth
from apportion.types import Purchase

AMOUNTS = (1, 2, 4)


def static_value(trail, truth: Truth) -> float:
    """Expected objective of what was bought, where each prompt stayed with one arm."""
    bought: dict[int, dict[str, int]] = {}
    for prompt, purchase in trail.purchases:
        held = bought.setdefault(prompt, {})
        held[purchase.arm] = held.get(purchase.arm, 0) + purchase.n
    total = 0.0
    for prompt, held in bought.items():
        ((name, n),) = held.items()
        total += float(truth.curves[name][prompt, truth.amounts[name].index(n)])
    return total


def best_static(truth: Truth, costs: PerSample, prompts: int, budget: float) -> float:
    """The best of all plans with at most one purchase a prompt, tried one by one."""
    options = [(0.0, None, 0)] + [(0.0, name, at) for name in truth.curves for at in range(len(truth.amounts[name]))]
    best = 0.0
    for plan in product(options, repeat=prompts):
        cost = value = 0.0
        for prompt, (_, name, at) in enumerate(plan):
            if name is not None:
                cost += costs.predict_one(prompt, name, truth.amounts[name][at])
                value += float(truth.curves[name][prompt, at])
        if cost <= budget:
            best = max(best, value)
    return best


def made(curves: dict[str, list[list[float]]], costs, budget: float) -> tuple[Problem, Truth]:
    names = list(curves)
    truth = Truth(dict.fromkeys(names, AMOUNTS), {name: np.array(rows) for name, rows in curves.items()})
    arms: tuple[Arm, ...] = tuple(arm(name) for name in names)
    return problem(len(curves[names[0]]), budget, *arms, costs=costs), truth


def deal_for(costs):
    return lambda prompt, name, drawn, n: ([], costs.predict_one(prompt, name, n))


chances = st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=3, max_size=3)


@given(small=chances, large=chances, budget=st.integers(0, 14), dear=st.integers(1, 4))
@settings(max_examples=60)
def test_it_is_within_its_certificate_of_the_best_of_all_static_plans(small, large, budget, dear):
    costs = Lengths({"small": np.ones(3), "large": np.full(3, float(dear))})
    given_problem, truth = made({"small": small, "large": large}, costs, float(budget))
    trail = check_allocation(
        lambda one: build_allocation("oracle", {}, one, 2, None, truth), given_problem, deal_for(costs)
    )
    assert trail.spent <= budget
    reached, best = static_value(trail, truth), best_static(truth, costs, 3, budget)
    # A greedy fill loses at most one step of one prompt against the optimum.
    assert reached >= best - 1.0
    if budget >= 3 * 4 * max(1, dear):
        assert reached == pytest.approx(best)


@given(seed=st.integers(0, 30), budget=st.integers(1, 300))
@settings(max_examples=25)
def test_no_uniform_or_random_plan_beats_it_in_expectation(seed, budget):
    recorded = pool("voting", 24, seed=seed)
    truth = truth_of(recorded, orders=200)
    given_problem, deal = job(recorded, "voting", float(budget))
    trail = check_allocation(lambda one: build_allocation("oracle", {}, one, 2, None, truth), given_problem, deal)
    reached = static_value(trail, truth)
    rng = np.random.default_rng([seed, budget])
    for _ in range(10):
        name = ("small", "large")[rng.integers(2)]
        amounts, left, value = truth.amounts[name], budget, 0.0
        for prompt in rng.permutation(24):
            at = rng.integers(len(amounts))
            if amounts[at] <= left:
                left -= amounts[at]
                value += float(truth.curves[name][prompt, at])
        assert value <= reached + 1.0


def test_it_buys_each_prompt_once_and_leaves_out_the_hopeless_and_the_harm():
    costs = PerSample()
    curves = [
        [0.9, 0.9, 0.95],  # nearly settled at once
        [0.0, 0.0, 0.0],  # hopeless
        [0.4, 0.2, 0.0],  # votes make it worse
        [0.5, 0.5, 0.9],  # worth four
    ]
    given_problem, truth = made({"vote": curves}, costs, 6.0)
    trail = check_allocation(
        lambda one: build_allocation("oracle", {}, one, 2, None, truth), given_problem, deal_for(costs)
    )
    assert dict(trail.purchases) == {0: Purchase("vote", 1), 2: Purchase("vote", 1), 3: Purchase("vote", 4)}
    policy = build_allocation("oracle", {}, given_problem, 2, None, truth)
    policy.reprice(6.0)
    assert policy.offer(1, 6.0) is Rest.STOP
    assert policy.difficulty(0) == 0.9


def test_what_is_left_goes_to_the_next_best_steps():
    """Planned at a price of 2, samples cost 1: the money that is saved buys the fourth sample of the second prompt."""

    class Cheaper(PerSample):
        def predict_one(self, prompt, arm, n):
            return float(self.each * n)

    costs = Cheaper(each=2.0)
    given_problem, truth = made({"vote": [[0.5, 0.6, 0.62], [0.5, 0.6, 0.9]]}, costs, 8.0)
    policy = build_allocation("oracle", {}, given_problem, 2, None, truth)
    policy.reprice(8.0)
    first = policy.offer(0, 8.0)
    assert isinstance(first, Offer)
    costs.each = 1.0
    left = 8.0
    for _ in range(8):
        for prompt in (0, 1):
            offer = policy.offer(prompt, left)
            if isinstance(offer, Offer):
                policy.observe(prompt, offer.purchase, [], float(offer.purchase.n))
                left -= offer.purchase.n
        policy.reprice(left)
    assert left == 0.0


def test_true_costs_decide_where_they_are_known():
    """Both prompts gain alike and are expected to cost alike, but the first is truly four times dearer."""
    given_problem, truth = made({"vote": [[0.5, 0.6, 0.7]] * 2}, PerSample(each=2.0), 6.0)
    told = Truth(truth.amounts, truth.curves, {"vote": np.array([4.0, 1.0])})
    policy = build_allocation("oracle", {}, given_problem, 2, None, told)
    policy.reprice(6.0)
    offers = [policy.offer(prompt, 6.0) for prompt in (0, 1)]
    assert [offer.cost for offer in offers if isinstance(offer, Offer)] == [4.0, 2.0]


def test_its_forecast_is_the_plan_with_what_chance_does_to_it():
    given_problem, truth = made({"vote": [[0.5, 0.6, 0.7]] * 100}, PerSample(), 100.0)
    policy = build_allocation("oracle", {}, given_problem, 2, None, truth)
    one, all_of_it = policy.forecast([100.0, 400.0])
    assert (one.value, one.spent) == (pytest.approx(0.5), 100.0)
    assert (all_of_it.value, all_of_it.spent) == (pytest.approx(0.7), 400.0)
    assert one.high - one.low == pytest.approx(2 * 1.645 * 0.05, rel=1e-6)


def test_the_truth_of_a_pool_knows_what_candidates_cost():
    recorded = pool("voting", 8)
    truth = truth_of(recorded, unit=Unit.TOKENS)
    each = recorded.decks["large"].tokens.reshape(8, -1).mean(axis=1)
    assert truth.costs["large"] == pytest.approx(each)
    assert truth_of(recorded, unit=Unit.SAMPLES).costs["small"].tolist() == [1.0] * 8
    assert truth_of(recorded, unit=Unit.DOLLARS).costs == {}


def test_a_hierarchical_choice_among_candidates_of_no_chain_has_the_curves_of_the_weighted_vote():
    recorded = pool("checkable", 8)
    told, weighted, plain = (
        truth_of(recorded, select=name).curves for name in ("hierarchical", "weighted", "majority")
    )
    assert np.array_equal(told["small"], weighted["small"], equal_nan=True)
    assert not np.array_equal(told["small"], plain["small"], equal_nan=True)
