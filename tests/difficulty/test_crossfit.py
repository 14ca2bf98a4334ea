"""The error of a fitted policy is that on prompts it has not seen, arm by arm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pool_world import draw, make_pool

from apportion.difficulty.crossfit import fit_with_error, halves
from apportion.difficulty.fit import fit

PROMPTS = 240


@pytest.fixture(scope="module")
def told():
    """A pool whose texts tell how hard a prompt is, and one whose texts are shuffled."""
    rng = np.random.default_rng(0)
    logits = np.where(np.arange(PROMPTS) % 2, -2.0, 2.0) + rng.normal(0.0, 0.3, PROMPTS)
    decks = {"a": draw(rng, logits, 16, 1.0), "b": draw(rng, logits + 1.0, 3, 1.0)}
    texts = {f"p{at}": "a long hard puzzle of knights and knaves" if at % 2 else "add two" for at in range(PROMPTS)}
    order = rng.permutation(PROMPTS)
    shuffled = {f"p{at}": texts[f"p{order[at]}"] for at in range(PROMPTS)}
    return make_pool(decks, texts), make_pool(decks, shuffled)


def test_beliefs_beat_the_constant_guess_where_evidence_tells(told):
    error = fit_with_error([told[0]]).error.arms
    assert [row.after for row in error["a"].leading] == [1, 4, 16]
    assert [row.after for row in error["b"].leading] == [1], "it has no four candidates"
    for row in error["a"].leading:
        assert 0.0 <= row.brier < row.brier_constant
        assert row.log_loss < row.log_loss_constant
        assert row.prompts <= PROMPTS
    base = error["a"].leading[0]
    share = told[0].decks["a"].correct.reshape(PROMPTS, 16)[:, 0].mean()
    assert base.brier_constant == pytest.approx(share * (1 - share), abs=0.01)
    assert base.log_loss_constant == pytest.approx(
        -(share * math.log(share) + (1 - share) * math.log(1 - share)), abs=0.02
    )


def test_a_text_that_tells_ranks_the_prompts_and_one_that_does_not_is_no_use(told):
    good, bad = (fit_with_error([pool]).error.arms["a"].rank_correlation for pool in told)
    assert good is not None
    assert good > 0.7
    assert bad is None or abs(bad) < 0.25


def test_the_policy_itself_is_that_of_all_prompts(told):
    whole = fit([told[0]])
    found = fit_with_error([told[0]])
    assert found.prior == whole.prior
    assert found.arms == whole.arms
    assert found.error.log_likelihood_text == whole.error.log_likelihood_text


def test_few_prompts_have_no_error(told):
    assert fit_with_error([told[0].part(np.arange(30))]).error.arms == {}


def test_halves_hold_every_prompt_once():
    left, right = halves(41, seed=3)
    assert sorted([*left, *right]) == list(range(41))
    assert abs(len(left) - len(right)) == 1
    assert not np.array_equal(left, halves(41, seed=4)[0])
