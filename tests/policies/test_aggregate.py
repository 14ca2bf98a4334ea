"""Aggregates of step scores, and steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.errors import ConfigError
from apportion.policies.aggregate import AGGREGATES, aggregate, score_of
from apportion.policies.steps import split_steps


@pytest.mark.parametrize(("name", "value"), [("last", 0.8), ("min", 0.2), ("mean", 0.5), ("product", 0.08)])
def test_values(name: str, value: float) -> None:
    assert score_of((0.5, 0.2, 0.8), name) == pytest.approx(value)


@pytest.mark.parametrize("name", AGGREGATES)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_stays_between_0_and_1(name: str, scores: list[float]) -> None:
    assert 0.0 <= aggregate(name)(scores) <= 1.0


@pytest.mark.parametrize("missing", [None, ()])
def test_nothing_scored_is_no_score(missing: tuple[float, ...] | None) -> None:
    assert score_of(missing, "min") is None


def test_unknown_aggregate_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'product'"):
        aggregate("prod")


@pytest.mark.parametrize(
    ("text", "separator", "steps"),
    [
        ("a\n\nb\n\nAnswer: 1", "\n\n", ("a", "b", "Answer: 1")),
        ("\na\n\n\nb\n", "\n", ("a", "b")),
        ("", "\n", ()),
        (" \n ", "\n", ()),
        ("a b", "", ("a b",)),
    ],
)
def test_steps(text: str, separator: str, steps: tuple[str, ...]) -> None:
    assert split_steps(text, separator) == steps
