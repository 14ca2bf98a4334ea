"""Where an answer stands in a response, and where it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.policies.registry import answer_type

NUMBERS: list[tuple[str, str | None]] = [
    # An answer ends with its sentence, or where its reason begins.
    ("The answer is 18. There are 7 days in a week.", "18"),
    ("The answer is 3.5 miles. He ran 2 of them.", "3.5"),
    ("The answer is $18.$ There are 7 days.", "18"),
    ("Answer: **42.** The other 7 do not count.", "42"),
    ("Answer: 42. (Note: x = 3)", "42"),
    ("The answer is 18 since 16 - 3 - 4 = 9 eggs are sold", "18"),
    ("The answer is 18, because 2 * 9 = 18", "18"),
    ("The answer is 18 (since 2 * 9 = 18).", "18"),
    ("The answer is 18, which is 2 * 9.", "18"),
    ("The answer is 18, as 2 * 9 = 18", "18"),
    ("The answer is 18, not 20.", "18"),
    # It may stand some lines below.
    ("**Answer:**\n\n42", "42"),
    ("Answer:\r\n\r\n42\r\n", "42"),
    ("The answer is:\n\n$$\n42\n$$\n", "42"),
    ("Answer:\n- 42", "42"),
    ("Answer:\n* 42", "42"),
    ("Answer:\n-42", "-42"),
    ("Answer: - 42", "-42"),
    ("##### 42", "42"),
    # The last place that holds a number wins.
    ("so \\boxed{42}.\n\nThis answer is consistent with the estimate.", "42"),
    ("so \\boxed{42}. The answer is consistent with our estimate of 40.", "42"),
    ("So \\boxed{42}. The answer is an integer.", "42"),
    ("The answer is 5. Let me check that the answer is right.", "5"),
    ("The answer is not 5. The answer is 6", "6"),
    ("\\boxed{3}. Wait, no. The answer is $4$.", "4"),
    ("\\boxed{3}\nAnswer: 4", "4"),
    ("Final answer: the answer is 5", "5"),
    ("The answer is 1. No, the answer is 2. So the answer is 3.", "3"),
    ("Groß ist İstanbul. ANSWER: 5", "5"),
    ("text #### 5", None),
    ("This answer is 5 times longer", None),
]


@pytest.mark.parametrize(("text", "answer"), NUMBERS)
def test_numbers(text: str, answer: str | None) -> None:
    assert answer_type("number", {}).extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so $\\boxed{x+1}$.\n\nThis answer is consistent with the estimate.", "x+1"),
        ("so $\\boxed{x+1}$.\n\nThe answer is consistent with the estimate.", "x+1"),
        ("\\boxed{3}. Wait, no. The answer is $2x$.", "2x"),
        ("**Final Answer:**\n\n$$42$$", "42"),
        ("**Final Answer:**\n\n\\[\n\\frac{1}{2}\n\\]\nas required", "0.5"),
        ("Answer:\n- 42", "42"),
        ("The answer is $x+1$. The rest is easy.", "x+1"),
        ("The answer is (1,2); (3,4)", "(1,2); (3,4)"),
        ("The answer is 1, 2, \\ldots. The rest follows.", "1, 2, \\ldots"),
        ("Answer: \\text{Yes. Both are}", "\\text{Yes. Both are}"),
    ],
)
def test_formulas(text: str, answer: str) -> None:
    assert answer_type("math", {}).extract(text) == answer


@pytest.mark.parametrize("kind", ["auto", "text"])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is Yes. Both are rivers in France.", "Yes"),
        ("So the answer is yes because both are rivers.", "yes"),
        ("The answer is J. K. Rowling. She wrote it.", "J. K. Rowling"),
        ("The answer is St. Louis. It is a city.", "St. Louis"),
        ("Answer: the U.S. Army", "the U.S. Army"),
        ("Answer: Paris; London", "Paris; London"),
        ("The answer is N. I hope it is correct.", "N"),
        ("The capital is \\boxed{Paris}. The answer is well known.", "Paris"),
        ("The answer is no. On second thought, the answer is yes.", "yes"),
    ],
)
def test_texts(kind: str, text: str, answer: str) -> None:
    assert answer_type(kind, {}).extract(text) == answer


@pytest.mark.parametrize("kind", ["number", "math", "auto", "text"])
@given(
    value=st.integers(-(10**9), 10**9),
    cue=st.sampled_from(["The answer is ", "Answer: ", "**Final answer:** ", "Answer:\n\n", "the answer is:\n"]),
    after=st.sampled_from(["", ".", ". There are 7 days.", "\n\nThis answer is 5 too.", " because 3 + 4 = 7", "\r\n"]),
)
def test_what_stands_around_a_number_does_not_matter(kind: str, value: int, cue: str, after: str) -> None:
    assert answer_type(kind, {}).extract(f"First 3, then 4.\n{cue}{value}{after}") == str(value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Result:\n- 18 eggs", "18"),
        ("Result:\n-18 degrees", "-18"),
        ("We get 50 - 8", "8"),
        ("We get 50 -8", "8"),
        ("so 5x - 3", "3"),
        ("It is $x=-3$", "-3"),
        ("It costs -$5.", "-5"),
        ("it is \\frac{3}{4}", "0.75"),
        ("it is $-\\frac{3}{4}$", "-0.75"),
        ("it is $6\\frac{3}{4}$", "6.75"),
        ("10{,}000 of them", "10000"),
        ("pages 10-12", "12"),
        ("nothing", None),
        ("Answer: unknown, perhaps 5 or 6", None),
    ],
)
def test_the_last_number_where_told(text: str, answer: str | None) -> None:
    assert answer_type("number", {"fallback": "last"}).extract(text) == answer
