"""Votes: a curve that rises with the score, on any scale, and about one for a typical vote."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_world import draw, make_pool

from apportion.difficulty.votes import LEAST, Curve, VoteFits, Votes, fit_votes


def deck(rows_of, prompts=61, seed=0):
    rng = np.random.default_rng(seed)
    return {f"p{at}": [rows_of(rng) for _ in range(8)] for at in range(prompts)}


def scored(scale, rate=0.5, separation=2.0, seed=0):
    """Candidates whose score, before `scale`, is a logit that separates right from wrong."""

    def one(rng):
        right = bool(rng.random() < rate)
        return ("right" if right else f"w{rng.integers(4)}", right, float(scale(rng.normal(separation * right, 1.0))))

    return deck(one, seed=seed)


def plain(rate, seed=0, kinds=4):
    def one(rng):
        right = bool(rng.random() < rate)
        return ("right" if right else f"w{rng.integers(kinds)}", right)

    return deck(one, seed=seed)


SCALES = {
    "probability": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "log probability": lambda x: -np.log1p(np.exp(-x)),
    "reward": lambda x: 100.0 * x - 3000.0,
    "tiny": lambda x: 1e-6 * x,
    "few values": lambda x: float(x > 1.0),
}


@pytest.mark.parametrize("scale", SCALES)
def test_a_better_score_never_weighs_less_and_telling_scores_weigh_more(scale):
    pool = make_pool({"a": scored(SCALES[scale])})
    votes = fit_votes(pool, ["a"])
    raw = pool.decks["a"].score
    grid = np.linspace(raw.min() - 1.0, raw.max() + 1.0, 400)
    weights = [votes.of("a", float(score)) for score in grid]
    assert all(one <= other + 1e-12 for one, other in pairwise(weights))
    assert weights[-1] > 2.0 * weights[0]
    assert min(weights) > 0.0


@pytest.mark.parametrize("scale", ["log probability", "reward", "tiny"])
def test_the_scale_of_the_scores_does_not_matter(scale):
    base, other = (make_pool({"a": scored(SCALES[name])}) for name in ("probability", scale))
    weights = [fit_votes(pool, ["a"]).many("a", pool.decks["a"].score) for pool in (base, other)]
    assert np.corrcoef(*weights)[0, 1] > 0.99


@pytest.mark.parametrize("score", [0.1, -3.7, 0.0, 1e9])
def test_scores_that_are_all_equal_teach_nothing(score):
    pool = make_pool({"a": scored(lambda x: score)})
    assert fit_votes(pool, ["a"]).of("a", score) == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_one_class_only_gives_positive_weights_about_one(rate):
    pool = make_pool({"a": scored(SCALES["probability"], rate=rate)})
    weights = fit_votes(pool, ["a"]).many("a", pool.decks["a"].score)
    assert np.isfinite(weights).all()
    assert (weights > 0.0).all()
    assert weights.mean() == pytest.approx(1.0, abs=0.2)


def test_a_typical_vote_weighs_about_one():
    pool = make_pool({"a": scored(SCALES["probability"])})
    weights = fit_votes(pool, ["a"]).many("a", pool.decks["a"].score)
    assert weights.mean() == pytest.approx(1.0, abs=0.25)


def test_one_arm_without_scores_is_a_majority():
    votes = fit_votes(make_pool({"a": plain(0.6)}), ["a"])
    assert votes.of("a", None) == 1.0
    assert votes.many("a", np.array([[np.nan, np.nan]])).tolist() == [[1.0, 1.0]]


def test_the_better_arm_has_the_weightier_vote():
    votes = fit_votes(make_pool({"weak": plain(0.35), "strong": plain(0.8, seed=1)}), ["weak", "strong"])
    assert votes.of("strong", None) > 1.5 * votes.of("weak", None) > 0.0


def test_votes_are_those_of_the_arms_that_vote_whatever_else_the_pool_has():
    rng = np.random.default_rng(7)
    logits = rng.normal(0.0, 1.5, 60)
    pool = make_pool(
        {
            "one": draw(rng, logits, 8, 1.0, gap=1.5),
            "other": draw(rng, logits - 1.0, 8, 20.0),
            "alike": draw(rng, logits, 8, 0.01),
        }
    )
    fits = VoteFits(pool)
    for arms in (["one"], ["other"], ["one", "other"], ["alike", "one"], ["one", "other", "alike"]):
        assert fits.of(arms) == fit_votes(pool.only(arms), arms)
        assert fits.of(arms[::-1]) is fits.of(arms)
    assert fits.of(["one"]).curves["one"] != fits.of(["one", "alike"]).curves["one"]


def test_some_candidates_without_a_score_do_not_hide_what_the_scores_of_others_tell():
    rows = scored(SCALES["probability"])
    whole = fit_votes(make_pool({"a": rows}), ["a"])
    for prompt in ("p0", "p7"):
        rows[prompt] = [(answer, right) for answer, right, _ in rows[prompt]]
    votes = fit_votes(make_pool({"a": rows, "b": plain(0.5, seed=2)}), ["a", "b"])
    assert votes.of("a", 0.99) > 1.3 * votes.of("a", None) > 1.5 * votes.of("a", 0.01)
    alone = fit_votes(make_pool({"a": rows}), ["a"])
    for score in (0.1, 0.5, 0.9):
        assert alone.of("a", score) == pytest.approx(whole.of("a", score), rel=0.2)


def test_hardly_any_scores_weigh_by_the_arm_alone():
    rows = scored(SCALES["probability"])
    few = {
        prompt: drawn if prompt in ("p0", "p1", "p2") else [(answer, right) for answer, right, _ in drawn]
        for prompt, drawn in rows.items()
    }
    votes = fit_votes(make_pool({"a": few, "b": plain(0.5, seed=2)}), ["a", "b"])
    assert votes.of("a", 0.01) == votes.of("a", 0.99) == votes.of("a", None)


def test_an_arm_without_candidates_harms_nothing():
    pool = make_pool({"a": plain(0.6), "none": {}})
    votes = fit_votes(pool, ["a", "none"])
    assert 0.0 < votes.of("none", None) < np.inf
    assert 0.0 < votes.of("a", None) < np.inf


CURVES = st.lists(st.tuples(st.integers(-40, 40), st.floats(LEAST, 4.0)), min_size=1, max_size=6).map(
    lambda knots: Curve(
        tuple(sorted({score / 8.0 for score, _ in knots})),
        tuple(sorted(weight for _, weight in {score: (score, weight) for score, weight in knots}.values())),
    )
)


@given(curve=CURVES, score=st.lists(st.none() | st.floats(-9.0, 9.0), min_size=1, max_size=12))
@settings(max_examples=100)
def test_many_weighs_as_of_does(curve, score):
    votes = Votes({"a": curve})
    array = np.array([np.nan if one is None else one for one in score])
    for arm in ("a", "unknown"):
        np.testing.assert_allclose(votes.many(arm, array), [votes.of(arm, one) for one in score], rtol=1e-9)


@given(score=st.lists(st.none() | st.floats(0.01, 1.0), min_size=1, max_size=12))
@settings(max_examples=50)
def test_by_score_a_vote_weighs_its_score_over_the_mean(score):
    votes = Votes(by_score=True)
    known = [one for one in score if one is not None]
    mean = float(np.mean(known)) if known else 1.0
    many = votes.many("a", np.array([np.nan if one is None else one for one in score]))
    np.testing.assert_allclose(many, [votes.of("a", one, mean) for one in score])
    assert (many > 0.0).all()
    if known:
        assert votes.of("a", mean, mean) == pytest.approx(1.0)


def test_scores_below_zero_do_not_turn_votes_negative():
    votes = Votes(by_score=True)
    assert votes.of("a", -3.0) == LEAST
    assert (votes.many("a", np.array([-3.0, -0.1])) >= LEAST).all()
