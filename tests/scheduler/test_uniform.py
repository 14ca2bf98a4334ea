"""Uniform: the same for everyone, all of the budget, never more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PerSample, World, arm, play, problem

from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.policies.best_of_n import BestOfN
from apportion.scheduler.allocation import Rest
from apportion.scheduler.allocations import build_allocation
from apportion.types import Sampling


@given(prompts=st.integers(1, 12), budget=st.integers(1, 90))
@settings(max_examples=20)
def test_it_spends_the_whole_budget_and_differs_by_one_at_most(prompts, budget):
    world = World.of(np.full(prompts, 0.5))
    played = play(build_allocation("uniform", {}, problem(prompts, budget), 4), world, budget)
    assert played.spent == budget
    assert played.costs.max() - played.costs.min() <= 1
    assert len(played.offers) == min(prompts, budget)


def test_it_works_out_n_again_when_costs_turn_out_otherwise():
    class Doubled(PerSample):
        def predict(self, prompts, arm, n):
            return np.full(len(prompts), float(n) * self.each)

    costs = Doubled()
    world = World.of(np.full(40, 0.5))
    policy = build_allocation("uniform", {}, problem(40, 400.0, costs=costs), 4)
    costs.each = 2.0
    played = play(policy, world, 400.0, cost=costs)
    assert played.spent <= 400.0
    assert played.spent >= 360.0
    assert min(len(group) for group in played.candidates) >= 4


def test_a_fixed_n_and_another_arm_are_settings():
    first, second = arm("cheap"), arm("dear")
    policy = build_allocation("uniform", {"arm": "dear", "n": 3}, problem(2, 100.0, first, second), 4)
    offer = policy.offer(0, 100.0)
    assert (offer.purchase.arm, offer.purchase.n) == ("dear", 3)
    played = play(policy, World.of([0.5, 0.5]), 100.0)
    assert played.spent == 6.0
    assert policy.offer(0, 94.0) is Rest.STOP


def test_an_amount_the_strategy_refuses_is_never_bought():
    @dataclass(frozen=True, slots=True)
    class Fours(BestOfN):
        name: ClassVar[str] = "fours"

        def check(self, n: int) -> str | None:
            return None if n % 4 == 0 and n else f"n is {n}; use a multiple of 4"

    fours = Arm("f", Fours(), "m", None, "majority", "last", (4,), Sampling())
    played = play(build_allocation("uniform", {}, problem(10, 67.0, fours), 4), World.of(np.full(10, 0.5)), 67.0)
    assert {offer.purchase.n for _, offer in played.offers} == {4, 8}
    assert 64.0 <= played.spent <= 67.0
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_allocation("uniform", {"n": 6}, problem(10, 67.0, fours), 4)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match=r"'votes'.*did you mean 'vote'"):
        build_allocation("uniform", {"arm": "votes"}, problem(2, 10.0), 4)
    with pytest.raises(ConfigError, match="at least 1"):
        build_allocation("uniform", {"n": 0}, problem(2, 10.0), 4)
    with pytest.raises(ConfigError, match=r"no setting 'm'"):
        build_allocation("uniform", {"m": 1}, problem(2, 10.0), 4)
    with pytest.raises(ConfigError, match=r"'unifrom' is unknown.*did you mean 'uniform'"):
        build_allocation("unifrom", {}, problem(2, 10.0), 4)
    with pytest.raises(ConfigError, match="objective 'acuracy' is unknown"):
        build_allocation("uniform", {}, problem(2, 10.0, objective="acuracy"), 4)


def bought(policy, *covered):
    """How many samples the first prompt buys, of a budget of 100, where so much is covered at each purchase."""
    world, found = World.of([0.5]), []
    for most in covered:
        offer = policy.offer(0, most)
        found.append(offer.purchase.n)
        policy.observe(0, offer.purchase, world.draw(0, offer.purchase.n), offer.cost)
        policy.reprice(100.0 - sum(found))
    return found


def test_what_the_worst_case_left_out_is_bought_later():
    """A reservation covers fewer at first than the policy asked for: the prompt gets the others afterwards."""
    policy = build_allocation("uniform", {"n": 8}, problem(2, 100.0), 4)
    assert bought(policy, 3.0, 2.0, 100.0) == [3, 2, 3]
    assert policy.offer(0, 100.0) is Rest.STOP


def test_what_a_prompt_lacks_is_bought_only_where_the_strategy_takes_it():
    @dataclass(frozen=True, slots=True)
    class Squares(BestOfN):
        name: ClassVar[str] = "squares"

        def check(self, n: int) -> str | None:
            return None if n in (1, 4, 9, 16) else f"n is {n}; use a square"

    squares = Arm("f", Squares(), "m", None, "majority", "last", (4,), Sampling())
    policy = build_allocation("uniform", {"n": 16}, problem(1, 100.0, squares), 4)
    assert bought(policy, 9.5, 100.0) == [9, 4], "it lacks 7 after the first"
    assert policy.offer(0, 100.0) is Rest.STOP


def test_a_purchase_that_lost_candidates_is_not_bought_again():
    policy = build_allocation("uniform", {"n": 8}, problem(1, 100.0), 4)
    offer = policy.offer(0, 3.0)
    policy.observe(0, offer.purchase, [], offer.cost)
    policy.reprice(97.0)
    assert policy.offer(0, 97.0) is Rest.STOP


def test_all_purchases_of_a_prompt_tell_its_difficulty():
    said = []
    for first, second in ((["a"] * 3, ["b"] * 5), (["b"] * 5, ["a"] * 3), (["a", "b"] * 3, ["b", "b"])):
        policy = build_allocation("uniform", {"n": 8}, problem(1, 100.0), 4)
        world = World.of([0.5])
        for answers in (first, second):
            offer = policy.offer(0, float(len(answers)))
            drawn = [replace(one, answer=answer) for one, answer in zip(world.draw(0, 8), answers, strict=False)]
            policy.observe(0, offer.purchase, drawn, offer.cost)
            policy.reprice(50.0)
        said.append((policy.difficulty(0), policy.forecast([50.0])[0].value))
    assert said[0] == pytest.approx(said[1])
    assert said[0] == pytest.approx(said[2])


@pytest.mark.parametrize("setting", [{}, {"n": 1}])
def test_the_forecast_is_of_what_a_budget_buys(setting):
    """One sample is right half the time: ten of twenty prompts that get one make a quarter."""
    policy = build_allocation("uniform", setting, problem(20, 20.0), 4)
    none, half, whole = policy.forecast([0.0, 10.0, 20.0])
    assert (none.value, none.spent) == (0.0, 0.0)
    assert half.spent == 10.0
    assert half.value == pytest.approx(whole.value / 2.0)
    assert whole.spent == 20.0
    played = play(build_allocation("uniform", setting, problem(20, 10.0), 4), World.of(np.full(20, 0.5)), 10.0)
    assert played.spent == half.spent


def test_the_forecast_of_a_fixed_amount_stays_within_the_budget():
    policy = build_allocation("uniform", {"n": 8}, problem(20, 50.0), 4)
    (said,) = policy.forecast([50.0])
    assert 40.0 <= said.spent <= 50.0
    (all_of_them,) = policy.forecast([160.0])
    assert said.value < 0.4 * all_of_them.value
