"""Prompts with accepted and rejected candidates: beliefs, gains, and what a dataset teaches of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from apportion.difficulty.checkable import Checkable, check_scored, is_accepted
from apportion.difficulty.estimator import default_start
from apportion.difficulty.grid import LOGIT, PASS
from apportion.difficulty.objectives import Objective
from apportion.difficulty.rates import fit_rates, posterior
from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.policies.best_of_n import BestOfN
from apportion.types import Candidate, Draft, Finish, Sampling


def arm(name, policy="small", verifier="prm", amounts=(1, 2, 4, 8)):
    return Arm(name, BestOfN(), policy, verifier, "majority", "last", amounts, Sampling())


def scored(*scores):
    return [
        Candidate("p", at, "a", 0, Draft("x", (), None, 1, Finish.END, ()), "1", score)
        for at, score in enumerate(scores)
    ]


TWO_ARMS = (arm("a"), arm("b", "large"))


def made(objective, prompts=3):
    return Checkable(prompts, TWO_ARMS, default_start(TWO_ARMS), objective)


EVERYONE = slice(None)


def test_a_candidate_is_accepted_by_its_score_alone():
    goal = Objective("quota", 2, accept=0.7)
    assert [is_accepted(c, goal) for c in scored(0.7, 0.69, None)] == [True, False, False]


def test_counts_values_and_gains_follow_what_is_seen():
    job = made(Objective("quota", 2, accept=0.5))
    before = job.gain(EVERYONE)
    job.observe(0, 0, scored(0.9, 0.1))
    job.observe(1, 1, scored(0.9, 0.8, 0.7))
    job.observe(2, 0, scored(0.1, 0.2, 0.1, None))
    assert job.now(EVERYONE).tolist() == [0.5, 1.0, 0.0]
    accepted, rejected = job.counts(EVERYONE)
    assert (accepted.tolist(), rejected.tolist()) == ([1, 3, 0], [1, 0, 4])
    after = job.gain(EVERYONE)
    assert after[1] == pytest.approx(np.zeros(8))
    assert (after[2] < before[2]).all()
    rates = job.rate(EVERYONE)
    assert rates[1] > rates[0] > rates[2]
    # Within an arm more is worth more.
    assert (np.diff(after[:, :4], axis=1) >= 0).all()


def test_gains_are_the_objective_averaged_over_the_belief():
    job = made(Objective("coverage"))
    job.observe(0, 0, scored(0.1, 0.2))
    weights = job.belief(np.array([0]))[0]
    assert job.gain(np.array([0]))[0, :4] == pytest.approx([weights @ (1 - (1 - PASS) ** n) for n in (1, 2, 4, 8)])


def test_what_one_arm_shows_tells_of_the_other():
    job = made(Objective("coverage"), prompts=2)
    job.lifts = np.array([0.0, 1.0])
    job.observe(0, 1, scored(*[0.0] * 6))
    assert job.rate(EVERYONE, 0)[0] < job.rate(EVERYONE, 0)[1]
    # Six failures of the better arm say more than six of the other.
    job.observe(1, 0, scored(*[0.0] * 6))
    assert job.rate(EVERYONE, 0)[0] < job.rate(EVERYONE, 0)[1]


def said(*repeats, score=0.9):
    return [replace(one, repeats=times) for one, times in zip(scored(*[score] * len(repeats)), repeats, strict=True)]


def test_a_text_counts_once_and_what_repeats_it_says_nothing_of_the_rate():
    job, alone = made(Objective("quota", 4)), made(Objective("quota", 4))
    job.observe(0, 0, said(0, 1, 2, 3, 4))
    alone.observe(0, 0, said(0))
    assert [counts.tolist() for counts in job.counts(EVERYONE)] == [[1, 0, 0], [0, 0, 0]]
    assert job.drawn(EVERYONE)[:, 0].tolist() == [5, 0, 0]
    assert job.rate(EVERYONE) == pytest.approx(alone.rate(EVERYONE))
    assert job.now(EVERYONE)[0] == 0.25


def test_copies_of_one_response_weigh_as_one():
    """As a cascade hands them out: three copies of a third each."""
    job, alone = made(Objective("quota", 4)), made(Objective("quota", 4))
    third = [replace(one, draft=replace(one.draft, weight=1.0 / 3.0)) for one in said(0, 1, 2)]
    job.observe(0, 0, third)
    alone.observe(0, 0, said(0))
    assert job.rate(EVERYONE) == pytest.approx(alone.rate(EVERYONE))
    job.observe(0, 0, [replace(one, repeats=3) for one in third])
    assert job.rate(EVERYONE) == pytest.approx(alone.rate(EVERYONE))


def test_an_arm_that_repeats_itself_is_worth_what_it_may_still_say_that_is_new():
    job, alone = made(Objective("quota", 4)), made(Objective("quota", 4))
    alone.observe(0, 0, said(0))
    before, share = alone.gain(EVERYONE)[0], 1.0
    job.observe(0, 0, said(0))
    for times in range(1, 40):
        job.observe(0, 0, said(times))
        assert job.share_new(EVERYONE, 0)[0] < share
        share = job.share_new(EVERYONE, 0)[0]
    after = job.gain(EVERYONE)[0]
    assert (after[:4] < 0.15 * before[:4]).all()
    assert (np.diff(after[:4]) >= 0).all()
    assert after[4:] == pytest.approx(before[4:]), "the other arm may say something else"
    # The other prompts are not believed to be like it before there was a fit; then they are.
    assert job.share_new(EVERYONE, 0)[1] == 1.0
    job.refresh()
    assert job.share_new(EVERYONE, 0)[1] < 0.1
    assert job.share_new(EVERYONE, 1).tolist() == [1.0] * 3


def test_texts_said_once_promise_more_that_are_new():
    """Both prompts have four texts in eight candidates: three of them said once, or each said twice."""
    job = made(Objective("quota", 8), prompts=2)
    job.observe(0, 0, said(0, 1, 2, 3, 4, 0, 0, 0))
    job.observe(1, 0, said(0, 1, 0, 1, 0, 1, 0, 1))
    assert job.share_new(EVERYONE, 0)[0] > 2.0 * job.share_new(EVERYONE, 0)[1]


@pytest.mark.parametrize("goal", [Objective("quota", 4), Objective("pairs", 2), Objective("coverage")], ids=str)
def test_prompts_alike_in_all_that_was_seen_have_the_same_key_and_gain(goal):
    job = made(goal, prompts=4)
    for prompt in (0, 1):
        job.observe(prompt, 0, said(0, 1, 0, score=0.1))
    job.observe(2, 0, said(0, 0, score=0.1))
    job.observe(3, 0, said(0, 1, 2, 0, score=0.1))
    gains = job.gain(EVERYONE)
    assert job.key(0) == job.key(1)
    assert gains[0] == pytest.approx(gains[1])
    assert len({job.key(prompt) for prompt in range(4)}) == 3
    assert gains[2][0] >= gains[0][0] >= gains[3][0]
    assert job.part(np.array([0, 3])).gain(EVERYONE) == pytest.approx(gains[[0, 3]])


def test_a_part_is_a_copy():
    job = made(Objective("quota", 2))
    job.observe(2, 0, scored(0.9))
    part = job.part(np.array([2, 0]))
    assert part.gain(EVERYONE) == pytest.approx(job.gain(np.array([2, 0])))
    part.observe(0, 0, scored(0.9))
    assert job.counts(EVERYONE)[0].tolist() == [0, 0, 1]


def test_a_dataset_teaches_its_rates_and_its_arms():
    rng = np.random.default_rng(0)
    hard = np.where(rng.random(1500) < 0.6, -4.0, 2.0)
    tries = 6
    accepted = np.stack([rng.binomial(tries, 1 / (1 + np.exp(-hard - lift))) for lift in (0.0, 1.2)], axis=1)
    start = default_start(TWO_ARMS)
    prior = start.prior.sum(axis=1)
    found, lifts = fit_rates(
        accepted.astype(float), (tries - accepted).astype(float), prior, start.lifts, start.deviations
    )
    assert found.sum() == pytest.approx(1.0)
    assert lifts == pytest.approx([0.0, 1.2], abs=0.25)
    assert found[LOGIT < -2].sum() == pytest.approx(0.6, abs=0.06)
    assert found[np.abs(LOGIT) < 0.8].sum() < prior[np.abs(LOGIT) < 0.8].sum()


def test_a_text_prior_speaks_where_nothing_was_seen():
    text = np.stack([PASS, 1 - PASS])
    found, lifts = fit_rates(np.zeros((2, 1)), np.zeros((2, 1)), np.ones(41) / 41, np.zeros(1), np.zeros(1), text)
    belief = posterior(np.zeros((2, 1)), np.zeros((2, 1)), lifts, found * text)
    assert (belief @ PASS)[0] > 0.6 > 0.4 > (belief @ PASS)[1]


def test_refreshing_a_job_moves_its_prior_towards_what_it_saw():
    job = made(Objective("quota", 2), prompts=200)
    before = job.rate(np.array([0]))[0]
    for prompt in range(100, 200):
        job.observe(prompt, 0, scored(0.1, 0.1, 0.1, 0.9 if prompt % 10 == 0 else 0.1))
    job.refresh()
    assert job.rate(np.array([0]))[0] < before - 0.2


def test_an_arm_without_a_verifier_is_named():
    with pytest.raises(ConfigError, match=r"'quota'.*arms\.b has no verifier"):
        check_scored([arm("a"), arm("b", verifier=None)], Objective("quota", 4))
