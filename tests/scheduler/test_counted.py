"""The price policy where candidates are counted: it keeps its budget, stops where a prompt is done, beats the even."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from job_world import World, make_prompts
from simulated import PerSample, arm, play

from apportion.difficulty.estimator import default_start
from apportion.difficulty.grid import LOGIT
from apportion.difficulty.objectives import Objective
from apportion.scheduler.allocation import Offer, Problem, Rest
from apportion.scheduler.counted import Counted
from apportion.types import Candidate, Draft, Finish, Purchase


@dataclass
class Checked:
    """Prompts whose candidates score 1 or 0: for each arm's lift in logits a rate, the same draws in any order."""

    passing: np.ndarray
    lifts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self.drawn = [0] * len(self.passing)

    def draw(self, prompt, n, name="vote", start=None):
        found = []
        for _ in range(n):
            logit = np.log(self.passing[prompt] / (1 - self.passing[prompt])) + self.lifts.get(name, 0.0)
            good = np.random.default_rng([prompt, self.drawn[prompt]]).random() < 1 / (1 + np.exp(-logit))
            found.append(
                Candidate(str(prompt), self.drawn[prompt], name, 0, Draft("", (), 1, Finish.END), "x", float(good))
            )
            self.drawn[prompt] += 1
        return found


def counted(objective, prompts, budget, arms=None, costs=None, limits=None):
    arms = arms or (arm(select="weighted"),)
    problem = Problem(["?"] * prompts, arms, costs or PerSample(), budget, objective, 0, limits)
    return Counted(problem, default_start(arms))


def reached(objective, candidates):
    accepted = np.array([sum(c.score >= objective.accept for c in group) for group in candidates])
    rejected = np.array([len(group) for group in candidates]) - accepted
    return float(objective.reached(accepted, rejected).mean())


def mixed(prompts=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(prompts) < 0.4, rng.beta(0.5, 8, prompts), rng.beta(4, 2, prompts)).clip(1e-3, 1 - 1e-3)


GOALS = [Objective("quota", 4), Objective("pairs", 1), Objective("pairs", 2), Objective("coverage")]


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_it_keeps_its_budget_and_beats_an_even_share(goal):
    passing, each = mixed(), 5
    played = play(counted(goal, len(passing), len(passing) * each), Checked(passing), len(passing) * each)
    world = Checked(passing)
    even = [world.draw(prompt, each) for prompt in range(len(passing))]
    assert played.spent <= len(passing) * each
    assert reached(goal, played.candidates) > reached(goal, even) + 0.03


def test_a_prompt_that_has_what_it_needs_is_stopped():
    policy = counted(Objective("quota", 2), 2, 100.0)
    good = Checked(np.array([0.999, 0.999])).draw(0, 2)
    policy.observe(0, Purchase("vote", 2), good, 2.0)
    policy.reprice(98.0)
    assert policy.offer(0, 98.0) is Rest.STOP
    assert isinstance(policy.offer(1, 98.0), Offer)


def test_a_fresh_prompt_is_never_offered_one_candidate_for_a_pair():
    offer = counted(Objective("pairs", 1), 10, 1000.0).offer(0, 1000.0)
    assert isinstance(offer, Offer)
    assert offer.purchase.n >= 2


def test_hopeless_prompts_wait_while_others_are_served():
    policy = counted(Objective("quota", 4), 3, 8.0)
    world = Checked(np.array([1e-3, 1e-3, 1e-3]))
    policy.observe(0, Purchase("vote", 8), world.draw(0, 8), 8.0)
    policy.reprice(8.0)
    assert policy.offer(0, 8.0) is Rest.WAIT
    assert isinstance(policy.offer(1, 8.0), Offer)


@pytest.mark.parametrize(
    ("goal", "prompts", "budget"), [(Objective("quota", 4), 1, 6.0), (Objective("quota", 16), 10, 30.0)]
)
def test_what_is_left_buys_what_it_can_where_more_would_earn_more(goal: Objective, prompts: int, budget: float) -> None:
    """An amount that costs more than there is sets no price."""
    policy = counted(goal, prompts, budget)
    assert isinstance(policy.offer(0, budget), Offer)


def test_the_better_arm_is_found_and_bought_where_it_pays():
    arms = (arm(select="weighted"), arm("large", select="weighted", policy="large"))

    class Priced(PerSample):
        def predict(self, prompts, name, n):
            return np.full(len(prompts), n * (2.0 if name == "large" else 1.0))

    passing = np.full(200, 0.05)
    goal, world = Objective("quota", 2), Checked(passing, {"large": 4.0})
    played = play(counted(goal, 200, 1200.0, arms, Priced()), world, 1200.0, Priced())
    late = [offer.purchase.arm for _, offer in played.offers[len(played.offers) // 2 :]]
    assert late.count("large") > 0.9 * len(late)


def test_no_offer_goes_beyond_what_an_arm_can_give():
    goal, limits = Objective("quota", 8), np.full((40, 1), 5)
    played = play(counted(goal, 40, 4000.0, limits=limits), Checked(np.full(40, 0.3)), 4000.0)
    assert max(map(len, played.candidates)) <= 5
    assert played.spent > 0


def test_no_offer_costs_more_than_may_be_spent():
    policy = counted(Objective("quota", 4), 3, 1000.0)
    for most in (0.5, 1.0, 3.0, 9.0):
        offer = policy.offer(0, most)
        assert offer is Rest.WAIT or offer.cost <= most


def test_the_same_calls_give_the_same_offers():
    passing = mixed(60)
    one, other = (play(counted(Objective("quota", 3), 60, 300.0), Checked(passing), 300.0) for _ in range(2))
    assert [(p, o.purchase) for p, o in one.offers] == [(p, o.purchase) for p, o in other.offers]


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_forecast_rises_with_the_budget_and_holds_what_is_reached(goal):
    rng = np.random.default_rng(4)
    # A dataset as the start believes it to be.
    passing = rng.beta(0.6, 0.6, 400).clip(1e-3, 1 - 1e-3)
    policy = counted(goal, 400, 1600.0)
    forecasts = policy.forecast([0.0, 400.0, 1600.0, 6400.0])
    values = [forecast.value for forecast in forecasts]
    assert values[0] == pytest.approx(0.0)
    assert values == sorted(values)
    assert all(f.low <= f.value <= f.high and f.spent <= f.budget + 1e-6 for f in forecasts)
    got = reached(goal, play(policy, Checked(passing), 1600.0).candidates)
    assert forecasts[2].low <= got <= forecasts[2].high
    assert got == pytest.approx(values[2], abs=0.12)


def test_a_forecast_in_the_middle_starts_from_what_is_there():
    policy = counted(Objective("quota", 1), 2, 100.0)
    policy.observe(0, Purchase("vote", 1), Checked(np.array([0.999])).draw(0, 1), 1.0)
    policy.reprice(99.0)
    assert policy.forecast([0.0])[0].value == pytest.approx(0.5)
    assert policy.forecast([90.0])[0].value > 0.5


def test_a_purchase_that_brings_nothing_is_given_up():
    policy = counted(Objective("quota", 2), 1, 100.0)
    for _ in range(2):
        policy.observe(0, Purchase("vote", 1), [], 1.0)
    assert policy.offer(0, 50.0) is Rest.STOP


@pytest.mark.parametrize("goal", [Objective("quota", 2), Objective("pairs", 1)], ids=str)
def test_a_whole_job_reaches_its_quota_with_what_it_has(goal):
    def allocate(problem):
        checked = replace(problem, arms=problem.arms[1:], goal=goal)
        return Counted(checked, default_start(checked.arms))

    world = World(make_prompts(24), budget=40_000.0, ordered=True, allocate=allocate)
    machine = world.run()
    assert machine.ledger.spent <= 40_000.0
    assert len(world.committed) == 24
    have = [committed.candidates for committed in world.committed]
    assert reached(goal, have) > 0.5
    # Nobody goes on who has enough: at most one purchase beyond.
    for group in have:
        before = [c for c in group if c.purchase < max(one.purchase for one in group)]
        assert reached(goal, [before]) < 1.0


@pytest.mark.parametrize("goal", [Objective("quota", 4), Objective("coverage"), Objective("pairs", 2)], ids=str)
def test_a_forecast_of_plenty_does_not_stop_at_its_horizon(goal):
    """What is rare comes with a hundred candidates, and money is spent on waiting for it."""
    passing, each = mixed(200, seed=3), 60.0
    arms = (arm(select="weighted", amounts=(1, 4, 16, 64)),)
    shape = np.bincount(np.abs(np.log(passing / (1 - passing))[:, None] - LOGIT).argmin(axis=1), minlength=len(LOGIT))
    start = default_start(arms)
    prior = start.prior / start.prior.sum(axis=1, keepdims=True) * (shape / shape.sum())[:, None]
    problem = Problem(["?"] * 200, arms, PerSample(), 200 * each, goal, 0)
    policy = Counted(problem, replace(start, prior=prior, trained=True, prompts=200))
    some, plenty = policy.forecast([200 * 12.0, 200 * each])
    got = reached(goal, play(policy, Checked(passing), 200 * each).candidates)
    assert plenty.value == pytest.approx(got, abs=0.05)
    assert plenty.low <= got <= plenty.high
    assert plenty.value > some.value + 0.05
    assert plenty.spent > 200 * 48


def test_a_forecast_counts_on_no_more_than_an_arm_can_give():
    goal, few = Objective("coverage"), np.full((300, 1), 6)
    said = [counted(goal, 300, 1e5, limits=limits).forecast([1e5])[0] for limits in (few, 20 * few, None)]
    assert said[0].value < said[1].value <= said[2].value + 1e-9
    assert said[0].spent <= 6 * 300


def test_what_is_rare_is_bought_by_the_dozen_and_what_is_likely_one_by_one():
    likely, rare = (counted(Objective("coverage"), 2, 400.0, (arm(amounts=(1, 2, 4, 8, 16)),)) for _ in range(2))
    rare.observe(0, Purchase("vote", 40), Checked(np.array([1e-3])).draw(0, 40), 40.0)
    for policy in (likely, rare):
        policy.reprice(300.0)
    assert likely.offer(0, 400.0).purchase.n == 1
    assert 2 <= rare.offer(0, 400.0).purchase.n <= 16
    assert rare.offer(0, 1.5).purchase.n == 1


@pytest.mark.filterwarnings("error")
def test_a_job_without_prompts_is_no_reason_to_fail():
    goal, arms = Objective("quota", 2), (arm("vote", select="weighted"),)
    policy = Counted(Problem([], arms, PerSample(), 10.0, goal, 0), default_start(arms))
    assert policy.price >= 0.0
