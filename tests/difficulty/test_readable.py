"""The policy file's JSON: reads back exactly, and keeps what belongs together on one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.difficulty.readable import WIDTH, dumps

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.none() | st.booleans()
VALUES = st.recursive(
    NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
    max_leaves=80,
)


@given(VALUES)
def test_it_reads_back_the_same(value: object) -> None:
    assert json.loads(dumps(value)) == value


def test_short_lists_are_lines_and_long_ones_fill_them() -> None:
    text = dumps({"name": "x" * 90, "prior": [[0.25, 0.5], [1, 2]], "long": [0.125] * 60})
    lines = text.splitlines()
    assert ' "prior": [[0.25, 0.5], [1, 2]],' in lines
    filled = [line for line in lines if "0.125, 0.125" in line]
    assert 2 < len(filled) < 8
    assert max(map(len, filled)) <= WIDTH + 1


def test_what_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"lift": float("nan")})
