"""Ballots: what a plain count of weighted votes says, whoever drew them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.difficulty.playbook import Playbook
from apportion.difficulty.vote_length import tilted
from apportion.difficulty.votes import Curve, Votes
from apportion.scheduler.ballots import Ballots
from apportion.types import Candidate, Draft, Finish

WEIGHT = {"small": 0.5, "large": 1.75}
"""Exact in any precision, so that ties are ties."""


def book(votes=None):
    known = Votes({arm: Curve((0.0,), (weight,)) for arm, weight in WEIGHT.items()})
    return Playbook((("small", 1), ("large", 1)), votes or known)


def candidate(answer, arm="small", score=None, index=0):
    return Candidate("q", index, arm, 0, Draft("", (), 1, Finish.END), answer, score)


PURCHASES = st.lists(
    st.tuples(st.sampled_from(sorted(WEIGHT)), st.lists(st.none() | st.sampled_from("abcd"), max_size=4)), max_size=8
)


@given(purchases=PURCHASES)
@settings(max_examples=120)
def test_the_standing_is_a_plain_count(purchases):
    ballots, count, drawn = Ballots(2, book()), {}, 0.0
    for arm, answers in purchases:
        ballots.add(1, arm, [candidate(answer, arm) for answer in answers])
        for answer in answers:
            drawn += WEIGHT[arm]
            if answer is not None:
                count[answer] = count.get(answer, 0.0) + WEIGHT[arm]
    ranked = sorted(count.values(), reverse=True)
    first, second = [*ranked, 0.0, 0.0][:2]
    assert ballots.standing(1) == (first, second)
    leader = ballots.leader(1)
    assert (leader is None) == (not count)
    assert leader is None or count[leader] == first
    assert ballots.share(1) == pytest.approx(first / drawn if drawn else 0.0)
    # Votes of one prompt say nothing of another.
    assert ballots.standing(0) == (0.0, 0.0)
    assert ballots.leader(0) is None
    assert ballots.share(0) == 0.0


def test_one_heavy_vote_beats_three_light_ones():
    ballots = Ballots(1, book())
    ballots.add(0, "small", [candidate("a")] * 3)
    ballots.add(0, "large", [candidate("b", "large")])
    assert ballots.leader(0) == "b"
    assert ballots.standing(0) == (1.75, 1.5)


def test_of_equals_the_first_seen_leads():
    ballots = Ballots(1, book())
    ballots.add(0, "small", [candidate("b"), candidate("a"), candidate("a"), candidate("b")])
    assert ballots.leader(0) == "b"


def test_by_score_a_vote_weighs_its_score_over_the_mean_so_far():
    ballots = Ballots(1, book(Votes(by_score=True)))
    ballots.add(0, "small", [candidate("a", score=0.5)])
    assert ballots.standing(0) == (1.0, 0.0)
    ballots.add(0, "small", [candidate("b", score=1.5)])
    assert ballots.standing(0) == (1.5, 1.0)


@pytest.mark.parametrize("score", [None, 0.0, -4.0])
def test_by_score_no_score_or_one_below_zero_is_still_a_vote(score):
    ballots = Ballots(1, book(Votes(by_score=True)))
    ballots.add(0, "small", [candidate("a", score=score)] * 2)
    first, second = ballots.standing(0)
    assert first > second == 0.0
    assert 0.0 < ballots.share(0) <= 1.0


def test_a_typical_vote_is_the_mean_of_those_seen_and_one_before():
    ballots = Ballots(3, book())
    assert ballots.typical("large") == 1.0
    ballots.add(0, "large", [candidate("a", "large")])
    ballots.add(2, "large", [candidate(None, "large")])
    assert ballots.typical("large") == pytest.approx(1.75)
    assert ballots.typical("small") == 1.0


@given(drawn=st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 5000)), max_size=12))
def test_length_tilts_votes_as_the_walks_of_a_pool_have_it(drawn):
    slope = -0.8
    ballots = Ballots(1, book(Votes(slope=slope)))
    for answer, tokens in drawn:
        draft = Draft("", (), tokens, Finish.END)
        ballots.add(0, "small", [Candidate("q", 0, "small", 0, draft, answer)])
    votes, lengths = np.zeros(3), np.zeros(3)
    for answer, tokens in drawn:
        if answer is not None:
            votes["abc".index(answer)] += 1.0
            # Whatever the lengths are measured against, only their differences count.
            lengths["abc".index(answer)] += slope * (np.log(max(1, tokens)) - 5.0)
    strength = np.sort(tilted(votes, lengths))[::-1]
    assert ballots.standing(0) == pytest.approx(tuple(strength[:2]), abs=1e-9)


def test_of_two_answers_with_one_vote_the_one_of_the_right_length_leads():
    ballots = Ballots(1, book(Votes(slope=-0.5)))
    for answer, tokens in (("long", 900), ("short", 300)):
        draft = Draft("", (), tokens, Finish.END)
        ballots.add(0, "small", [Candidate("q", 0, "small", 0, draft, answer)])
    assert ballots.leader(0) == "short"
    assert sum(ballots.standing(0)) == pytest.approx(2.0)
