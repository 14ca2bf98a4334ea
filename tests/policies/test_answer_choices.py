"""Letters of multiple-choice answers: read where one is chosen, and not where a sentence only has one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.policies.registry import answer_type


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: B", "B"),
        ("Answer: (b)", "B"),
        ("\\boxed{\\text{C}}", "C"),
        ("Answer: B) 42", "B"),
        ("Answer: C - Paris", "C"),
        ("The correct answer is D.", "D"),
        ("The answer is **(B) 5 m/s**", "B"),
        ("Answer: **C**", "C"),
        ("The answer is: (C) A and B", "C"),
        (" (B) ", "B"),
        ("B it is", None),
        ("Answer: Z", None),
        # The letters A and I are words, too.
        ("Answer: A", "A"),
        ("Answer: A dog is what B shows", "B"),
        ("Answer: A dog", None),
        ("Answer: I think so", None),
        ("Answer: A is correct", "A"),
        ("Answer: Option A is correct", "A"),
        ("The answer is choice (a), I think", "A"),
        # What a reason says is not what was chosen.
        ("The correct answer is A because the others fail.", "A"),
        ("The answer is A because B is false.", "A"),
        ("The answer is A since the others fail", "A"),
        ("The correct answer is C because A is too small.", "C"),
        ("The answer is D, not B.", "D"),
        ("Answer: A, since B is false", "A"),
        # Two letters are no answer.
        ("Answer: A or B", None),
        ("Answer: (A) or (B)", None),
        ("Answer: A) and B)", None),
        ("Answer: (a), (b)", None),
        ("Answer: Option A or B", None),
        ("Answer: A, B and C", None),
        ("\\boxed{B, D}", None),
        # The last place that names a letter wins.
        ("\\boxed{B}\n\nThis answer is supported by the text.", "B"),
        ("\\boxed{B}. The answer is supported by the text, as C fails.", "B"),
        ("Answer: B\nThe answer is a good one.", "B"),
        ("Answer: B\nWait. Answer: C", "C"),
    ],
)
def test_choice(text: str, answer: str | None) -> None:
    assert answer_type("choice", {}).extract(text) == answer


@given(
    letter=st.sampled_from("ABCDEFGHIJ"),
    cue=st.sampled_from(["Answer: ", "The answer is ", "**Answer:** ", "Answer:\n\n", "The answer is option "]),
    form=st.sampled_from(["{}", "({})", "{})", "{}.", "**{}**", "${}$", "\\boxed{{{}}}", "\\boxed{{\\text{{({})}}}}"]),
    after=st.sampled_from(["", " because B is false.", ", since the others fail", ". I hope it is correct."]),
)
def test_a_letter_is_read_in_every_form(letter: str, cue: str, form: str, after: str) -> None:
    assert answer_type("choice", {}).extract(f"A and B look alike.\n{cue}{form.format(letter)}{after}") == letter


def test_choice_equality() -> None:
    choice = answer_type("choice", {"letters": "ABCD"})
    assert choice.same("B", "(B) forty-two")
    assert choice.same("(B) forty-two", "B")
    assert not choice.same("B", "C")
    assert not choice.same("nothing", "nothing")
