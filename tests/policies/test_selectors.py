"""Selectors: known votes as tables, and laws that hold for any candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.errors import ConfigError
from apportion.policies.aggregate import AGGREGATES, score_of
from apportion.policies.registry import SELECTORS, selector
from apportion.policies.selectors import majority, max_score, weighted
from apportion.types import Candidate, Draft, Finish

Vote = tuple[str | None, float | None]


def candidates(votes: list[Vote]) -> list[Candidate]:
    draft = Draft("", (), 1, Finish.END)
    return [Candidate("p", at, "arm", 0, draft, answer, score) for at, (answer, score) in enumerate(votes)]


A9, A1, A2, B5, B6, C8, NONE9 = ("a", 0.9), ("a", 0.1), ("a", 0.2), ("b", 0.5), ("b", 0.6), ("c", 0.8), (None, 0.9)

TABLE: list[tuple[list[Vote], str, str | None, float]] = [
    ([A1, A2, B5], "majority", "a", 2 / 3),
    ([A1, A2, B5], "weighted", "b", 0.5 / 0.8),
    ([B5, B6, C8], "max_score", "c", 0.8 / 1.9),
    ([B5, B6, C8], "weighted", "b", 1.1 / 1.9),
    # The unparsed never win, and count in the denominator.
    ([NONE9, NONE9, B5], "majority", "b", 1 / 3),
    ([NONE9, B6], "weighted", "b", 0.6 / 1.5),
    ([NONE9, B6], "max_score", "b", 0.6 / 1.5),
    # Ties: the higher total score, then the one seen first.
    ([A1, B5], "majority", "b", 1 / 2),
    ([("b", None), ("a", None)], "majority", "b", 1 / 2),
    ([("b", 0.5), ("a", 0.5)], "max_score", "b", 1 / 2),
    # Without scores every selector is the majority; a missing score is the mean of the others.
    ([("a", None), ("b", None), ("b", None)], "weighted", "b", 2 / 3),
    ([("a", 0.0), ("b", 0.0), ("b", 0.0)], "max_score", "b", 2 / 3),
    ([("a", 0.4), ("b", None), ("b", None)], "weighted", "b", 2 / 3),
]


@pytest.mark.parametrize(("votes", "name", "answer", "confidence"), TABLE)
def test_known_votes(votes: list[Vote], name: str, answer: str | None, confidence: float) -> None:
    choice = SELECTORS[name](candidates(votes))
    assert (choice.answer, choice.confidence) == (answer, pytest.approx(confidence))


# Step scores of five responses; a is the answer of two. Each way to make one score of them has its own best.
STEPS = {"a": [(0.5, 0.5), (0.45, 0.5)], "b": [(0.1, 0.95)], "c": [(0.7, 0.7)], "d": [(0.99, 0.5)]}

PRM_MATRIX = [
    # aggregate, the answer of the highest score, the answer of the highest sum of scores
    ("last", "b", "a"),
    ("min", "c", "a"),
    ("mean", "d", "a"),
    ("product", "d", "d"),
]


@pytest.mark.parametrize(("aggregate", "highest", "voted"), PRM_MATRIX)
def test_any_aggregate_of_step_scores_with_any_way_to_choose(aggregate: str, highest: str, voted: str) -> None:
    assert {row[0] for row in PRM_MATRIX} == set(AGGREGATES)
    votes = [(answer, score_of(steps, aggregate)) for answer, responses in STEPS.items() for steps in responses]
    assert max_score(candidates(votes)).answer == highest
    assert weighted(candidates(votes)).answer == voted
    assert majority(candidates(votes)).answer == "a"


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("votes", [[], [(None, None)], [(None, 0.9), (None, 0.1)]])
def test_nothing_to_choose(name: str, votes: list[Vote]) -> None:
    choice = SELECTORS[name](candidates(votes))
    assert (choice.answer, choice.confidence, choice.candidate) == (None, 0.0, None)


VOTES = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", "c"]),
        st.one_of(st.none(), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("name", SELECTORS)
@given(votes=VOTES, data=st.data())
def test_order_does_not_matter(name: str, votes: list[Vote], data: st.DataObject) -> None:
    whole = candidates(votes)
    shuffled = data.draw(st.permutations(whole))
    before, after = SELECTORS[name](whole), SELECTORS[name](shuffled)
    assert (before.answer, before.confidence) == (after.answer, after.confidence)
    if before.candidate is not None and after.candidate is not None:
        assert whole[before.candidate] is shuffled[after.candidate]


@pytest.mark.parametrize("name", SELECTORS)
@given(votes=VOTES)
def test_choice_is_one_of_the_answers(name: str, votes: list[Vote]) -> None:
    choice = SELECTORS[name](candidates(votes))
    assert 0.0 <= choice.confidence <= 1.0
    if choice.candidate is None:
        assert all(answer is None for answer, _ in votes)
    else:
        assert votes[choice.candidate][0] == choice.answer is not None


@given(votes=VOTES)
def test_majority_has_the_most_votes(votes: list[Vote]) -> None:
    answers = [answer for answer, _ in votes]
    choice = majority(candidates(votes))
    if choice.answer is not None:
        assert answers.count(choice.answer) == max(answers.count(a) for a in answers if a is not None)


@given(votes=VOTES)
def test_equal_scores_make_the_weighted_vote_the_majority(votes: list[Vote]) -> None:
    level = candidates([(answer, 0.5) for answer, _ in votes])
    assert weighted(level).answer == majority(level).answer


@given(votes=VOTES.filter(lambda votes: any(a is not None and (s or 0) > 0 for a, s in votes)))
def test_max_score_has_the_highest_score(votes: list[Vote]) -> None:
    scored = candidates([(answer, 0.0 if score is None else score) for answer, score in votes])
    choice = max_score(scored)
    assert choice.candidate is not None
    assert scored[choice.candidate].score == max(c.score or 0.0 for c in scored if c.answer is not None)


def test_unknown_selector_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'weighted'"):
        selector("weightd")
