"""The hierarchical selector: chains speak once, known votes as a table, and laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.policies.hierarchical import hierarchical
from apportion.policies.selectors import majority, weighted
from apportion.types import Candidate, Draft, Finish

Vote = tuple[int | None, str | None, float | None]
"""chain, answer, score"""


def candidates(votes: list[Vote]) -> list[Candidate]:
    draft = Draft("", (), 1, Finish.END)
    return [
        Candidate("p", at, "arm", 0, replace(draft, group=chain), answer, score)
        for at, (chain, answer, score) in enumerate(votes)
    ]


TABLE: list[tuple[str, list[Vote], str | None, float, int | None]] = [
    (
        "a chain that repeats itself speaks once",
        [(0, "a", 0.5), (0, "a", 0.5), (0, "a", 0.5), (1, "b", 0.6), (2, "b", 0.3)],
        "b",
        0.9 / 1.4,
        3,
    ),
    (
        "within a chain scores add up",
        [(0, "a", 0.4), (0, "a", 0.3), (0, "b", 0.6), (1, "c", 0.3)],
        "a",
        0.4 / 0.7,
        0,
    ),
    ("a chain speaks with its best response", [(0, "a", 0.1), (0, "a", 0.9), (1, "b", 0.5)], "a", 0.9 / 1.4, 1),
    ("a chain without an answer counts", [(0, None, 0.5), (1, "b", 0.5)], "b", 0.5, 1),
    ("candidates of no chain vote alone", [(None, "a", 0.4), (None, "a", 0.4), (None, "b", 0.7)], "a", 0.8 / 1.5, 0),
    (
        "without scores it is flat",
        [(0, "a", None), (0, "a", None), (0, "a", None), (1, "b", None), (2, "b", None)],
        "a",
        3 / 5,
        0,
    ),
    ("nothing to choose", [(0, None, 0.5), (1, None, None)], None, 0.0, None),
]


@pytest.mark.parametrize(
    ("votes", "answer", "confidence", "place"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_known_votes(votes: list[Vote], answer: str | None, confidence: float, place: int | None) -> None:
    choice = hierarchical(candidates(votes))
    assert (choice.answer, choice.confidence, choice.candidate) == (answer, pytest.approx(confidence), place)


def test_chains_of_two_arms_are_not_one() -> None:
    mine = candidates([(0, "a", 0.5), (0, "a", 0.5)])
    other = replace(candidates([(0, "b", 0.7)])[0], arm="other", index=2)
    assert hierarchical([*mine, other]).answer == "b"
    assert hierarchical([*mine, replace(other, arm="arm")]).answer == "a"


VOTES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 2)),
        st.sampled_from([None, "a", "b", "c"]),
        st.one_of(st.none(), st.floats(0, 1)),
    ),
    max_size=10,
)


@given(votes=VOTES)
def test_of_chains_of_one_it_is_the_weighted_vote(votes: list[Vote]) -> None:
    apart = candidates([(at, answer, score) for at, (_, answer, score) in enumerate(votes)])
    alone = candidates([(None, answer, score) for _, answer, score in votes])
    assert hierarchical(apart) == hierarchical(alone) == weighted(alone)


@given(votes=VOTES)
def test_without_scores_it_is_the_majority(votes: list[Vote]) -> None:
    unscored = candidates([(chain, answer, None) for chain, answer, _ in votes])
    assert hierarchical(unscored) == majority(unscored)


@given(votes=VOTES, data=st.data())
def test_order_does_not_matter(votes: list[Vote], data: st.DataObject) -> None:
    whole = candidates(votes)
    shuffled = data.draw(st.permutations(whole))
    before, after = hierarchical(whole), hierarchical(shuffled)
    assert before.answer == after.answer
    assert before.confidence == pytest.approx(after.confidence)
    if before.candidate is not None and after.candidate is not None:
        assert whole[before.candidate] is shuffled[after.candidate]
