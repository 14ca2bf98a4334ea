"""Objectives that count candidates, replayed on pools: policies are told k, and price beats uniform and elimination."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_pools import make_pool

from apportion.costs import Unit
from apportion.difficulty.objectives import Objective
from apportion.difficulty.pools import Pool, read_pool
from apportion.errors import ConfigError
from apportion.scheduler.allocations import ALLOCATIONS, build_allocation
from apportion.scheduler.contest import Terms, check_terms
from apportion.scheduler.counted import Counted
from apportion.scheduler.dealing import Table
from apportion.scheduler.frontier import replay
from apportion.scheduler.playing import Game, problem_of

POOLS = os.environ.get("APPORTION_POOLS")


def reached(pool: Pool, arms: list[str], policy: str, budget: float, goal: str, repeats: int = 2) -> float:
    found = replay(pool, arms, policy, [budget], repeats, objective=goal)
    assert (found.cost <= budget * (1 + 1e-9)).all()
    return float(found.accuracy.mean())


@pytest.mark.parametrize("goal", [Objective("quota", 4), Objective("pairs", 2), Objective("coverage")], ids=str)
def test_policies_are_told_the_whole_objective(goal: Objective) -> None:
    table = Table(make_pool(6), Unit.SAMPLES, {"small": "max_score"}, revealed=True)
    problem, _, _ = problem_of(table, Game(np.arange(6), 30.0, goal, {}))
    assert problem.goal == goal
    policy = build_allocation("price", {}, problem, 4)
    assert isinstance(policy, Counted)
    assert policy.evidence.objective == goal


def test_votes_are_not_counted() -> None:
    table = Table(make_pool(6), Unit.SAMPLES, {"small": "majority"}, revealed=False)
    for goal in (Objective(), Objective("coverage")):
        problem, _, _ = problem_of(table, Game(np.arange(6), 30.0, goal, {}))
        assert not problem.counts
        assert not isinstance(build_allocation("price", {}, problem, 4), Counted)


@pytest.mark.parametrize(
    ("goal", "budget", "margin"),
    [("coverage", 60, 0.08), ("quota:2", 60, 0.05), ("quota:4", 200, 0.04), ("pairs:2", 200, 0.1)],
)
def test_price_reaches_more_than_uniform(goal: str, budget: float, margin: float) -> None:
    pool = make_pool(120, {"small": 32}, seed=1)
    price, uniform = (reached(pool, ["small"], policy, budget, goal) for policy in ("price", "uniform"))
    assert price > uniform + margin


def test_what_a_prompt_has_enough_of_is_not_paid_for() -> None:
    pool = make_pool(60, {"small": 32}, seed=1)
    spent = [
        replay(pool, ["small"], "price", [600.0], 1, objective=goal).cost.mean() for goal in ("coverage", "quota:3")
    ]
    assert spent[0] < 0.6 * spent[1] < 0.4 * 600


def test_price_on_two_arms_covers_more_than_any_rule_on_one() -> None:
    pool = make_pool(100, {"small": 6, "large": 12}, seed=0)
    best = max(reached(pool, [arm], rule, 60, "coverage") for arm in pool.decks for rule in ("elimination", "uniform"))
    assert reached(pool, ["small", "large"], "price", 60, "coverage") > best + 0.02


@pytest.mark.slow
@pytest.mark.skipif(POOLS is None, reason="recorded pools of real models: set APPORTION_POOLS to their folder")
def test_price_covers_more_of_game24_than_elimination_and_uniform() -> None:
    pool = read_pool(Path(POOLS or "") / "game24")
    best = max(
        reached(pool, [arm], rule, 5200, "coverage") for arm in pool.decks for rule in ("elimination", "uniform")
    )
    assert reached(pool, list(pool.decks), "price", 5200, "coverage") > best
    # Of a single arm it buys where that is cheap, which elimination cannot tell.
    alone = {
        policy: reached(pool, ["tot-b5"], policy, 8000, "coverage") for policy in ("price", "elimination", "uniform")
    }
    assert alone["price"] > alone["elimination"] > alone["uniform"]
    two = {policy: reached(pool, ["cot"], policy, 1400, "quota:2") for policy in ("price", "uniform")}
    assert two["price"] > two["uniform"]


@pytest.mark.parametrize("goal", [Objective("quota", 2), Objective("pairs", 1)], ids=str)
@pytest.mark.parametrize("policy", sorted(set(ALLOCATIONS) - {"price", "uniform", "calibration"}))
def test_a_policy_that_cannot_count_is_refused(policy: str, goal: Objective) -> None:
    with pytest.raises(ConfigError, match=rf"'{policy}' knows nothing of the objective '{goal.name}'.*policy=price"):
        check_terms(Terms(goal=goal), [policy])
