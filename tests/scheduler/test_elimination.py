"""Bandit elimination: who has a good answer is out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pooled import job, pool
from simulated import World, play, problem

from apportion.difficulty.objectives import Objective
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Rest
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.conformance import check_allocation
from apportion.types import Candidate, Draft, Finish, Purchase


def scored(*scores: float | None) -> list[Candidate]:
    draft = Draft("", (), 1, Finish.END)
    return [Candidate("", at, "vote", 0, draft, "a", score) for at, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("gamma", "scores", "stopped"),
    [
        (1.0, (0.0, 0.0), False),
        (1.0, (0.0, 1.0), True),
        (0.8, (0.79,), False),
        (0.8, (0.1, 0.8, 0.2), True),
        (0.8, (None, None), False),
    ],
)
def test_a_prompt_is_dropped_once_its_best_score_is_good_enough(gamma, scores, stopped):
    policy = build_allocation("elimination", {"gamma": gamma, "round": 4}, problem(1, 100.0), 2)
    assert policy.offer(0, 100.0).purchase == Purchase("vote", 4)
    policy.observe(0, Purchase("vote", len(scores)), scored(*scores), float(len(scores)))
    assert (policy.offer(0, 90.0) is Rest.STOP) == stopped


@pytest.mark.parametrize(
    ("goal", "checked", "gamma"),
    [
        (Objective("coverage", accept=0.4), True, 0.4),
        (Objective("coverage", accept=0.4), False, 0.95),
        (Objective("accuracy"), True, 0.95),
    ],
)
def test_an_accepted_candidate_is_good_enough_where_one_is_sought(goal, checked, gamma):
    given = replace(problem(2, 100.0), goal=goal, checked=checked)
    policy = build_allocation("elimination", {}, given, 2)
    for prompt, score in enumerate((gamma - 0.01, gamma)):
        policy.observe(prompt, Purchase("vote", 1), scored(score), 1.0)
    assert policy.offer(0, 98.0) is not Rest.STOP
    assert policy.offer(1, 98.0) is Rest.STOP


def test_with_a_checkable_reward_nothing_is_bought_after_the_first_right_answer():
    made = pool("checkable", 30)
    limited, deal = job(made, "checkable", 300.0)
    trail = check_allocation(lambda given: build_allocation("elimination", {}, given, 2), limited, deal)
    bought = np.bincount([prompt for prompt, _ in trail.purchases], minlength=30)
    right = made.decks["small"].correct.reshape(30, -1)
    first = np.where(right.any(axis=1), right.argmax(axis=1) + 1, right.shape[1])
    assert bought.tolist() == first.tolist()


def test_rounds_go_around_while_money_lasts():
    world = World.of(np.full(5, 0.5))
    played = play(build_allocation("elimination", {"round": 2}, problem(5, 23.0), 2), world, 23.0)
    assert sorted(map(len, played.candidates)) == [4, 4, 5, 5, 5]
    with pytest.raises(ConfigError, match="round is 0"):
        build_allocation("elimination", {"round": 0}, problem(2, 10.0), 2)


@pytest.mark.parametrize("gamma", [float("nan"), float("inf")])
def test_a_score_that_none_can_be_compared_with(gamma: float):
    with pytest.raises(ConfigError, match=f"gamma is {gamma}; it must be a finite number"):
        build_allocation("elimination", {"gamma": gamma}, problem(2, 10.0), 2)
