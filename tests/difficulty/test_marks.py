"""Marks tell the same text, and nothing else of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apportion.difficulty.marks import DIGEST_BYTES, among, mark, marks


def test_the_same_text_is_known_whatever_its_blanks():
    known = marks(["What is 3 + 4?", "Other"])
    assert among(["What  is 3 + 4?\n", "What is 3 + 5?", "what is 3 + 4?"], known) == 1


def test_prompts_without_a_text_are_not_mistaken_for_each_other():
    assert marks(["", " \n"]) == ()
    assert among(["", " "], marks(["", "a"])) == 0
    assert among(["a", "a", "b"], marks(["a", "a"])) == 2


@given(st.lists(st.text(), max_size=6))
def test_marks_are_short_hexadecimal_sorted_and_single(texts):
    found = marks(texts)
    assert list(found) == sorted(set(found))
    assert all(len(one) == 2 * DIGEST_BYTES and int(one, 16) >= 0 for one in found)
    assert among(texts, found) == sum(bool(text.split()) for text in texts)


def test_a_text_that_utf_8_cannot_hold_has_a_mark():
    assert len(mark("half \ud800 pair")) == 2 * DIGEST_BYTES
