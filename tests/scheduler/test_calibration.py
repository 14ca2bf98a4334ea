"""The calibration policy: every arm for each prompt, prompt after prompt, and a whole prefix where the budget ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_world import World, make_prompts

from apportion.costs import Unit
from apportion.difficulty.estimator import default_start
from apportion.errors import BudgetError, ConfigError
from apportion.scheduler.allocation import Allocation, Offer, Problem, Rest
from apportion.scheduler.calibration import calibration, script
from apportion.scheduler.known import Known
from apportion.types import Candidate, Draft, Finish, Purchase

SCRIPT = (Purchase("vote", 6), Purchase("best", 6), Purchase("beam", 4), Purchase("beam", 8))
"""What World's arms come to with 6 samples: a search is bought at each of its amounts."""
WHOLE = sum(purchase.n for purchase in SCRIPT)


def policy(problem: Problem, samples: int = 6) -> Allocation:
    return calibration({"samples": samples}, problem, Known(4, default_start(problem.arms), None, None))


def world(budget: float, unit: Unit = Unit.SAMPLES, prompts: int = 6, in_flight: int = 3) -> World:
    return World(make_prompts(prompts), budget, unit, in_flight=in_flight, allocate=policy)


def bought(made: World) -> list[tuple[Purchase, ...]]:
    """The purchases of each prompt, in the order of the dataset."""
    made.run().audit()
    results = sorted((one.result for one in made.committed), key=lambda result: result.index)
    return [result.purchases for result in results]


def test_every_prompt_buys_every_arm_and_a_search_at_each_amount() -> None:
    assert bought(world(10_000)) == [SCRIPT] * 6


def test_one_sample_is_all_there_is_of_an_arm_at_temperature_0() -> None:
    vote, *others = world(10_000).allocation._problem.arms  # type: ignore[attr-defined]
    greedy = replace(vote, sampling=replace(vote.sampling, temperature=0.0))
    assert script((greedy, *others), 6, [greedy.most or 6, 6, 6]) == (Purchase("vote", 1), *SCRIPT[1:])


@settings(max_examples=20)
@given(st.integers(WHOLE, 7 * WHOLE), st.integers(1, 8))
def test_a_budget_too_small_for_all_completes_as_many_prompts_as_it_holds(budget: int, in_flight: int) -> None:
    found = bought(world(budget, in_flight=in_flight))
    complete = min(6, budget // WHOLE)
    assert found == [SCRIPT] * complete + [()] * (6 - complete)


def test_costs_that_were_not_foreseen_leave_few_prompts_in_part() -> None:
    made = world(12_000, Unit.TOKENS, prompts=30, in_flight=4)
    found = bought(made)
    assert made.machine.ledger.spent <= 12_000
    complete = sum(one == SCRIPT for one in found)
    begun = sum(one != () for one in found)
    assert found[:complete] == [SCRIPT] * complete
    assert 0 < complete < 30
    assert begun - complete <= 4


def test_a_budget_below_one_prompt_is_named() -> None:
    with pytest.raises(BudgetError, match=r"23 is less than all arms are expected to cost one prompt \(24\)"):
        world(WHOLE - 1)
    with pytest.raises(ConfigError, match=r"allocation\.samples is 0"):
        policy(world(100).allocation._problem, samples=0)  # type: ignore[attr-defined]


def test_no_arm_is_asked_for_more_than_it_can_give() -> None:
    problem = replace(world(10_000).allocation._problem, limits=np.array([[4, 0, 9]] * 6))  # type: ignore[attr-defined]
    allocation = policy(problem)
    found = []
    while isinstance(offer := allocation.offer(0, 1e9), Offer):
        found.append(offer.purchase)
        allocation.observe(0, offer.purchase, [], offer.cost)
    assert offer is Rest.STOP
    assert found == [Purchase("vote", 4), Purchase("beam", 4)], "a beam of 8 does not fit beside one of 4 in 9"


def test_samples_whose_worst_case_is_not_covered_are_bought_in_parts() -> None:
    allocation = policy(world(10_000).allocation._problem)  # type: ignore[attr-defined]
    found, drawn = [], Candidate("", 0, "vote", 0, Draft("", (), 1, Finish.END), "1")
    assert isinstance(allocation.offer(0, 1e9), Offer)
    for most in (2.5, 0.5, 3.0, 1e9, 1e9):
        offer = allocation.offer(0, most)
        if isinstance(offer, Offer):
            found.append(offer.purchase)
            allocation.observe(0, offer.purchase, [drawn] * offer.purchase.n, offer.cost)
    assert found == [Purchase("vote", 2), Purchase("vote", 3), Purchase("vote", 1), Purchase("best", 6)]
