"""Playbooks over searches: each amount is an arm of the playbook, bought whole of the job's one arm."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_pools import make_pool
from simulated import PerSample, arm, problem

from apportion.configs.build import load_job
from apportion.difficulty import playbook, search
from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.fitted import search_size
from apportion.difficulty.keep import keep
from apportion.difficulty.playbook import Playbook, book_tables
from apportion.difficulty.pools import Pool, read_pool
from apportion.difficulty.registry import estimate
from apportion.difficulty.votes import Curve, Votes
from apportion.lab import lab_path
from apportion.policies.beam_search import BeamSearch
from apportion.policies.rsd import RewardGuided
from apportion.policies.strategy import draws_independently
from apportion.scheduler import pricing
from apportion.scheduler.allocation import Offer, Rest
from apportion.scheduler.conformance import check_allocation
from apportion.scheduler.known import Known
from apportion.scheduler.price import Price
from apportion.scheduler.pricing import price
from apportion.scheduler.sequenced import Sequenced
from apportion.types import Candidate, Draft, Finish, Purchase

PROMPTS = 12
SOLD = {"vote": "vote", "beam@4": "beam", "beam@16": "beam"}
BEAM = replace(arm("beam", "weighted", amounts=(4, 16)), strategy=BeamSearch())


class Costs(PerSample):
    """A candidate of a search costs twice one of a vote."""

    def predict(self, prompts, arm, n):
        return np.full(len(prompts), n * {"vote": 1.0, "beam": 2.0}[arm])


def labelled(*decks: str) -> Pool:
    sizes = {"vote": 6, "beam@4": 4, "beam@16": 16}
    return make_pool(45, {name: sizes[name] for name in decks}, seed=2)


ALL = labelled("vote", "beam@4", "beam@16")


def policy_of(pool):
    return replace(fit_beliefs(pool, ["made-up"]), pool=keep(pool))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(search, "PRICES", search.PRICES[1::4])
    monkeypatch.setattr(search, "SEARCH_WALKS", 300)
    monkeypatch.setattr(playbook, "IMAGINED", 3000)
    pricing._COURSES.clear()
    yield
    pricing._COURSES.clear()


def given(*arms, budget=400.0, **changes):
    return replace(problem(PROMPTS, budget, *arms, costs=Costs()), **changes)


def job(fitted, *arms, budget=400.0):
    made = given(*arms, budget=budget)
    return price({}, made, Known(2, estimate(arms, made.texts, fitted), fitted, None))


def sequenced(made, *arms, votes=None):
    """The policy of a playbook of these steps."""
    steps = Playbook(tuple((name, search_size(name)) for name in arms), votes or Votes(), labelled=True)
    cost = [n * (1.0 if name == "vote" else 2.0) for name, n in steps.steps]
    return Sequenced(made, steps, book_tables(steps, playbook.Orders(ALL, 8, 0), cost), None, sold=SOLD)


def candidates(name, *answers):
    return [Candidate("q", at, name, 0, Draft("", (), 1, Finish.END), one, None) for at, one in enumerate(answers)]


def test_a_search_is_known_by_the_amounts_that_it_sells():
    made = given(arm(), BEAM)
    found = pricing._sources(made, policy_of(ALL))
    assert {name: (one.arm.name, one.deck, one.n) for name, one in found.items()} == {
        "vote": ("vote", "vote", 1),
        "beam@4": ("beam", "beam@4", 4),
        "beam@16": ("beam", "beam@16", 16),
    }
    few = given(arm(), replace(BEAM, amounts=(4, 8)))
    assert set(pricing._sources(few, policy_of(ALL))) == {"vote", "beam@4"}
    assert set(pricing._sources(made, policy_of(labelled("vote", "beam@16")))) == {"vote", "beam@16"}


def test_a_search_of_no_known_amount_leaves_the_job_without_playbooks():
    assert pricing._sources(given(arm(), BEAM), policy_of(labelled("vote"))) == {}
    assert isinstance(job(policy_of(labelled("vote")), arm(), BEAM), Price)
    assert isinstance(job(policy_of(labelled("vote", "beam@16")), arm(), replace(BEAM, amounts=(4,))), Price)


def test_a_search_of_its_own_name_in_a_replay_is_its_own_deck():
    dealt = replace(BEAM, name="beam@4", amounts=(4, 8))
    assert {name: one.n for name, one in pricing._sources(given(dealt), policy_of(ALL)).items()} == {"beam@4": 4}


def test_samples_that_were_recorded_an_amount_at_a_time_are_sold_so():
    judged = replace(BEAM, strategy=RewardGuided())
    assert draws_independently(judged.strategy)
    known = pricing._sources(given(arm(), judged), policy_of(ALL))
    assert {name: one.n for name, one in known.items()} == {"vote": 1, "beam@4": 4, "beam@16": 16}
    policy = sequenced(given(arm(), judged), "vote", "beam@4", "beam@16")
    policy.observe(0, Purchase("vote", 1), candidates("vote", None), 1.0)
    policy._price = 0.0
    offer = policy.offer(0, 400.0)
    assert isinstance(offer, Offer)
    assert offer.purchase == Purchase("beam", 4)
    policy.observe(0, offer.purchase, candidates("beam", "1", "2", "3", "4"), offer.cost)
    later = policy.offer(0, 400.0)
    assert isinstance(later, Offer)
    assert later.purchase == Purchase("beam", 16)


def test_every_arm_of_the_shipped_config_is_known_to_the_shipped_pool():
    spec, decks = load_job("compute-optimal", []), read_pool(lab_path("lab:pool/strategies")).decks
    made = SimpleNamespace(arms=spec.arms)
    known = pricing._sources(made, SimpleNamespace(pool={"decks": decks}))
    assert {one.arm.name for one in known.values()} == {one.name for one in spec.arms}


def test_a_fitted_job_over_a_vote_and_a_search_buys_amounts_that_are_sold():
    policy = job(policy_of(ALL), arm(), BEAM, budget=60.0 * PROMPTS)
    assert isinstance(policy, Sequenced)

    def deal(prompt, name, before, n):
        rng = np.random.default_rng([prompt, before])
        assert name == "vote" or n in BEAM.amounts
        found = [str(one) for one in rng.integers(0, 2 + prompt % 2, n)]
        return candidates(name, *found), float(n * (1.0 if name == "vote" else 2.0))

    trail = check_allocation(lambda _: job(policy_of(ALL), arm(), BEAM, budget=60.0 * PROMPTS), policy._problem, deal)
    assert 0.0 < trail.spent <= 60.0 * PROMPTS


def test_what_is_offered_is_the_jobs_arm_at_its_own_cost():
    policy = sequenced(given(arm(), BEAM), "vote", "beam@4", "beam@16")
    first = policy.offer(0, 400.0)
    assert isinstance(first, Offer)
    assert first.purchase == Purchase("vote", 1)
    policy.observe(0, first.purchase, candidates("vote", "a"), 1.0)
    second = policy.offer(0, 400.0)
    assert isinstance(second, Offer)
    assert (second.purchase, second.cost) == (Purchase("beam", 4), 8.0)
    policy.observe(0, second.purchase, candidates("beam", "a", "b", "b", "c"), 8.0)
    third = policy.offer(0, 400.0)
    assert isinstance(third, Offer)
    assert (third.purchase, third.cost) == (Purchase("beam", 16), 32.0)


def test_a_search_that_cannot_be_paid_whole_waits():
    policy = sequenced(given(arm(), BEAM), "beam@4", "vote")
    assert policy.offer(0, 7.9) is Rest.WAIT
    assert isinstance(policy.offer(0, 8.0), Offer)


def test_a_search_that_ended_with_fewer_candidates_was_bought_all_the_same():
    policy = sequenced(given(arm(), BEAM), "beam@4", "vote")
    policy.observe(0, Purchase("beam", 4), candidates("beam", "a", "b"), 3.0)
    offer = policy.offer(0, 400.0)
    assert isinstance(offer, Offer)
    assert offer.purchase.arm == "vote"


def test_each_amount_of_a_search_has_votes_of_its_own_weight():
    policy = sequenced(given(arm(), BEAM), "beam@4", "beam@16", votes=Votes({"beam@16": Curve((0.0,), (0.1,))}))
    policy.observe(0, Purchase("beam", 4), candidates("beam", *"aaab"), 8.0)
    policy.observe(0, Purchase("beam", 16), candidates("beam", *"b" * 16), 32.0)
    assert policy.answer(0) == "a"
