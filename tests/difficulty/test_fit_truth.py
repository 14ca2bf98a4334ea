"""Fitting recovers what a pool was made from, whatever the pool is like."""

from __future__ import annotations

import numpy as np
import pytest
from pool_world import draw, make_pool

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.fit import fit
from apportion.difficulty.fitted import load
from apportion.difficulty.grid import PASS
from apportion.errors import DataError

PROMPTS = 400


@pytest.fixture(scope="module")
def logits():
    """Half of the prompts are easy, half are hard."""
    rng = np.random.default_rng(1)
    return np.where(np.arange(PROMPTS) % 2, rng.normal(-2.0, 0.4, PROMPTS), rng.normal(1.5, 0.4, PROMPTS))


@pytest.fixture(scope="module")
def policy(logits):
    rng = np.random.default_rng(2)
    decks = {
        "small": draw(rng, logits, 24, concentration=0.3, gap=1.5),
        "better": draw(rng, logits + 1.2, 12, concentration=0.3),
        "worse": draw(rng, logits - 0.8, 12, concentration=0.3),
    }
    return fit([make_pool(decks)])


def test_the_prior_has_the_truths_shape(policy, logits):
    over_pass = np.array(policy.prior).sum(axis=1)
    truth = 1.0 / (1.0 + np.exp(-logits))
    assert over_pass.sum() == pytest.approx(1.0, abs=1e-4)
    for at in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert over_pass[at >= PASS].sum() == pytest.approx((truth <= at).mean(), abs=0.08), f"P(p <= {at})"


def test_it_knows_how_wrong_answers_collide(logits):
    for concentration in (0.3, 30.0):
        made = make_pool({"a": draw(np.random.default_rng(3), logits, 24, concentration)})
        over_alpha = np.array(fit([made]).prior).sum(axis=0)
        assert CONCENTRATIONS[int(over_alpha.argmax())] == concentration


def test_lifts_are_those_of_the_arms(policy):
    assert policy.reference == "small"
    lifts = {name: arm.lift for name, arm in policy.arms.items()}
    assert lifts == pytest.approx({"small": 0.0, "better": 1.2, "worse": -0.8}, abs=0.15)


def test_the_verifier_is_calibrated(policy):
    assert policy.calibration.gap == pytest.approx(1.5, abs=0.1)
    assert policy.calibration.noise == pytest.approx(1.0, abs=0.08)
    assert policy.calibration.kinship == pytest.approx(0.0, abs=0.05)
    assert policy.weights.right > policy.weights.wrong


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_priors_mean_is_the_pools_however_few_candidates_a_prompt_has(count):
    rng = np.random.default_rng(4)
    made = make_pool({"a": draw(rng, np.full(300, 1.5), count, 1.0)})
    mean = np.array(fit([made]).prior).sum(axis=1) @ PASS
    assert mean == pytest.approx(made.decks["a"].correct.mean(), abs=0.005)


def test_a_search_is_the_reference_only_where_it_is_alone(logits):
    rng = np.random.default_rng(5)
    few, many = draw(rng, logits, 2, 1.0), draw(rng, logits, 16, 1.0)
    assert fit([make_pool({"beam@16": many, "vote": few})]).reference == "vote"
    assert fit([make_pool({"beam@16": many, "beam@4": few})]).reference == "beam@16"


def test_one_prompt_and_prompts_without_the_reference_arm_can_be_fitted_on():
    assert fit([make_pool({"a": {"p": [("4", True), ("5", False)]}})]).arms["a"].pass_rate == 0.5
    policy = fit([make_pool({"a": {"p": [("4", True)] * 3}, "b": {"q": [(None, False)]}})])
    assert policy.arms["b"].lift == 0.0, "shares no prompt with the reference"
    assert policy.fitted_on["prompts"] == 2


def test_arms_without_candidates_are_left_out_and_the_file_holds_what_is_left(tmp_path):
    rows = {"p": [("4", True, 0.5)] * 3, "q": []}
    for decks in ({"a": rows, "b": {"q": []}}, {"a": {"p": [(None, True), (None, False)]}}):
        policy = fit([make_pool(decks)])
        assert list(policy.arms) == ["a"]
        policy.save(tmp_path / "policy.json")
        assert load(tmp_path / "policy.json") == policy


def test_nothing_to_fit_on_is_named():
    with pytest.raises(DataError, match="made: no labelled candidate"):
        fit([make_pool({"a": {}})])
    with pytest.raises(DataError, match="no pool: no labelled candidate"):
        fit([])
