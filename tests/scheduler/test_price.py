"""Price: never over budget, better than uniform where there is something to gain, done when all is settled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PerSample, World, arm, play, problem

from apportion.scheduler.allocation import Offer, Rest
from apportion.scheduler.allocations import build_allocation
from apportion.types import Purchase

BIMODAL = np.concatenate([np.full(90, 0.95), np.full(60, 0.45)])


def both(world_of, budget, *arms, probe=2, weighted=False):
    found = {}
    for name in ("uniform", "price"):
        world = world_of()
        policy = build_allocation(name, {}, problem(len(world.passing), budget, *arms), probe)
        found[name] = play(policy, world, budget)
    return found["uniform"], found["price"]


@given(
    prompts=st.integers(1, 8), budget=st.floats(0.0, 60.0), seed=st.integers(0, 99), once=st.sampled_from([0.0, 0.7])
)
@settings(max_examples=15)
def test_it_never_spends_more_than_the_budget(prompts, budget, seed, once):
    costs = PerSample(each=1.3, once=once)
    world = World.of(np.linspace(0.1, 0.9, prompts), seed=seed)
    policy = build_allocation("price", {}, problem(prompts, budget, costs=costs), 2)
    played = play(policy, world, budget, cost=costs)
    assert played.spent <= budget + 1e-9


def test_it_beats_uniform_at_equal_cost_on_easy_and_hard_prompts():
    ahead = []
    for seed in range(3):
        uniform, price = both(lambda seed=seed: World.of(BIMODAL, seed=seed), 6.0 * len(BIMODAL))
        assert price.spent <= uniform.spent + 1e-9
        ahead.append(price.right().mean() - uniform.right().mean())
    assert np.mean(ahead) > 0.015


def test_it_spends_on_the_undecided_and_not_on_the_settled():
    _, price = both(lambda: World.of(BIMODAL, seed=1), 6.0 * len(BIMODAL))
    assert price.costs[90:].mean() > 2.5 * price.costs[:90].mean()


def test_a_budget_is_used_up_while_there_is_something_to_gain():
    budget = 5.0 * len(BIMODAL)
    _, price = both(lambda: World.of(BIMODAL, seed=2), budget)
    assert price.spent >= 0.97 * budget


def test_it_ends_when_everything_is_settled():
    world = World.of(np.full(40, 0.98), seed=0)
    budget = 4000.0
    policy = build_allocation("price", {}, problem(40, budget), 2)
    played = play(policy, world, budget)
    assert played.spent < 0.25 * budget
    assert played.right().mean() > 0.99
    assert all(policy.offer(prompt, budget) is Rest.STOP for prompt in range(40))


def test_the_order_of_the_prompts_does_not_matter():
    world = World.of(BIMODAL[::5], seed=4)
    prompts, budget = len(world.passing), 5.0 * len(world.passing)
    straight = play(build_allocation("price", {}, problem(prompts, budget), 2), world, budget)
    turned = World(world.passing[::-1], world.wrong[::-1], seed=4)
    # The mirrored world draws for prompt i what the straight one draws for its mirror image.
    draw = turned.draw
    mirror = World.of(BIMODAL[::5], seed=4)
    turned.draw = lambda prompt, n, name="vote": mirror.draw(prompts - 1 - prompt, n, name)
    assert draw is not turned.draw
    policy = build_allocation("price", {}, problem(prompts, budget), 2)
    back = play(policy, turned, budget, order=list(range(prompts))[::-1])
    np.testing.assert_array_equal(straight.costs, back.costs[::-1])


def test_the_same_calls_give_the_same_offers_bit_for_bit():
    runs = []
    for _ in range(2):
        world = World.of(BIMODAL[::4], seed=5, scores=True)
        policy = build_allocation("price", {}, problem(len(world.passing), 150.0, arm(select="weighted")), 2)
        runs.append(play(policy, world, 150.0).offers)
    assert runs[0] == runs[1]


def test_scores_are_used_where_the_arm_votes_by_them():
    passing = np.linspace(0.1, 0.6, 80)
    gained = []
    for select in ("majority", "weighted"):
        world = World.of(passing, seed=6, tempting=0.5, scores=True)
        policy = build_allocation("price", {}, problem(80, 480.0, arm(select=select)), 2)
        gained.append(play(policy, world, 480.0).right(weighted=select == "weighted").mean())
    assert gained[1] > gained[0] + 0.03


def test_what_is_believed_right_is_right_as_often():
    rng = np.random.default_rng(7)
    world = World.of(rng.beta(1.0, 0.7, 300), seed=7, tempting=6.0)
    policy = build_allocation("price", {}, problem(300, 1800.0), 2)
    played = play(policy, world, 1800.0)
    (now,) = policy.forecast([0.0])
    assert now.value == pytest.approx(played.right().mean(), abs=0.1)
    assert now.low <= played.right().mean() <= now.high


def test_the_cheap_arm_goes_first_and_the_dear_one_where_it_pays():
    class Costs(PerSample):
        def predict(self, prompts, arm, n):
            return np.full(len(prompts), (1.0 if arm == "cheap" else 8.0) * n)

    cheap, dear = arm("cheap", policy="a"), arm("dear", policy="b")
    world = World.of(np.full(60, 0.5), seed=8)
    costs = Costs()
    played = play(build_allocation("price", {}, problem(60, 600.0, cheap, dear, costs=costs), 2), world, 600.0, costs)
    first = {}
    for prompt, offer in played.offers:
        first.setdefault(prompt, offer.purchase.arm)
    assert set(first.values()) == {"cheap"}
    assert played.spent <= 600.0


def test_coverage_stops_once_a_right_answer_is_likely_and_gains_shrink():
    policy = build_allocation("price", {}, problem(1, 100.0, objective="coverage"), 1)
    offer = policy.offer(0, 100.0)
    assert isinstance(offer, Offer)
    values = [one.value for one in policy.forecast([1.0, 2.0, 4.0, 8.0, 32.0])]
    assert values == sorted(values)
    assert (np.diff(values) / [1, 2, 4, 24] <= values[0]).all()


def test_a_forecast_grows_with_the_budget_and_changes_nothing():
    policy = build_allocation("price", {}, problem(50, 200.0), 2)
    before = policy.offer(0, 200.0), policy.price
    found = policy.forecast([0.0, 50.0, 100.0, 400.0, 1600.0])
    values = [one.value for one in found]
    assert values == sorted(values)
    assert values[0] == 0.0
    assert values[-1] > values[1] > 0.2
    assert all(one.low <= one.value <= one.high for one in found)
    assert all(one.spent <= one.budget for one in found)
    assert (policy.offer(0, 200.0), policy.price) == before


def test_a_prompt_that_yields_no_candidates_is_given_up():
    policy = build_allocation("price", {}, problem(2, 100.0), 2)
    for _ in range(2):
        offer = policy.offer(0, 100.0)
        assert isinstance(offer, Offer)
        policy.observe(0, offer.purchase, [], 1.0)
    assert policy.offer(0, 100.0) is Rest.STOP
    assert isinstance(policy.offer(1, 100.0), Offer)


def test_difficulty_follows_what_the_candidates_show():
    policy = build_allocation("price", {}, problem(2, 100.0), 2)
    before = policy.difficulty(0)
    world = World.of([1.0, 0.001], seed=0, tempting=50.0)
    for prompt in (0, 1):
        policy.observe(prompt, Purchase("vote", 6), world.draw(prompt, 6), 6.0)
    assert policy.difficulty(1) < before < policy.difficulty(0) <= 1.0


def test_where_each_purchase_reads_a_long_prompt_purchases_are_larger():
    sizes = {}
    for once in (0.0, 30.0):
        costs, world = PerSample(each=1.0, once=once), World.of(np.full(30, 0.5), seed=3)
        budget = 30 * (16.0 + 2 * once)
        played = play(build_allocation("price", {}, problem(30, budget, costs=costs), 2), world, budget, cost=costs)
        sizes[once] = np.mean([offer.purchase.n for _, offer in played.offers])
    assert sizes[30.0] > 3 * sizes[0.0]


def test_nothing_affordable_is_a_reason_to_wait():
    policy = build_allocation("price", {}, problem(2, 10.0, costs=PerSample(each=3.0)), 2)
    assert policy.offer(0, 2.0) is Rest.WAIT


@pytest.mark.filterwarnings("error")
def test_a_job_without_prompts_has_no_mean_cost():
    assert build_allocation("price", {}, problem(0, 10.0), 2).price >= 0.0
