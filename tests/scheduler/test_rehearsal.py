"""Rehearsals: honest by their own beliefs, repeatable, and right about what a job then reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import World, arm, play, problem

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.estimator import default_start
from apportion.difficulty.grid import beta_on_grid
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.rehearsal import COHORT, Cohort, rehearse


def known_start(mean=0.5, strength=2.0, concentration=3.0):
    """Beliefs that know the dataset: Beta pass rates and one concentration."""
    over_alpha = (concentration == CONCENTRATIONS).astype(float)
    prior = np.outer(beta_on_grid(mean, strength), 0.999 * over_alpha + 0.001 / len(CONCENTRATIONS))
    return replace(default_start((arm(),)), prior=prior / prior.sum(), trained=True, unparsed=0.0)


def test_what_a_rehearsal_believes_right_is_right_as_often_in_its_own_truths():
    outlook = Outlook.begin(problem(400, 1600.0), known_start())
    cohort = Cohort(outlook, np.arange(400))
    drawn: list[list[str | None]] = [[] for _ in range(COHORT)]
    draw = cohort.draw

    def recorded(prompt, at, n):
        group = draw(prompt, at, n)
        drawn[prompt] += [one.answer for one in group]
        return group

    cohort.draw = recorded
    gained, spent = rehearse(Price(PriceSettings(), cohort.outlook, 1), cohort, 1600.0)
    right = []
    for answers, truth in zip(drawn, cohort._right, strict=True):
        votes = {answer: answers.count(answer) for answer in answers if answer is not None}
        best = [answer for answer in votes if votes[answer] == max(votes.values())]
        right.append((truth in best) / len(best) if best else 0.0)
    assert spent <= 1600.0 + 1e-6
    # The deviation of the mean of 400 outcomes is 0.02.
    assert gained == pytest.approx(np.mean(right), abs=0.045)


@pytest.mark.parametrize("each", [2.0, 6.0])
def test_a_forecast_before_spending_turns_out_true_where_the_dataset_is_known(each):
    rng = np.random.default_rng(0)
    passing = rng.beta(1.0, 1.0, 400)
    # Forty kinds of wrong answer with these shares collide about as a restaurant of concentration 3 does.
    world = World.of(passing, seed=0, tempting=3.0, kinds=40)
    outlook = Outlook.begin(problem(400, each * 400), known_start())
    policy = Price(PriceSettings(), outlook, 1)
    (before,) = policy.forecast([each * 400])
    reached = play(policy, world, each * 400).right().mean()
    assert before.low <= reached <= before.high
    assert before.value == pytest.approx(reached, abs=0.04)
    assert before.high - before.low < 0.15


def test_the_same_state_gives_the_same_forecast():
    policy = build_allocation("price", {}, problem(30, 100.0), 2)
    assert policy.forecast([50.0, 100.0]) == policy.forecast([50.0, 100.0])


def test_a_forecast_promises_more_from_price_than_from_uniform():
    found = {name: build_allocation(name, {}, problem(60, 360.0), 2).forecast([360.0]) for name in ("price", "uniform")}
    assert found["price"][0].value > found["uniform"][0].value + 0.01


def test_a_forecast_while_running_starts_from_what_is_known():
    world = World.of(np.full(60, 0.97), seed=1)
    policy = build_allocation("price", {}, problem(60, 600.0), 2)
    before = policy.forecast([600.0])[0].value
    play(policy, world, 120.0)
    now, later = policy.forecast([0.0, 480.0])
    assert later.value >= now.value > before
    assert policy.forecast([1500.0])[0].spent < 1500.0
