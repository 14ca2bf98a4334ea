"""Price on a playbook: within every bound, spends on the open votes, stops on the settled, and says what to expect."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pools import make_pool
from simulated import PerSample, World, arm, play, problem

from apportion.difficulty.courses import Course, fitted_courses
from apportion.difficulty.playbook import Orders, book_tables, plain_book, plain_tables
from apportion.difficulty.trial import watch
from apportion.scheduler import sequenced
from apportion.scheduler.allocation import Offer, Rest
from apportion.scheduler.conformance import check_allocation
from apportion.scheduler.frontier import replay
from apportion.scheduler.sequenced import Sequenced
from apportion.types import Candidate, Draft, Finish, Purchase

MOST = 16
BIMODAL = np.concatenate([np.full(60, 0.97), np.full(40, 0.5)])
COST = {"small": 1.0, "large": 3.0}


class ByArm(PerSample):
    """Costs of the arms of a course; reading the prompt costs `once`."""

    def predict(self, prompts, arm, n):
        return np.full(len(prompts), self.once + COST[arm] * n)


class ByPrompt(PerSample):
    """The answers of every prompt are twice as long as those of the one before."""

    def predict(self, prompts, arm, n):
        return np.asarray(self.each * n * 2.0 ** np.asarray(prompts, dtype=np.float64))


def plain(given):
    return Sequenced(given, plain_book("vote", MOST, False), plain_tables(MOST, False), None)


@cache
def course() -> Course:
    """One that buys from both arms, found on a labelled pool."""
    pool = make_pool(60, {"small": 6, "large": 6}, seed=1)
    return next(one for one in fitted_courses(pool, COST) if one.book.arms == ("small", "large"))


def fitted(given):
    return Sequenced(given, course().book, course().tables, course().trial)


def both_arms(prompts, budget, once=0.0, limits=None):
    made = problem(prompts, budget, arm("small"), arm("large"), costs=ByArm(once=once))
    return replace(made, limits=limits)


def drawn(answers, name="vote"):
    return [
        Candidate("q", at, name, 0, Draft("", (), 1, Finish.END), answer, None) for at, answer in enumerate(answers)
    ]


def dealing(costs, seed):
    """Candidates that depend on the prompt, the arm and their number alone."""

    def deal(prompt, name, before, n):
        found = []
        for at in range(before, before + n):
            rng = np.random.default_rng([seed, prompt, len(name), at])
            answer = None if rng.random() < 0.1 else str(rng.integers(3 if prompt % 2 else 1))
            found.append(Candidate(str(prompt), at, name, 0, Draft("", (), 1, Finish.END), answer, None))
        return found, costs.predict_one(prompt, name, n)

    return deal


@cache
def read_course() -> Course:
    """The playbook of `course`, where the first candidate of an arm costs four more."""
    book, once = course().book, dict.fromkeys(COST, 4.0)
    orders = Orders(make_pool(60, {"small": 6, "large": 6}, seed=1), 12, seed=1)
    tables = book_tables(book, orders, book.costs(COST, once))
    return Course(book, tables, watch(book, tables, orders, 1.0), once)


def sells(kind, each):
    """A policy over 30 prompts, whose prompts cost four to read, or seven."""
    if kind == "plain":
        made = problem(30, 30 * each, costs=PerSample(once=7.0))
        return made, plain(made)
    made, course = both_arms(30, 30 * each, once=4.0), read_course()
    return made, Sequenced(made, course.book, course.tables, course.trial, once=course.once)


@pytest.mark.parametrize("each", [9.0, 12.0, 16.0, 30.0])
@pytest.mark.parametrize("kind", ["plain", "labelled"])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_left_that_somebody_would_buy_where_reading_is_dear(kind, each, seed):
    """What is expected of many prompts need not add up for the last few: then what is left is sold for less."""
    made, policy = sells(kind, each)
    played = play(policy, World.of(np.linspace(0.1, 0.9, 30), seed), made.budget, made.costs)
    left = made.budget - played.spent
    assert left >= 0.0
    policy.reprice(1e12)  # as if money were no matter
    assert not any(isinstance(policy.offer(prompt, left), Offer) for prompt in range(30)), left


def test_the_tables_count_reading_once_an_arm():
    course = read_course()
    first = {arm: course.book.steps.index((arm, 1)) for arm in COST}
    assert {arm: course.tables.cost[at] for arm, at in first.items()} == {"small": 5.0, "large": 7.0}
    others = [at for at in range(len(course.book.steps)) if at not in first.values()]
    assert others
    assert all(course.tables.cost[at] == COST[course.book.steps[at][0]] for at in others)


@given(
    prompts=st.integers(1, 7),
    budget=st.floats(0.0, 400.0),
    each=st.sampled_from([0.01, 1.0, 7.3]),
    once=st.sampled_from([0.0, 0.5, 30.0]),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=40)
def test_no_offer_goes_beyond_the_limits_the_budget_or_what_is_left(prompts, budget, each, once, seed, data):
    limits = data.draw(st.none() | st.lists(st.integers(0, 20), min_size=prompts, max_size=prompts))
    costs = PerSample(each=each, once=once)
    made = problem(prompts, budget, costs=costs)
    if limits is not None:
        made = replace(made, limits=np.array(limits, dtype=np.int64)[:, None])
    trail = check_allocation(plain, made, dealing(costs, seed))
    assert trail.spent <= budget * (1 + 1e-9)


@given(
    prompts=st.integers(1, 6), budget=st.floats(0.0, 200.0), once=st.sampled_from([0.0, 9.0]), seed=st.integers(0, 99)
)
@settings(max_examples=25)
def test_a_playbook_of_several_arms_keeps_the_rules(prompts, budget, once, seed):
    rng = np.random.default_rng(seed)
    made = both_arms(prompts, budget, once, rng.integers(0, 6, (prompts, 2)))
    trail = check_allocation(fitted, made, dealing(made.costs, seed))
    assert trail.spent <= budget * (1 + 1e-9)


@pytest.mark.parametrize("fit", ["none", "cross"])
@pytest.mark.parametrize("arms", [["small"], ["small", "large"]])
def test_the_machine_of_a_real_job_stays_within_the_budget(fit, arms):
    pool = make_pool(24, {"small": 8, "large": 8})
    budgets = (30.0, 200.0, 900.0)
    found = replay(pool, arms, "price", budgets, 2, fit=fit)
    assert (found.costs.mean(axis=1) <= np.array(budgets)).all()
    assert found.values.mean(axis=1)[0] < found.values.mean(axis=1)[-1]


def test_a_budget_is_used_up_while_votes_are_open():
    for each in (2.0, 5.0):
        budget = each * len(BIMODAL)
        played = play(plain(problem(len(BIMODAL), budget)), World.of(BIMODAL, seed=1, tempting=9.0), budget)
        assert 0.96 * budget <= played.spent <= budget


def test_open_votes_get_what_settled_ones_leave():
    budget = 5.0 * len(BIMODAL)
    played = play(plain(problem(len(BIMODAL), budget)), World.of(BIMODAL, seed=1), budget)
    assert played.costs[60:].mean() > 2.0 * played.costs[:60].mean()


@pytest.mark.parametrize("each", [0.01, 1.0, 700.0])
def test_long_answers_of_a_vote_count_by_the_root_of_what_they_cost(each):
    policy = plain(problem(3, 1e6 * each, costs=ByPrompt(each=each)))
    offers = [policy.offer(prompt, 1e6 * each) for prompt in range(3)]
    assert all(isinstance(offer, Offer) for offer in offers)
    first, second, third = (offer.ratio for offer in offers)
    assert first / second == pytest.approx(second / third) == pytest.approx(2**0.5)


def test_a_labelled_playbook_counts_costs_whole():
    costs = ByPrompt()
    made = replace(both_arms(3, 1e6), costs=costs)
    first, second, third = (fitted(made).offer(prompt, 1e6).ratio for prompt in range(3))
    assert first / second == pytest.approx(second / third) == pytest.approx(2.0)


def test_it_stops_on_the_settled_with_money_left():
    policy = plain(problem(30, 5000.0))
    played = play(policy, World.of(np.full(30, 1.0), seed=0), 5000.0)
    assert played.spent <= 30 * 11
    assert all(policy.offer(prompt, 5000.0) is Rest.STOP for prompt in range(30))


def test_purchases_are_larger_where_reading_the_prompt_is_dear():
    sizes = {}
    for once in (0.0, 4.0, 30.0):
        costs = PerSample(each=1.0, once=once)
        budget = 40 * (10.0 + 2 * once)
        played = play(plain(problem(40, budget, costs=costs)), World.of(np.full(40, 0.5), seed=3), budget, cost=costs)
        sizes[once] = np.mean([offer.purchase.n for _, offer in played.offers])
    assert sizes[0.0] < sizes[4.0] < sizes[30.0] <= MOST


@pytest.mark.parametrize("each", [1e-9, 1e-300, 0.0])
def test_however_cheap_a_candidate_is_there_are_no_more_than_the_playbook_has(each):
    policy = plain(problem(3, 1000.0, costs=PerSample(each=each, once=10.0)))
    offer = policy.offer(0, 1000.0)
    assert isinstance(offer, Offer)
    assert 1 <= offer.purchase.n <= MOST


def test_money_without_end():
    policy = plain(problem(3, float("inf")))
    offer = policy.offer(0, float("inf"))
    assert isinstance(offer, Offer)
    assert policy.price == 0.0
    (said,) = policy.forecast([float("inf")])
    assert 0.0 <= said.low <= said.value <= said.high <= 1.0


def test_without_money_nothing_is_offered():
    policy = plain(problem(3, 0.0))
    assert policy.offer(0, 0.0) is Rest.WAIT
    (said,) = policy.forecast([0.0])
    assert (said.value, said.spent) == (0.0, 0.0)


def test_what_waits_goes_on_when_the_price_falls():
    policy = plain(problem(50, 60.0))
    policy.observe(0, Purchase("vote", 2), drawn(["a", "a"]), 2.0)
    policy.reprice(10.0)
    dear = policy.price
    assert policy.offer(0, 10.0) is Rest.WAIT
    policy.reprice(1e6)
    assert policy.price < dear
    assert isinstance(policy.offer(0, 1e6), Offer)


def test_the_open_vote_comes_before_the_one_that_agrees():
    policy = plain(problem(2, 100.0))
    policy.observe(0, Purchase("vote", 2), drawn(["a", "b"]), 2.0)
    policy.observe(1, Purchase("vote", 2), drawn(["a", "a"]), 2.0)
    policy.reprice(96.0)
    open_, agreed = (policy.offer(prompt, 96.0) for prompt in (0, 1))
    assert open_.ratio > agreed.ratio > policy.price
    assert policy.difficulty(0) < policy.difficulty(1)


def test_a_prompt_that_yields_no_candidates_is_given_up():
    policy = plain(problem(2, 100.0))
    for _ in range(2):
        offer = policy.offer(0, 100.0)
        policy.observe(0, offer.purchase, [], 1.0)
    assert policy.offer(0, 100.0) is Rest.STOP
    assert isinstance(policy.offer(1, 100.0), Offer)


def test_one_purchase_without_candidates_is_not_the_end():
    policy = plain(problem(1, 100.0))
    policy.observe(0, Purchase("vote", 1), [], 1.0)
    policy.observe(0, Purchase("vote", 1), drawn(["a"]), 1.0)
    policy.observe(0, Purchase("vote", 1), [], 1.0)
    assert policy.offer(0, 97.0) is not Rest.STOP


def test_the_answer_is_the_one_whose_votes_weigh_more_across_arms():
    policy = fitted(both_arms(1, 100.0))
    weak, strong = (course().book.votes.of(name, None) for name in ("small", "large"))
    assert strong > weak
    assert policy.answer(0) is None
    policy.observe(0, Purchase("small", 1), drawn(["a"], "small"), 1.0)
    assert policy.answer(0) == "a"
    policy.observe(0, Purchase("large", 1), drawn(["b"], "large"), 3.0)
    assert policy.answer(0) == "b"
    more = int(strong / weak) + 1
    policy.observe(0, Purchase("small", more), drawn(["a"] * more, "small"), float(more))
    assert policy.answer(0) == "a"


def test_without_labels_the_answer_is_left_to_the_selector():
    policy = plain(problem(1, 100.0))
    policy.observe(0, Purchase("vote", 2), drawn(["a", "a"]), 2.0)
    assert policy.answer(0) is None


def test_steps_of_an_arm_that_has_no_more_are_skipped():
    policy = fitted(both_arms(1, 1000.0, limits=np.array([[0, 6]])))
    assert policy.offer(0, 1000.0).purchase.arm == "large"
    nothing = fitted(both_arms(1, 1000.0, limits=np.array([[0, 0]])))
    assert nothing.offer(0, 1000.0) is Rest.STOP


@pytest.mark.parametrize("make", [plain, fitted])
def test_forecasts_grow_with_the_budget_and_stay_chances(make):
    prompts = 40
    given = problem(prompts, 200.0) if make is plain else both_arms(prompts, 200.0)
    policy = make(given)
    budgets = [0.0, 1.0, 10.0, 40.0, 80.0, 120.0, 200.0, 400.0, 1000.0, 1e5]
    before = policy.price
    said = policy.forecast(budgets)
    values = [one.value for one in said]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(values))
    assert values[0] < 0.1 < 0.5 < values[-1]
    assert [one.budget for one in said] == budgets
    for one in said:
        assert 0.0 <= one.low <= one.value <= one.high <= 1.0
        assert 0.0 <= one.spent <= one.budget + 1e-9
    assert policy.price == before


def test_halfway_forecasts_still_grow_and_end_at_what_was_reached():
    prompts = len(BIMODAL)
    policy = plain(problem(prompts, 3.0 * prompts))
    played = play(policy, World.of(BIMODAL, seed=2), 3.0 * prompts)
    said = policy.forecast([0.0, 20.0, 100.0, 500.0])
    values = [one.value for one in said]
    assert all(later >= earlier - 0.01 for earlier, later in pairwise(values))
    assert said[0].low <= played.right().mean() <= said[0].high


def test_with_a_trial_the_first_forecast_is_what_the_trial_reached():
    prompts = 40
    policy = fitted(both_arms(prompts, 200.0))
    budgets = [20.0, 100.0, 200.0, 400.0]
    for one, budget in zip(policy.forecast(budgets), budgets, strict=True):
        assert one.value == pytest.approx(course().trial.at(budget / prompts))


def test_more_prompts_make_a_forecast_surer():
    few, many = (fitted(both_arms(prompts, 4.0 * prompts)) for prompts in (20, 500))
    width = [said.high - said.low for said in (few.forecast([80.0])[0], many.forecast([2000.0])[0])]
    assert width[1] < width[0]
    # Never surer than the trial was.
    assert width[1] > 0.05


def test_labels_make_a_forecast_surer():
    unknown = plain(problem(100, 400.0)).forecast([400.0])[0]
    known = fitted(both_arms(100, 400.0)).forecast([400.0])[0]
    assert known.high - known.low < unknown.high - unknown.low


@pytest.mark.parametrize(("once", "each"), [(4.0, 6.0), (30.0, 12.0), (4.0, 40.0)])
def test_a_forecast_counts_what_reading_the_prompts_takes(once, each):
    prompts, costs, reached, spent = 100, PerSample(each=1.0, once=once), [], []
    budget = prompts * each
    (said,) = plain(problem(prompts, budget, costs=costs)).forecast([budget])
    (free,) = plain(problem(prompts, 1e6)).forecast([1e6])
    for seed in range(2):
        world = World.of(np.random.default_rng(seed).beta(0.6, 0.6, prompts), seed=seed)
        played = play(plain(problem(prompts, budget, costs=costs)), world, budget, cost=costs)
        rich = play(plain(problem(prompts, 1e6)), replace(world), 1e6)
        reached.append(played.right().mean() / rich.right().mean())
        spent.append(played.spent)
    # The dataset is not the forecast's; what share of its ceiling a budget reaches is.
    assert said.value / free.value == pytest.approx(np.mean(reached), abs=0.12)
    assert said.spent == pytest.approx(np.mean(spent), rel=0.15)


@pytest.mark.parametrize("each", [1e-12, 1e-7, 1e9])
def test_what_is_said_and_bought_does_not_depend_on_the_unit(each):
    def played(each):
        budget, costs = 3.0 * len(BIMODAL) * each, PerSample(each=each)
        policy = plain(problem(len(BIMODAL), budget, costs=costs))
        said = policy.forecast([budget])[0]
        offers = play(policy, World.of(BIMODAL, seed=2), budget, cost=costs).offers
        return said.value, said.spent / each, [(prompt, offer.purchase) for prompt, offer in offers]

    value, spent, bought = played(1.0)
    other = played(each)
    assert other[0] == pytest.approx(value, abs=0.01)
    assert other[1] == pytest.approx(spent, rel=0.01)
    assert other[2] == bought


@pytest.mark.parametrize("once", [0.0, 4.0])
@pytest.mark.parametrize("budget", [250.0, 400.0, 900.0])
def test_prompts_far_below_the_price_are_passed_over_to_no_effect(monkeypatch, once, budget):
    """Where costs are what is expected, a job buys what it would buy if every offer were worked out."""

    def bought():
        costs = PerSample(once=once)
        made = problem(len(BIMODAL), budget, costs=costs)
        played = play(plain(made), World.of(BIMODAL, seed=4, tempting=9.0), budget, cost=costs)
        return [(prompt, offer.purchase) for prompt, offer in played.offers]

    quick = bought()
    monkeypatch.setattr(sequenced, "HARDLY", 0.0)
    assert quick == bought()
    assert len(quick) > 20
