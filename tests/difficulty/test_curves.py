"""Curves of recorded prompts against the definition: every order counted, on pools small enough."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.curves import curves_of, grid
from apportion.difficulty.pools import Deck
from apportion.errors import ConfigError


def deck(*prompts: str, scores=None, certainty=None) -> Deck:
    """A letter a candidate: a capital is right, a dash unparsed, a star right but unparsed."""
    text = "".join(prompts)
    begin = np.concatenate([[0], np.cumsum([len(one) for one in prompts])]).astype(np.int64)
    answer = np.array([-1 if one in "-*" else ord(one) - 65 for one in text], dtype=np.int64)
    right = np.array([one.isupper() or one == "*" for one in text], dtype=bool)
    nothing = np.full(len(text), np.nan)
    made = Deck("vote", begin, answer, right, nothing, nothing if scores is None else np.array(scores), nothing)
    return made if certainty is None else replace(made, certainty=np.array(certainty))


def value(letters, scores, select: str) -> float:
    """The objective of some candidates, ties shared."""
    if select == "coverage":
        return float(any(one.isupper() or one == "*" for one in letters))
    known = [score for one, score in zip(letters, scores, strict=True) if one not in "-*"]
    kept = [one for one in letters if one not in "-*"]
    if select == "borda":
        # Scores are certainties here, of which the lowest has rank 1 from below.
        known = [(1 + sum(other < score for other in scores)) ** 0.3 for score in known]
    votes: dict[str, float] = {}
    for one, score in zip(kept, known, strict=True):
        if select == "max_score":
            votes[f"{one}{len(votes)}"] = score
        else:
            votes[one] = votes.get(one, 0.0) + (1.0 if select == "majority" else score)
    best = [one for one in votes if votes[one] >= max(votes.values()) - 1e-9]
    return sum(one[0].isupper() for one in best) / len(best) if best else 0.0


def exactly(letters: str, scores, select: str) -> list[float]:
    orders = list(permutations(range(len(letters))))
    return [
        float(
            np.mean([value([letters[at] for at in one[:n]], [scores[at] for at in one[:n]], select) for one in orders])
        )
        for n in range(1, len(letters) + 1)
    ]


@given(letters=st.text("ABab-*", min_size=1, max_size=6))
@settings(max_examples=60)
def test_coverage_is_exact(letters):
    found = curves_of(deck(letters), tuple(range(1, len(letters) + 1)), "coverage", "majority")
    assert found[0] == pytest.approx(exactly(letters, [0.0] * len(letters), "coverage"))


@given(letters=st.text("Abc-", min_size=1, max_size=6), data=st.data())
@settings(max_examples=60)
def test_max_score_is_exact(letters, data):
    scores = [data.draw(st.sampled_from((0.1, 0.3, 0.5, 0.9))) for _ in letters]
    found = curves_of(deck(letters, scores=scores), tuple(range(1, len(letters) + 1)), "accuracy", "max_score")
    assert found[0] == pytest.approx(exactly(letters, scores, "max_score"))


@pytest.mark.parametrize("letters", ["AAbb-c", "AAAbbb", "Abbbbb", "AAAAAb", "A-----", "------", "ABcc"])
@pytest.mark.parametrize("select", ["majority", "weighted"])
def test_votes_are_within_the_noise_of_their_orders(letters, select):
    scores = [0.1 + 0.15 * at for at in range(len(letters))]
    found = curves_of(deck(letters, scores=scores), tuple(range(1, len(letters) + 1)), "accuracy", select, orders=2048)
    assert found[0] == pytest.approx(exactly(letters, scores, select), abs=0.035)
    exact = exactly(letters, scores, select)
    assert found[0][0] == pytest.approx(exact[0])
    assert found[0][-1] == pytest.approx(exact[-1])


@pytest.mark.parametrize("letters", ["AAbb-c", "AAAbbb", "Abbbbb", "A-----", "------", "ABcc"])
def test_votes_by_rank_of_certainty_are_within_the_noise_of_their_orders(letters):
    sure = [(5.0, 1.0, 4.0, 2.0, 6.0, 3.0)[at] for at in range(len(letters))]
    amounts = tuple(range(1, len(letters) + 1))
    found = curves_of(deck(letters, certainty=sure), amounts, "accuracy", "borda", orders=2048)
    exact = exactly(letters, sure, "borda")
    assert found[0] == pytest.approx(exact, abs=0.035)
    assert found[0][-1] == pytest.approx(exact[-1])


def test_without_certainty_a_vote_by_rank_is_the_majority():
    plain = curves_of(deck("AAbb-c", "AAbc"), (1, 2, 4), "accuracy", "majority")
    assert np.array_equal(curves_of(deck("AAbb-c", "AAbc"), (1, 2, 4), "accuracy", "borda"), plain)


def test_prompts_whose_votes_look_the_same_have_the_same_curve_and_short_ones_end_early():
    found = curves_of(deck("AAb", "Abbb", "BBc", "ccAA"), (1, 2, 4), "accuracy", "majority")
    assert np.isnan(found[[0, 2], 2]).all()
    assert found[0, :2].tolist() == found[2, :2].tolist()
    assert found[3, 2] == 0.5
    assert found[1].tolist() == [0.25, pytest.approx(0.25, abs=0.05), 0.0]


def test_one_candidate_each_needs_no_orders():
    assert curves_of(deck("A", "b", "*", "-"), (1,), "accuracy", "max_score").tolist() == [[1.0], [0.0], [0.0], [0.0]]
    assert curves_of(deck("A", "b", "*", "-"), (1,), "coverage", "majority").tolist() == [[1.0], [0.0], [1.0], [0.0]]


@given(most=st.integers(0, 5000))
def test_the_grid_has_every_small_amount_and_the_largest(most):
    amounts = grid(most)
    assert amounts[:16] == tuple(range(1, min(16, most) + 1))
    assert not most or amounts[-1] == most
    assert all(low < high <= 1.25 * low + 1 for low, high in pairwise(amounts))


def test_what_has_no_curve_is_named():
    with pytest.raises(ConfigError, match=r"'acuracy' has no curve.*did you mean 'accuracy'"):
        curves_of(deck("A"), (1,), "acuracy", "majority")
    with pytest.raises(ConfigError, match="select 'best' has no curve"):
        curves_of(deck("A"), (1,), "accuracy", "best")
