"""Length in votes: strength is moved and not made, slopes are found where they are and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from apportion.difficulty.pools import Deck
from apportion.difficulty.vote_length import fit_slope, spread_of, tilted, tilted_one

PROMPTS, EACH = 120, 24


def world(effect, seed=0, prompts=PROMPTS, each=EACH, shared=0.0):
    """Prompts whose right responses are `effect` longer, in logs, than wrong ones, which are of two kinds.

    `shared` is by how much effects differ between prompts.
    """
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.2, 0.7, prompts)[:, None]
    answer = np.where(rng.random((prompts, each)) < rate, 0, rng.integers(1, 3, (prompts, each)))
    own = effect + shared * rng.standard_normal(prompts)[:, None]
    level = rng.uniform(2.0, 8.0, prompts)[:, None]
    length = level + 0.5 * rng.standard_normal((prompts, each)) + own * (answer == 0)
    begin = np.arange(prompts + 1) * each
    tokens = np.rint(np.exp(length)).clip(1.0).ravel()
    blank = np.full(prompts * each, np.nan)
    return Deck("vote", begin, answer.ravel().astype(np.int64), (answer == 0).ravel(), tokens, blank, blank)


def right(deck, slope):
    """Share of prompts whose strongest answer of the first eight candidates is right; ties count in part."""
    rows = deck.begin[:-1, None] + np.arange(8)
    votes = np.zeros((len(rows), 3))
    lengths = np.zeros((len(rows), 3))
    for draw in rows.T:
        line = np.arange(len(rows))
        votes[line, deck.answer[draw]] += 1.0
        lengths[line, deck.answer[draw]] += slope * np.log(deck.tokens[draw])
    strength = tilted(votes, lengths)
    best = strength >= strength.max(axis=1, keepdims=True) - 1e-9
    return float((best[:, 0] / best.sum(axis=1)).mean())


@pytest.mark.parametrize("effect", [-0.6, 0.6])
def test_a_slope_that_is_there_is_found_and_helps_on_other_prompts(effect):
    slope = fit_slope(world(effect))
    assert slope * effect > 0.1
    other = world(effect, seed=1)
    assert right(other, slope) > right(other, 0.0) + 0.02


def test_where_length_says_nothing_hardly_any_slope_is_found():
    for seed in range(4):
        assert abs(fit_slope(world(0.0, seed))) < 0.15


def test_what_prompts_disagree_on_is_taken_for_less():
    agreed = fit_slope(world(-0.4))
    torn = fit_slope(world(-0.4, shared=1.5))
    assert abs(torn) < abs(agreed)


def test_few_contests_or_unknown_lengths_teach_nothing():
    few = world(-0.6, prompts=3)
    assert fit_slope(few) == 0.0
    deck = world(-0.6)
    unknown = Deck(
        "vote", deck.begin, deck.answer, deck.correct, np.full(len(deck.answer), np.nan), deck.score, deck.score
    )
    assert fit_slope(unknown) == 0.0
    alike = Deck("vote", deck.begin, deck.answer, deck.correct, np.full(len(deck.answer), 7.0), deck.score, deck.score)
    assert fit_slope(alike) == 0.0


def test_the_spread_is_what_the_lengths_were_drawn_with():
    spread = spread_of(world(-0.6), -1.0)
    assert spread.slope == -1.0
    assert spread.gap == pytest.approx(-0.6, abs=0.08)
    assert spread.deviation == pytest.approx(0.5, abs=0.05)


VOTES = arrays(np.float64, (3, 4), elements=st.integers(0, 9).map(float))
LENGTHS = arrays(np.float64, (3, 4), elements=st.floats(-0.2, 0.2))


@given(votes=VOTES, lengths=LENGTHS)
def test_length_moves_strength_between_answers_and_adds_none(votes, lengths):
    strength = tilted(votes, votes * lengths)
    np.testing.assert_allclose(strength.sum(axis=1), votes.sum(axis=1), atol=1e-9)
    assert (strength[votes == 0.0] == 0.0).all()
    assert (strength[votes > 0.0] > 0.0).all()


@given(votes=VOTES, shift=st.floats(-3.0, 3.0))
def test_what_all_responses_share_moves_nothing(votes, shift):
    np.testing.assert_allclose(tilted(votes, votes * shift), votes, atol=1e-9)


@given(votes=VOTES, lengths=LENGTHS)
def test_one_prompt_is_tilted_as_all_are(votes, lengths):
    for one, own in zip(votes, votes * lengths, strict=True):
        seen = one > 0.0
        np.testing.assert_allclose(
            tilted_one(one[seen].tolist(), own[seen].tolist()), tilted(one, own)[seen], atol=1e-9
        )
