"""Beliefs: against enumerated Bayes on small cases, and calibrated on simulated datasets."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.belief import CONCENTRATIONS, World, believe, expected_pass
from apportion.difficulty.evidence import Evidence
from apportion.difficulty.grid import PASS, POINTS, beta_on_grid, shifted
from apportion.difficulty.prior import fit_prior
from apportion.difficulty.scores import Calibration
from apportion.types import Candidate, Draft, Finish

FLAT = World(lifts=np.zeros(1), unparsed=0.0)


def candidates(answers, scores=None, weight=1.0):
    scores = scores or [None] * len(answers)
    draft = Draft("", (), 1, Finish.END, weight=weight)
    return [
        Candidate("0", at, "a", 0, draft, answer, score)
        for at, (answer, score) in enumerate(zip(answers, scores, strict=True))
    ]


def seen(*groups, scores=None):
    evidence = Evidence(len(groups), 1)
    for prompt, group in enumerate(groups):
        evidence.add(prompt, 0, candidates(list(group), scores))
    return evidence.rows(slice(0, len(groups)))


def chance(partition, right, p, alpha):
    """Probability of a sequence of answers by walking through it: right with p, else a seat in the restaurant."""
    total, tables = 1.0, {}
    for answer in partition:
        if answer == right:
            total *= p
            continue
        seated = sum(tables.values())
        total *= (1 - p) * (tables.get(answer) or alpha) / (alpha + seated)
        tables[answer] = tables.get(answer, 0) + 1
    return total


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
@settings(max_examples=40)
def test_the_posterior_is_that_of_the_generative_story(answers):
    rows = seen(answers)
    order = list(dict.fromkeys(answers))
    expected = np.zeros(len(order) + 1)
    for at, right in enumerate([*order, None]):
        for (i, p), (k, alpha) in itertools.product(enumerate(PASS), enumerate(CONCENTRATIONS)):
            expected[at] += FLAT.prior[i, k] * chance(answers, right, p, alpha)
    found = believe(rows, FLAT).right[0]
    assert found == pytest.approx(expected / expected.sum(), abs=1e-9)


def test_beliefs_sum_to_one_and_empty_evidence_is_the_prior():
    belief = believe(seen([], ["a", "a", "b"], [None, None]), FLAT)
    assert belief.joint.sum(axis=(1, 2)) == pytest.approx(np.ones(3))
    assert belief.pass_rate[0] == pytest.approx(FLAT.prior.sum(axis=1))
    assert belief.right[0, -1] == pytest.approx(1.0)


def test_agreement_raises_and_scatter_lowers_the_pass_rate():
    belief = believe(seen(["a"] * 6, list("abcdef"), [None] * 6), FLAT)
    together, apart, unread = expected_pass(belief)
    assert together > 0.8
    assert apart < 0.3
    assert apart < unread < 0.5


def test_the_order_of_the_candidates_does_not_matter():
    one, other = seen(list("aabcab")), seen(list("bacaab"))
    assert sorted(believe(one, FLAT).right[0]) == pytest.approx(sorted(believe(other, FLAT).right[0]))


def test_a_score_moves_belief_towards_the_answer_it_favours():
    plain = believe(seen(["a", "b"]), FLAT).right[0]
    scored = believe(seen(["a", "b"], scores=[0.9, 0.1]), FLAT).right[0]
    assert plain[0] == pytest.approx(plain[1])
    assert scored[0] > 2 * scored[1]
    ignored = believe(seen(["a", "b"], scores=[0.9, 0.1]), replace(FLAT, calibration=Calibration(gap=0.0))).right[0]
    assert ignored == pytest.approx(plain)


def test_candidates_that_share_a_beam_count_for_less():
    evidence = Evidence(2, 1)
    evidence.add(0, 0, candidates(["a"] * 4))
    evidence.add(1, 0, candidates(["a"] * 4, weight=0.25))
    right = believe(evidence.rows(slice(0, 2)), FLAT).right
    assert right[0, 0] > right[1, 0] > 0.5 - 1e-9


def test_a_lift_is_a_shift_of_the_pass_rate():
    rate = shifted(beta_on_grid(0.4, 30.0), 1.0) @ PASS
    odds = 0.4 / 0.6 * np.e
    assert rate == pytest.approx(odds / (1 + odds), abs=0.03)
    strong = World(lifts=np.array([2.0]), unparsed=0.0)
    rows = seen(["a"] * 4 + ["b"])
    assert expected_pass(believe(rows, strong))[0] < expected_pass(believe(rows, FLAT))[0]


def test_more_answers_than_slots_are_wrong_ones_that_never_agree():
    evidence = Evidence(1, 1)
    evidence.add(0, 0, candidates([str(n) for n in range(80)]))
    evidence.add(0, 0, candidates(["79", "79", "0"]))
    rows = evidence.rows(slice(0, 1))
    assert rows.votes[0].max() == 2.0
    assert expected_pass(believe(rows, FLAT))[0] < 0.1


@pytest.mark.parametrize("mean", [0.3, 0.8])
def test_empirical_bayes_finds_the_mean_pass_rate_and_calibrates_the_belief(mean):
    rng = np.random.default_rng(2)
    passing = rng.beta(3 * mean, 3 * (1 - mean), 400)
    evidence, truth = Evidence(400, 1), []
    for prompt, p in enumerate(passing):
        shares = rng.dirichlet(np.full(40, 4.0 / 40))
        answers = ["r" if rng.random() < p else f"w{rng.choice(40, p=shares)}" for _ in range(8)]
        evidence.add(prompt, 0, candidates(answers))
        truth.append(answers[0] == "r")
    rows = evidence.rows(slice(0, 400))
    fitted = replace(FLAT, prior=fit_prior(rows, FLAT))
    belief = believe(rows, fitted)
    # The first slot of a prompt holds its first answer.
    first = belief.right[:, 0]
    assert expected_pass(belief).mean() == pytest.approx(passing.mean(), abs=0.06)
    assert first.mean() == pytest.approx(np.mean(truth), abs=0.07)
    sure = first > 0.8
    assert np.mean(np.array(truth)[sure]) > 0.8
    flat_error = abs(expected_pass(believe(rows, FLAT)).mean() - passing.mean())
    assert abs(expected_pass(belief).mean() - passing.mean()) <= flat_error + 0.02


def test_the_grid_is_fine_enough_and_weights_are_kept():
    assert len(PASS) == POINTS
    assert (np.diff(PASS) > 0).all()
    for lift in (-3.0, 0.2, 9.0):
        assert shifted(beta_on_grid(0.5, 2.0), lift).sum() == pytest.approx(1.0)
