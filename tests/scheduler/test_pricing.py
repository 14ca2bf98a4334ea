"""Which form of the price policy a job gets, and that its playbooks are made once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from made_pools import make_pool
from simulated import PerSample, arm, problem

from apportion.difficulty import playbook, search
from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.keep import keep
from apportion.difficulty.registry import estimate
from apportion.errors import ConfigError
from apportion.policies.beam_search import BeamSearch
from apportion.policies.genrm import GenRM
from apportion.policies.revise import Revise
from apportion.policies.rsd import RewardGuided
from apportion.scheduler import pricing
from apportion.scheduler.allocation import Offer, Rest
from apportion.scheduler.counted import Counted
from apportion.scheduler.known import Known
from apportion.scheduler.price import Price
from apportion.scheduler.pricing import price
from apportion.scheduler.sequenced import Sequenced
from apportion.types import Candidate, Draft, Finish, Purchase, Sampling

PROMPTS = 20
INDEPENDENT = (
    replace(arm("judged", "weighted"), strategy=GenRM(), verifier=None, second="judge"),
    replace(arm("drafted", "weighted"), strategy=RewardGuided(), second="dear"),
)
"""One model's responses that another judges, and responses that two models write."""


class Costs(PerSample):
    def predict(self, prompts, arm, n):
        return np.full(len(prompts), self.once + self.each * n * (3.0 if arm == "large" else 1.0))


def policy_of(pool):
    """A fitted policy with a pool to find playbooks on, without the parts that take long."""
    return replace(fit_beliefs(pool, ["made-up"]), pool=keep(pool))


LABELLED = make_pool(45, {"small": 5, "large": 5}, seed=2)
FITTED = policy_of(LABELLED)
SCORED = policy_of(make_pool(45, {"small": 5}, seed=2, scored=True))


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """How often courses were made."""
    monkeypatch.setattr(search, "PRICES", search.PRICES[1::4])
    monkeypatch.setattr(search, "SEARCH_WALKS", 300)
    monkeypatch.setattr(playbook, "IMAGINED", 3000)
    playbook._plain_tables.cache_clear()
    pricing._COURSES.clear()
    count = []
    make = pricing._make
    monkeypatch.setattr(pricing, "_make", lambda *given: count.append(given) or make(*given))
    yield count
    playbook._plain_tables.cache_clear()
    pricing._COURSES.clear()


def job(*arms, fitted=None, settings=None, budget=120.0, objective="accuracy", costs=None, prompts=PROMPTS, **changes):
    given = replace(problem(prompts, budget, *arms, objective=objective, costs=costs or Costs()), **changes)
    return price(settings or {}, given, Known(2, estimate(given.arms, given.texts, fitted), fitted, None))


def test_a_vote_of_one_arm_has_a_playbook_without_labels():
    for select in ("majority", "weighted"):
        policy = job(arm("small", select))
        assert isinstance(policy, Sequenced)
        assert policy.answer(0) is None


@pytest.mark.parametrize("select", ["max_score", "last"])
def test_without_labels_what_is_no_vote_goes_by_the_beliefs(select):
    assert isinstance(job(arm("small", select)), Price)


def test_without_labels_several_arms_go_by_the_beliefs():
    assert isinstance(job(arm("small"), arm("large", policy="l")), Price)


def test_a_search_goes_by_the_beliefs():
    beam = replace(arm("beam", "weighted"), strategy=BeamSearch(), amounts=(4, 16))
    assert isinstance(job(beam), Price)


def test_where_the_least_amount_cannot_be_bought_for_all_single_candidates_are():
    """Without labels too, little money is no worse spent than evenly, and every job says the same of all budgets."""
    arms = arm("small", amounts=(2, 4, 8)), arm("large", policy="l", amounts=(4, 8))
    budgets = [each * PROMPTS for each in (0.5, 1.2, 1.9, 3.0, 8.0)]
    jobs = [job(*arms, budget=budget) for budget in budgets]
    sizes = [
        [one.purchase.n for at in range(PROMPTS) if isinstance(one := policy.offer(at, 1e9), Offer)] for policy in jobs
    ]
    assert [set(some) for some in sizes[:3]] == [{1}] * 3
    assert all(min(some) >= 2 for some in sizes[3:])
    said = [policy.forecast(budgets) for policy in jobs]
    assert said == [said[0]] * len(jobs)
    values = [one.value for one in said[0]]
    assert all(later >= earlier for earlier, later in pairwise(values))
    single = job(arm("small", amounts=(1,)), arm("large", policy="l", amounts=(8,)), budget=PROMPTS).forecast(
        [PROMPTS]
    )[0]
    assert values[1] > single.value - 0.03
    assert values[0] > 0.4 * single.value


@pytest.mark.parametrize("objective", ["quota", "pairs"])
def test_objectives_that_count_have_closed_forms(objective):
    one = arm("small", "max_score")
    assert isinstance(job(one, objective=objective), Counted)


def test_coverage_counts_where_every_candidate_is_checked_and_else_goes_by_the_beliefs():
    one = arm("small", "max_score")
    assert isinstance(job(one, objective="coverage", checked=True), Counted)
    assert isinstance(job(one, objective="coverage", checked=False), Price)


def test_with_labels_several_arms_have_a_playbook(made):
    policy = job(arm("small"), arm("large"), fitted=FITTED)
    assert isinstance(policy, Sequenced)
    assert len(made) == 1


def test_a_policy_that_does_not_know_every_arm_offers_no_playbook(made):
    assert isinstance(job(arm("small"), arm("other", policy="stranger"), fitted=FITTED), Price)
    assert not made


def test_an_arm_that_samples_is_known_by_its_model_under_its_own_name():
    policy = job(arm("mine", policy="small"), arm("large"), fitted=FITTED)
    assert isinstance(policy, Sequenced)
    assert policy.offer(0, 120.0).purchase.arm in ("mine", "large")


@pytest.mark.parametrize("names", [("hot", "cold"), ("small", "hot")])
def test_arms_that_would_be_one_deck_offer_no_playbook(names, made):
    """The same candidates would vote twice, and the pool knows nothing of what tells the arms apart."""
    two = [replace(arm(name, policy="small"), sampling=Sampling(temperature=0.1 * len(name))) for name in names]
    policy = job(*two, arm("large"), fitted=FITTED)
    assert isinstance(policy, Price)
    assert not made
    assert isinstance(job(two[0], arm("large"), fitted=FITTED), Sequenced)


def test_a_search_is_not_known_by_its_model(made):
    beam = replace(arm("beam", "weighted", policy="small"), strategy=BeamSearch(), amounts=(4, 16))
    assert isinstance(job(beam, fitted=FITTED), Price)
    assert not made


def test_a_vote_of_any_independent_responses_has_a_playbook_without_labels():
    assert all(isinstance(job(one), Sequenced) for one in INDEPENDENT)
    assert isinstance(job(replace(arm("chains"), strategy=Revise(), amounts=(4, 8))), Price)


@pytest.mark.parametrize("one", INDEPENDENT, ids=lambda one: one.name)
def test_independent_responses_of_any_strategy_are_dealt_from_one_deck(one):
    known = policy_of(make_pool(45, {one.name: 5, "large": 5}, seed=2))
    policy = job(one, arm("large"), fitted=known)
    assert isinstance(policy, Sequenced)
    assert policy.offer(0, 120.0).purchase.arm in (one.name, "large")


def test_what_two_models_write_is_not_known_by_one_of_them(made):
    judged, drafted = INDEPENDENT
    assert isinstance(job(drafted, arm("large"), fitted=FITTED), Price)
    assert not made
    assert isinstance(job(judged, arm("large"), fitted=FITTED), Sequenced)


def test_a_policy_without_a_pool_teaches_beliefs_alone(made):
    assert isinstance(job(arm("small"), arm("large"), fitted=replace(FITTED, pool=None)), Price)
    assert not made


def test_plain_votes_of_one_arm_are_tried_on_the_labels_but_weigh_alike():
    """What labels teach of it is what to expect: the forecast is surer than without."""
    known, unknown = job(arm("small"), fitted=FITTED), job(arm("small"))
    width = [one.forecast([120.0])[0].high - one.forecast([120.0])[0].low for one in (known, unknown)]
    assert width[0] < width[1]
    assert known.answer(0) is None


@pytest.mark.parametrize("select", ["weighted", "max_score"])
def test_scores_that_labels_weigh_choose_the_answer(select):
    policy = job(arm("small", select), fitted=SCORED)
    assert isinstance(policy, Sequenced)


def test_labels_of_a_scored_pool_promise_no_more_where_the_job_has_no_verifier():
    """Nothing in the job tells right from wrong as the recorded scores did; a replay deals them."""
    made = make_pool(45, {"small": 5}, seed=2)
    plain, bare = policy_of(made), job(arm("small"), fitted=SCORED)
    assert bare.forecast([120.0])[0].value == pytest.approx(
        job(arm("small"), fitted=plain).forecast([120.0])[0].value, abs=0.03
    )
    dealt = job(arm("small"), fitted=SCORED, limits=np.full((PROMPTS, 1), 5), recorded=True)
    assert dealt.forecast([120.0])[0].value > bare.forecast([120.0])[0].value + 0.005


def test_courses_are_made_once_for_a_policy_and_its_costs(made):
    arms = arm("small"), arm("large")
    for budget in (20.0, 60.0, 500.0):
        job(*arms, fitted=FITTED, budget=budget)
    assert len(made) == 1
    job(*arms, fitted=FITTED, costs=Costs(each=2.0))
    assert len(made) == 2
    job(*arms, fitted=replace(FITTED))
    assert len(made) == 3
    job(*arms, fitted=FITTED)
    assert len(made) == 3


def test_how_votes_weigh_tells_courses_apart(made):
    for select in ("majority", "weighted", "max_score"):
        job(arm("small", select), fitted=SCORED)
    assert len(made) == 3


def test_only_so_many_courses_are_remembered(made, monkeypatch):
    monkeypatch.setattr(pricing, "REMEMBERED", 2)
    for each in (1.0, 2.0, 3.0):
        job(arm("small"), fitted=FITTED, costs=Costs(each=each))
    assert len(pricing._COURSES) == 2
    job(arm("small"), fitted=FITTED, costs=Costs(each=3.0))
    assert len(made) == 3


def test_more_money_takes_the_course_that_is_better_with_more_money():
    arms = arm("small"), arm("large")
    poor, rich = (job(*arms, fitted=FITTED, budget=each * PROMPTS) for each in (0.8, 12.0))
    courses = next(iter(pricing._COURSES.values()))[1]
    for policy, each in ((poor, 0.8), (rich, 12.0)):
        (said,) = policy.forecast([each * PROMPTS])
        assert said.value == pytest.approx(max(one.trial.at(each) for one in courses))


def test_whatever_the_budget_a_job_says_the_same_of_every_other():
    """A job with another budget would take another course, and that course is what it would reach."""
    arms, budgets = (arm("small"), arm("large")), [each * PROMPTS for each in (0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 50.0)]
    for once in (0.0, 2.0):
        said = [job(*arms, fitted=FITTED, budget=own, costs=Costs(once=once)).forecast(budgets) for own in budgets]
        values = [one.value for one in said[0]]
        for at, budget in enumerate(budgets):
            assert [one[at] for one in said] == [said[at][at]] * len(said)
            assert 0.0 <= said[0][at].spent <= budget * (1 + 1e-9)
            assert said[0][at].low < values[at] < said[0][at].high
        assert all(later >= earlier for earlier, later in pairwise(values))
        assert values[0] > 0.0


def test_reading_counts_in_the_choice_of_a_course():
    """The strong model's candidates are worth their price; where it is dear to read with, little money leaves it."""

    class Reads(PerSample):
        def predict(self, prompts, arm, n):
            return np.full(len(prompts), 2.0 * n + self.once if arm == "large" else n)

    arms, money = (arm("small"), arm("large")), 3.0 * PROMPTS
    free, dear = (job(*arms, fitted=FITTED, budget=money, costs=Reads(once=once)) for once in (0.0, 40.0))
    assert free.offer(0, money).purchase.arm == "large"
    assert dear.offer(0, money).purchase.arm == "small"
    assert free.forecast([money])[0].value > dear.forecast([money])[0].value > 0.4


def test_prompts_without_candidates_of_an_arm_do_not_hide_the_arm():
    deck = LABELLED.decks["large"]
    gone = deck.owner == 3
    size = deck.sizes.copy()
    size[3] = 0
    columns = (deck.answer, deck.correct, deck.tokens, deck.score, deck.dollars)
    gaps = replace(
        LABELLED,
        decks={
            **LABELLED.decks,
            "large": type(deck)("large", np.concatenate([[0], np.cumsum(size)]), *(one[~gone] for one in columns)),
        },
    )
    assert isinstance(job(arm("small"), arm("large"), fitted=policy_of(gaps)), Sequenced)


@pytest.mark.parametrize("each", [3.0, 12.0])
def test_a_course_is_chosen_for_the_prompts_that_have_candidates_of_its_arms(each):
    """Where most prompts have nothing of the arm that is best by itself, they are not left without an answer."""
    arms, money = (arm("small"), arm("large")), each * PROMPTS
    limits = np.full((PROMPTS, 2), 5)
    whole = job(*arms, fitted=FITTED, budget=money, limits=limits).forecast([money])[0]
    assert whole.value == job(*arms, fitted=FITTED, budget=money).forecast([money])[0].value
    none = limits * (np.arange(PROMPTS) % 4 == 0)[:, None]
    assert job(*arms, fitted=FITTED, budget=money, limits=none).forecast([4.0 * money])[0].value < 0.3
    for gone in (0, 1):
        some = limits.copy()
        some[np.arange(PROMPTS) % 4 > 0, gone] = 0
        policy = job(*arms, fitted=FITTED, budget=money, limits=some)
        assert isinstance(policy.offer(1, money), Offer)
        assert 0.3 < policy.forecast([money])[0].value <= whole.value


def test_arms_that_no_prompt_has_together_have_no_playbook():
    half = np.arange(45) < 20
    decks = {}
    for name, mine in (("small", half), ("large", ~half)):
        deck = LABELLED.decks[name]
        some, size = mine[deck.owner], deck.sizes * mine
        columns = (deck.answer, deck.correct, deck.tokens, deck.score, deck.dollars)
        decks[name] = type(deck)(name, np.concatenate([[0], np.cumsum(size)]), *(one[some] for one in columns))
    fitted = replace(FITTED, pool=keep(replace(LABELLED, decks=decks)))
    assert isinstance(job(arm("small"), arm("large"), fitted=fitted), Price)


def test_where_candidates_cost_nothing_no_playbook_is_sought(made):
    job(arm("small"), arm("large"), fitted=FITTED, costs=Costs(each=0.0))
    assert not made


def test_a_job_without_prompts_is_no_reason_to_fail():
    policy = job(arm("small"), fitted=FITTED, prompts=0)
    assert policy.price >= 0.0


def test_an_unknown_setting_is_named():
    with pytest.raises(ConfigError, match="magic"):
        job(arm("small"), settings={"magic": 3})


def lengthy(effect, prompts=60, each=16, seed=5):
    """A pool of one arm whose right responses are `effect` longer, in logs, than its wrong ones."""
    pool = make_pool(prompts, {"small": each}, seed=seed)
    deck, rng = pool.deck("small"), np.random.default_rng(seed)
    length = 6.0 + 0.4 * rng.standard_normal(len(deck.answer)) + effect * deck.correct
    return replace(pool, decks={"small": replace(deck, tokens=np.rint(np.exp(length)))})


def after_two(policy):
    """The policy once the first prompt has two answers, of which the first is longer and scored higher."""
    drawn = [
        Candidate("0", at, "small", 0, Draft("", (), tokens, Finish.END), answer, score)
        for at, (answer, tokens, score) in enumerate((("long", 900, 0.9), ("short", 300, 0.1)))
    ]
    policy.observe(0, Purchase("small", 2), drawn, 2.0)
    return policy


@pytest.mark.parametrize(("effect", "leader"), [(-0.9, "short"), (0.9, "long")])
def test_labels_teach_a_plain_vote_whether_to_trust_the_shorter_of_two_answers(effect, leader):
    policy = job(arm("small"), fitted=policy_of(lengthy(effect)))
    assert isinstance(policy, Sequenced)
    assert after_two(policy).answer(0) == leader


def test_without_labels_the_shorter_of_two_answers_with_equal_votes_is_given():
    assert after_two(job(arm("small"))).answer(0) == "short"
    assert after_two(job(arm("small", "weighted"))).answer(0) is None


@pytest.mark.parametrize("more", [1, 5])
def test_without_labels_length_overturns_no_majority(more):
    policy = after_two(job(arm("small")))
    longer = [Candidate("0", 2 + at, "small", 0, Draft("", (), 900, Finish.END), "long") for at in range(more)]
    policy.observe(0, Purchase("small", more), longer, float(more))
    assert policy.answer(0) == "long"


def test_where_all_are_of_one_length_the_selector_chooses():
    alike = lengthy(0.0)
    deck = alike.deck("small")
    constant = replace(alike, decks={"small": replace(deck, tokens=np.full(len(deck.answer), 9.0))})
    assert after_two(job(arm("small"), fitted=policy_of(constant))).answer(0) is None


@pytest.mark.parametrize("select", ["weighted", "max_score"])
def test_what_a_verifier_is_paid_for_is_not_chosen_by_length(select):
    """Also where the policy was fitted on candidates without scores."""
    assert after_two(job(arm("small", select), fitted=policy_of(lengthy(-0.9)))).answer(0) != "short"


def test_of_a_plain_vote_another_course_is_taken_only_where_it_is_clearly_better():
    pool = lengthy(-0.9)
    job(arm("small"), fitted=policy_of(pool))
    first, *others = next(iter(pricing._COURSES.values()))[1]
    assert first.trial.doubt == 0.0
    assert first.book.votes.slope < 0.0
    assert others
    doubt = pricing.CLEARLY / np.sqrt(len(pool.ids))
    assert {course.trial.doubt for course in others} == {doubt}
    # The doubt is for choosing: what a course promises stays what it did on trial.
    for course in others:
        assert course.trial.worth(9.0) == pytest.approx(course.trial.at(9.0) - doubt)
        assert course.trial.at(9.0) > 0.3


def test_labels_that_show_a_vote_go_wrong_stop_it_with_money_left():
    """Of two answers the wrong one is the more frequent for most prompts: one candidate does better than many."""
    rng, each, prompts = np.random.default_rng(0), 16, 60
    pool = make_pool(prompts, {"small": each})
    deck = pool.deck("small")
    right = rng.random(len(deck.answer)) < np.where(deck.owner % 4 == 0, 0.9, 0.25)
    pool = replace(pool, decks={"small": replace(deck, answer=(~right).astype(np.int64), correct=right)})
    money = 10.0 * PROMPTS
    policy = job(arm("small"), fitted=policy_of(pool), budget=money)
    assert policy.forecast([money])[0].spent < 0.5 * money
    policy.observe(0, Purchase("small", 1), [Candidate("0", 0, "small", 0, Draft("", (), 1, Finish.END), "a")], 1.0)
    assert policy.offer(0, money) is Rest.STOP
    assert isinstance(job(arm("small"), fitted=FITTED, budget=money).offer(0, money), Offer)


def test_a_prompt_that_is_out_makes_room_for_the_others():
    """The price is solved over prompts that still buy: with half of them out, the others can have more."""
    policy = job(arm("small"), budget=3.0 * PROMPTS)
    for prompt in range(PROMPTS):
        three = [Candidate("q", at, "small", 0, Draft("", (), 1, Finish.END), one) for at, one in enumerate("aba")]
        policy.observe(prompt, Purchase("small", 3), three, 3.0)
    policy.reprice(2.0 * PROMPTS)
    before = policy.price
    for prompt in range(PROMPTS // 2):
        policy.close(prompt)
    policy.reprice(2.0 * PROMPTS)
    assert policy.price < before


def test_a_prompt_that_is_out_is_told_to_stop_whatever_form_the_policy_has():
    forms = [
        job(arm("small")),
        job(arm("small"), arm("large", policy="l")),
        job(arm("small", "max_score"), objective="quota"),
    ]
    assert [type(policy) for policy in forms] == [Sequenced, Price, Counted]
    for policy in forms:
        assert isinstance(policy.offer(0, 1e9), Offer)
        policy.close(0)
        assert policy.offer(0, 1e9) is Rest.STOP
        policy.reprice(100.0)
        assert isinstance(policy.offer(1, 1e9), Offer)


@pytest.mark.parametrize("stride", [0, -0.5, 2, float("nan")])
def test_a_stride_that_is_no_share_is_named(stride):
    with pytest.raises(ConfigError, match=rf"allocation\.stride is {float(stride)}; it is the share"):
        job(arm("small"), settings={"stride": stride})
