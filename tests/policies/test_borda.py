"""Borda voting by self-certainty: known votes as a table, and what holds for any candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.policies.borda import borda, exponent, votes_of
from apportion.policies.registry import selector
from apportion.policies.selectors import majority
from apportion.types import Candidate, Draft, Finish, LogprobStats

Vote = tuple[str | None, float | None]
"""An answer and the self-certainty of its response."""


def candidates(votes: list[Vote], scores: list[float | None] | None = None) -> list[Candidate]:
    made = []
    for at, (answer, certainty) in enumerate(votes):
        stats = LogprobStats(-1.0, 1.0, certainty) if certainty is not None else None
        draft = Draft("", (), 1, Finish.END, stats)
        made.append(Candidate("p", at, "arm", 0, draft, answer, scores[at] if scores else None))
    return made


# Of three candidates the surest has 3^p votes, the next 2^p and the last 1.
TABLE: list[tuple[list[Vote], float, str | None, float, int | None]] = [
    ([("a", 9.0), ("b", 2.0), ("b", 1.0)], 0.0, "b", 2 / 3, 1),
    ([("a", 9.0), ("b", 2.0), ("b", 1.0)], 1.0, "a", 3 / 6, 0),
    ([("a", 9.0), ("b", 2.0), ("b", 1.0)], 2.0, "a", 9 / 14, 0),
    ([("b", 1.0), ("a", 2.0), ("b", 9.0)], 1.0, "b", 4 / 6, 2),
    # What was not parsed is ranked, never wins, and counts in the denominator.
    ([(None, 9.0), ("a", 1.0), ("b", 2.0)], 1.0, "b", 2 / 6, 2),
    # Equally sure: 1 and 2 votes shared.
    ([("a", 1.0), ("b", 1.0), ("b", 9.0)], 1.0, "b", 4.5 / 6, 2),
    ([("a", 1.0), ("b", 1.0)], 1.0, "a", 1 / 2, 0),
    # Without statistics: the mean vote of the others, or where there are none the majority.
    ([("a", None), ("b", 1.0), ("a", 2.0)], 1.0, "a", 3.5 / 4.5, 2),
    ([("a", None), ("b", None), ("b", None)], 1.0, "b", 2 / 3, 1),
    ([(None, 1.0), (None, 2.0)], 1.0, None, 0.0, None),
]


@pytest.mark.parametrize(("votes", "p", "answer", "confidence", "best"), TABLE)
def test_known_votes(votes: list[Vote], p: float, answer: str | None, confidence: float, best: int | None) -> None:
    choice = borda(candidates(votes), p)
    assert (choice.answer, choice.candidate) == (answer, best)
    assert choice.confidence == pytest.approx(confidence)


def test_ties_go_to_the_higher_score_then_to_the_one_seen_first() -> None:
    votes: list[Vote] = [("a", 1.0), ("b", 1.0)]
    assert borda(candidates(votes, [0.1, 0.9])).answer == "b"
    assert borda(candidates(votes, [0.5, 0.5])).answer == "a"


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (16, 0.3), (20, 0.525), (24, 0.75), (32, 1.2), (256, 1.2)])
def test_p_follows_the_number_of_candidates(n: int, p: float) -> None:
    assert exponent(n) == pytest.approx(p)
    votes = votes_of(candidates([("a", float(at)) for at in range(n)]))
    assert votes == pytest.approx([(at + 1) ** p for at in range(n)])


def test_more_candidates_make_the_surest_weigh_more() -> None:
    """Sure of a, 6 of 16 and 12 of 32: p = 0.3 leaves it with the majority, p = 1.2 does not."""
    few: list[Vote] = [("a", 10.0 + at) for at in range(6)] + [("b", float(at)) for at in range(10)]
    many: list[Vote] = [("a", 50.0 + at) for at in range(12)] + [("b", float(at)) for at in range(20)]
    assert borda(candidates(few)).answer == "b"
    assert borda(candidates(many)).answer == "a"


VOTES = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", "c"]), st.one_of(st.none(), st.sampled_from([0.5, 1.0]), st.floats(0, 9))
    ),
    min_size=1,
    max_size=12,
)


@given(votes=VOTES)
def test_p_0_is_the_majority(votes: list[Vote]) -> None:
    whole = candidates(votes)
    ours, plain = borda(whole, 0.0), majority(whole)
    assert (ours.answer, ours.confidence) == (plain.answer, pytest.approx(plain.confidence))


@given(votes=VOTES, data=st.data())
def test_order_does_not_matter(votes: list[Vote], data: st.DataObject) -> None:
    whole = candidates(votes)
    shuffled = data.draw(st.permutations(whole))
    before, after = selector("borda")(whole), selector("borda")(shuffled)
    assert (before.answer, before.confidence) == (after.answer, pytest.approx(after.confidence))
    if before.candidate is not None and after.candidate is not None:
        assert whole[before.candidate] is shuffled[after.candidate]


@given(votes=VOTES, more=st.floats(0.0, 5.0))
def test_only_ranks_count(votes: list[Vote], more: float) -> None:
    scaled = [(answer, None if sure is None else 2.0 * sure + more) for answer, sure in votes]
    ranked = [sure for _, sure in votes if sure is not None]
    moved = [sure for _, sure in scaled if sure is not None]
    if len(set(ranked)) == len(set(moved)):
        assert borda(candidates(scaled)).answer == borda(candidates(votes)).answer
