"""Walks: the standing after every look is what a plain count says; imagined prompts are as their prior."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.belief import CONCENTRATIONS
from apportion.difficulty.grid import PASS, POINTS
from apportion.difficulty.vote_length import tilted
from apportion.difficulty.walks import checkpoints, imagine, walk_votes

ANSWERS = 4
QUARTERS = st.integers(1, 8).map(lambda quarters: quarters / 4.0)
"""Weights whose sums are exact in any precision, so that ties are ties."""


def candidates(most):
    return st.lists(st.tuples(st.integers(-1, ANSWERS - 1), QUARTERS), min_size=1, max_size=most)


def standing(drawn):
    """Leader, its strength and the next one's, counted plainly. Of equals the one that was there first leads."""
    count, leader = Counter(), None
    for answer, vote in drawn:
        if answer >= 0:
            count[answer] += vote
            if leader is None or count[answer] > count[leader]:
                leader = answer
    return leader, count[leader], max([0.0, *(votes for answer, votes in count.items() if answer != leader)])


def walks_of(drawn, right, stops, weight=None):
    """Walks of equally long lists of (answer, vote), all with the same right answers."""
    answers, votes = np.moveaxis(np.array(drawn), 2, 0)
    good = np.broadcast_to(np.isin(np.arange(ANSWERS), right), (len(drawn), ANSWERS))
    weight = np.ones(len(drawn)) if weight is None else weight
    return walk_votes(answers.astype(np.int64), votes, good, stops, weight)


@given(drawn=candidates(24), right=st.sets(st.integers(0, ANSWERS - 1)), data=st.data())
@settings(max_examples=120)
def test_every_look_sees_what_a_plain_count_sees(drawn, right, data):
    between = data.draw(st.sets(st.integers(1, len(drawn))))
    stops = sorted({*between, len(drawn)})
    walks = walks_of([drawn], sorted(right), stops)
    last, _, _ = standing(drawn)
    for at, stop in enumerate([0, *stops]):
        leader, first, second = standing(drawn[:stop])
        assert walks.first[0, at] == first
        assert walks.second[0, at] == second
        assert walks.right[0, at] == (leader in right)
        assert walks.final[0, at] == (leader is not None and leader == last)


@given(drawn=st.lists(st.lists(st.integers(-1, ANSWERS - 1), min_size=9, max_size=9), min_size=1, max_size=6))
@settings(max_examples=40)
def test_walks_do_not_mix_and_majorities_are_counts(drawn):
    voted = [[(answer, 1.0) for answer in one] for one in drawn]
    together = walks_of(voted, [0], range(1, 10))
    for at, one in enumerate(voted):
        alone = walks_of([one], [0], range(1, 10))
        for name in ("first", "second", "right", "final"):
            np.testing.assert_array_equal(getattr(together, name)[at], getattr(alone, name)[0])
    counts = [[sum(answer == kind for answer in one) for kind in range(ANSWERS)] for one in drawn]
    np.testing.assert_array_equal(together.first[:, -1], np.max(counts, axis=1))


def test_before_any_candidate_nothing_leads_and_nothing_is_right():
    walks = walks_of([[(0, 1.0)]], [0], [1])
    assert (walks.first[0, 0], walks.second[0, 0], walks.right[0, 0], walks.final[0, 0]) == (0.0, 0.0, 0.0, 0.0)


def test_some_walks_keep_their_rows_and_weights():
    walks = walks_of([[(0, 1.0), (1, 2.0)], [(1, 1.0), (1, 1.0)]], [1], [1, 2], np.array([0.25, 0.5]))
    one = walks.some(np.array([False, True]))
    assert one.first.tolist() == [[0.0, 1.0, 2.0]]
    assert one.weight.tolist() == [0.5]


@pytest.mark.parametrize("most", [1, 2, 11, 12, 13, 64, 500])
def test_looks_come_one_by_one_and_then_by_tenths(most):
    stops = checkpoints(most)
    steps = np.diff([0, *stops])
    assert stops[-1] == most
    assert (steps >= 1).all()
    assert (steps[:12] == 1).all()
    assert (steps <= np.maximum(1, 0.1 * np.array([0, *stops[:-1]]))).all()


def prior_at(*cells):
    prior = np.zeros((POINTS, len(CONCENTRATIONS)))
    for row, column, mass in cells:
        prior[row, column] = mass
    return prior


@pytest.mark.parametrize("row", [8, 20, 30])
def test_imagined_prompts_pass_at_the_rate_of_their_prior(row):
    answers, right, cell = imagine(prior_at((row, 2, 1.0)), 0.2, 2000, 12, seed=3)
    assert right.mean() == pytest.approx(PASS[row], abs=0.015)
    assert ((answers == 0) == right).all()
    assert (cell == row * len(CONCENTRATIONS) + 2).all()
    assert (answers[~right] < 0).mean() == pytest.approx(0.2, abs=0.02)


def test_imagined_prompts_come_as_often_as_the_prior_says():
    prior = prior_at((5, 1, 3.0), (35, 4, 1.0))
    _, right, cell = imagine(prior, 0.0, 8000, 4, seed=0)
    easy = cell == 35 * len(CONCENTRATIONS) + 4
    assert easy.mean() == pytest.approx(0.25, abs=0.02)
    assert right[easy].mean() == pytest.approx(PASS[35], abs=0.02)


@pytest.mark.parametrize("column", range(len(CONCENTRATIONS)))
def test_imagined_mistakes_collide_as_in_a_chinese_restaurant(column):
    """Two wrong votes agree with probability 1 / (1 + alpha); of m, alpha / (alpha + i) open an answer each."""
    alpha = float(CONCENTRATIONS[column])
    answers, right, _ = imagine(prior_at((0, column, 1.0)), 0.0, 4000, 6, seed=1)
    wrong = answers[~right.any(axis=1)]
    assert len(wrong) > 3000
    assert (wrong[:, 0] == wrong[:, 1]).mean() == pytest.approx(1.0 / (1.0 + alpha), abs=0.03)
    distinct = np.array([len(set(one)) for one in wrong.tolist()])
    assert distinct.mean() == pytest.approx(sum(alpha / (alpha + at) for at in range(6)), abs=0.08)


def test_the_same_seed_imagines_the_same():
    prior = np.ones((POINTS, len(CONCENTRATIONS)))
    for one, other in zip(imagine(prior, 0.1, 50, 5, 7), imagine(prior, 0.1, 50, 5, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (imagine(prior, 0.1, 50, 5, 7)[0] != imagine(prior, 0.1, 50, 5, 8)[0]).any()


@given(drawn=candidates(16), lengths=st.data(), data=st.data())
@settings(max_examples=80)
def test_with_lengths_every_look_sees_the_tilted_strengths_so_far(drawn, lengths, data):
    drift = np.array([[lengths.draw(st.floats(-0.6, 0.6)) for _ in drawn]])
    stops = sorted({*data.draw(st.sets(st.integers(1, len(drawn)))), len(drawn)})
    answers, votes = np.array([[answer for answer, _ in drawn]]), np.array([[vote for _, vote in drawn]])
    good = np.arange(ANSWERS)[None] == 0
    walks = walk_votes(answers, votes, good, stops, np.ones(1), drift)
    for at, stop in enumerate(stops, start=1):
        count, long = np.zeros(ANSWERS), np.zeros(ANSWERS)
        for draw in range(stop):
            if answers[0, draw] >= 0:
                count[answers[0, draw]] += votes[0, draw]
                long[answers[0, draw]] += votes[0, draw] * drift[0, draw]
        strength = tilted(count, long)
        ranked = np.sort(strength)[::-1]
        assert walks.first[0, at] == pytest.approx(ranked[0], abs=1e-5)
        assert walks.second[0, at] == pytest.approx(ranked[1], abs=1e-5)
        if ranked[0] > ranked[1] + 1e-6:
            assert walks.right[0, at] == (strength.argmax() == 0)


@given(drawn=candidates(16))
@settings(max_examples=40)
def test_where_all_are_equally_long_length_changes_nothing(drawn):
    stops = range(1, len(drawn) + 1)
    plain = walks_of([drawn], [0], stops)
    answers, votes = np.moveaxis(np.array([drawn]), 2, 0)
    good = np.arange(ANSWERS)[None] == 0
    same = walk_votes(answers.astype(np.int64), votes, good, stops, np.ones(1), np.full(votes.shape, 0.4))
    np.testing.assert_allclose(same.first, plain.first, atol=1e-5)
    np.testing.assert_allclose(same.second, plain.second, atol=1e-5)
