"""A kept pool: what it says of answers, scores and labels survives; damaged ones say so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.keep import keep, kept
from apportion.difficulty.pools import Deck, Pool

SCORES = st.floats(-1e6, 1e6) | st.just(float("nan"))
CANDIDATES = st.lists(st.tuples(st.integers(-1, 5), SCORES), max_size=5)


@st.composite
def pools(draw):
    """Of 0 to 5 prompts and 1 to 3 arms; an answer is right or not whoever gives it."""
    prompts = draw(st.integers(0, 5))
    right = [draw(st.sets(st.integers(0, 5))) for _ in range(prompts)]
    decks = {}
    for arm in draw(st.sets(st.sampled_from(["small", "large", "a b"]), min_size=1)):
        rows = [draw(CANDIDATES) for _ in range(prompts)]
        flat = [(at, answer, score) for at, row in enumerate(rows) for answer, score in row]
        has_scores, has_lengths = draw(st.booleans()), draw(st.booleans())
        lengths = np.array(draw(st.lists(st.integers(0, 10**6), min_size=len(flat), max_size=len(flat))), dtype=float)
        unknown = np.full(len(flat), np.nan)
        decks[arm] = Deck(
            arm,
            np.cumsum([0, *map(len, rows)]).astype(np.int64),
            np.array([answer for _, answer, _ in flat], dtype=np.int64),
            np.array([answer in right[at] for at, answer, _ in flat], dtype=bool),
            lengths if has_lengths else unknown,
            np.array([score for _, _, score in flat]) if has_scores else unknown,
            unknown,
        )
    names = [f"q{at}" for at in range(prompts)]
    return Pool("made", names, names, [["?"] * 6] * prompts, decks)


@given(pool=pools())
@settings(max_examples=80)
def test_what_matters_survives_a_file(pool):
    found = kept(json.loads(json.dumps(keep(pool))))
    assert len(found.ids) == len(pool.ids) == len(set(found.ids))
    assert list(found.decks) == list(pool.decks)
    for arm, deck in pool.decks.items():
        other = found.decks[arm]
        np.testing.assert_array_equal(other.begin, deck.begin)
        np.testing.assert_array_equal(other.answer, deck.answer)
        np.testing.assert_array_equal(other.correct, deck.correct)
        np.testing.assert_allclose(other.score, deck.score, rtol=6e-4)
        np.testing.assert_array_equal(other.tokens, deck.tokens)
        assert other.scored == deck.scored
        for number, texts in zip(deck.answer.tolist(), [found.answers[at] for at in deck.owner], strict=True):
            assert number < len(texts)


@given(pool=pools())
@settings(max_examples=20)
def test_kept_twice_is_kept_once(pool):
    once = keep(pool)
    assert keep(kept(once)) == once


def test_no_text_is_kept():
    deck = Deck("a", np.array([0, 1]), np.array([0]), np.array([True]), *(np.array([np.nan]) for _ in range(3)))
    said = json.dumps(keep(Pool("secret", ["secret id"], ["secret prompt"], [["secret answer"]], {"a": deck})))
    assert "secret" not in said


GOOD = {"right": ["0", ""], "decks": {"a": {"answers": ["0 1 -", "2"], "scores": ["0.5 - 1", "2e-3"]}}}


def damaged(**changes):
    deck = {**GOOD["decks"]["a"], **changes}
    return {"right": GOOD["right"], "decks": {"a": {name: one for name, one in deck.items() if one is not None}}}


def test_the_example_is_good():
    assert kept(GOOD).decks["a"].correct.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        5,
        [],
        {},
        {"right": ["0"]},
        {"decks": {}},
        {"right": 3, "decks": {}},
        {"right": [3], "decks": {}},
        {"right": ["x"], "decks": {}},
        {"right": ["0"], "decks": []},
        {"right": ["0"], "decks": {"a": 3}},
        {"right": ["0"], "decks": {"a": {}}},
        {"right": ["0", "-4"], "decks": GOOD["decks"]},
        damaged(answers=["0"]),
        damaged(answers=["0 1 -", "2", "3"]),
        damaged(answers=None),
        damaged(answers=[0, 1]),
        damaged(answers=["0 one -", "2"]),
        damaged(answers=["0 1.5 -", "2"]),
        damaged(answers=["0 -7 -", "2"]),
        damaged(answers=["0 99999999999999 -", "2"]),
        damaged(answers=["0 99999999999999999999999 -", "2"]),
        damaged(scores=["0.5 - 1", "2e-3 4"]),
        damaged(scores=["0.5 - 1"]),
        damaged(scores=["0.5 - high", "2e-3"]),
        damaged(scores=3),
        damaged(scores=[0.5, 1]),
        damaged(scores=["0.5", "- 1 2e-3"]),
    ],
)
def test_damage_is_one_of_three_errors(raw):
    with pytest.raises((KeyError, TypeError, ValueError)):
        kept(raw)
