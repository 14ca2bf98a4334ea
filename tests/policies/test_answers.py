"""Reading answers out of responses, telling whether two are the same, and surviving hostile ones."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.errors import ConfigError
from apportion.policies.answers import AnswerType
from apportion.policies.answers.canonical import canonical
from apportion.policies.answers.math import is_safe
from apportion.policies.answers.number import read_number, write_number
from apportion.policies.registry import ANSWER_KINDS, answer_type

BUILT_IN = [kind for kind in ANSWER_KINDS if kind != "function"]

NUMBERS: list[tuple[str, str | None]] = [
    ("5 + 12 = 17\nAnswer: 17", "17"),
    ("**Answer:** $1,234.50", "1234.5"),
    ("the answer is \\boxed{\\frac{3}{4}}.", "0.75"),
    ("The final answer is $\\boxed{17}$. I hope it is correct.", "17"),
    ("The answer is 17. I hope 5 is not.", "17"),
    ("Answer: 3\nNo, wait.\nAnswer: 4", "4"),
    ("Answer: 4\nAnswer: ", "4"),
    ("Answer:\n17", "17"),
    ("#### 72", "72"),
    ("Answer: x = 5 apples", "5"),
    ("Answer: 1 1/2", "1.5"),
    ("Answer: 1/3", "1/3"),
    ("Answer: −5", "-5"),
    ("Answer: -$0.50", "-0.5"),
    ("Answer: 12{,}345 \\text{ cm}^2", "12345"),
    ("Answer: 5 km/h", "5"),
    ("Answer: 90^\\circ", "90"),
    ("Answer: 25\\%", "25"),
    ("Answer: 1.50e3", "1500"),
    ("Answer: 007", "7"),
    ("17", "17"),
    (" **$1,000** ", "1000"),
    ("there are 17", None),
    ("17 + 5", None),
    ("Answer: 3 or 4", None),
    ("Answer: 3,5", None),
    ("Answer: 2^3", None),
    ("Answer: \\sqrt{2}", None),
    ("Answer: 1/0", None),
    ("Answer: 10**10**10", None),
    ("Answer: 1e999999999", None),
    ("Answer: " + "9" * 5000, None),
    ("Answer: unknown", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "answer"), NUMBERS)
def test_number(text: str, answer: str | None) -> None:
    assert answer_type("number", {}).extract(text) == answer


def test_number_settings() -> None:
    assert answer_type("number", {"fallback": "last"}).extract("first 12, then 17 boxes") == "17"
    assert answer_type("number", {"percent": "ratio"}).extract("Answer: 50%") == "0.5"
    assert answer_type("number", {"pattern": r"<a>(.*?)</a>"}).extract("<a>1</a> Answer: 5 <a>2</a>") == "2"


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("17", "17.0", True),
        ("0.75", "\\frac{3}{4}", True),
        ("1000", "1,000", True),
        ("72", "He has 8 * 9 = 72.\n#### 72", True),
        ("0.333333333333", "1/3", False),
        ("17", "18", False),
        ("17", "seventeen", False),
    ],
)
def test_number_equality_is_exact(left: str, right: str, same: bool) -> None:
    assert answer_type("number", {}).same(left, right) is same


@given(st.fractions(max_denominator=10**6).filter(lambda value: abs(value) < 10**30))
def test_a_number_survives_its_canonical_form(value: Fraction) -> None:
    assert read_number(write_number(value)) == value


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_matter(value: int) -> None:
    assert answer_type("number", {}).extract(f"Answer: {value:,}") == str(value)


MATH: list[tuple[str, str, bool]] = [
    ("\\frac12", "0.5", True),
    ("2x+1", "1+2x", True),
    ("\\sqrt{8}", "2\\sqrt{2}", True),
    ("x=2", "2", True),
    ("2", "x=2", True),
    ("\\frac{\\pi}{2}", "0.5\\pi", True),
    ("\\{1,2\\}", "\\{2,1\\}", True),
    ("(1,2)", "(2,1)", False),
    ("[1,2)", "\\left[1, 2\\right)", True),
    ("2^{10}", "1024", True),
    ("(x+1)^2", "x^2+2x+1", True),
    ("x", "y", False),
    ("\\text{Monday}", "\\text{Tuesday}", False),
    # Not evaluated: equal only as text.
    ("10^{10^{10}}", "10^{10^{10}}", True),
    ("10^{10^{10}}", "3", False),
    ("9^9^9^9", "1", False),
    ("(9^9)^9^9^9", "1", False),
    ("((10^{999})^{999})^{999}", "1", False),
    ("99999!", "1", False),
    ("(a+b+c+d+e)^{30}", "1", False),
    ("\\sqrt[0.00001]{9^9}", "1", False),
    ("\\exp(\\exp(\\exp(99)))", "1", False),
    ("\\sum_{n=1}^{99999} n", "1", False),
    ("(" * 400 + ")" * 400, "1", False),
    ("\\frac{" * 50 + "1", "1", False),
]


@pytest.mark.parametrize(("left", "right", "same"), MATH)
def test_math(left: str, right: str, same: bool) -> None:
    assert answer_type("math", {}).same(left, right) is same


def test_math_gives_the_same_outside_the_main_thread() -> None:
    results: list[bool] = []
    work = threading.Thread(target=lambda: results.extend(answer_type("math", {}).same(a, b) for a, b, _ in MATH))
    work.start()
    work.join()
    assert results == [same for _, _, same in MATH]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{\\frac{1}{1+\\sqrt{2}}}.", "\\frac{1}{1+\\sqrt{2}}"),
        ("The answer is $2x+1$.", "2x+1"),
        ("Answer: \\(\\frac{1}{2}\\)", "0.5"),
        ("\\boxed{1} and then \\boxed{2}", "2"),
        ("\\boxed{never closed", None),
        ("we get $x = 3$", None),
    ],
)
def test_math_extraction(text: str, answer: str | None) -> None:
    assert answer_type("math", {}).extract(text) == answer


def test_math_falls_back_only_where_told() -> None:
    assert answer_type("math", {"fallback": "last"}).extract("from $x > 1$ we get $x^2 + y$") == "x^2 + y"


@pytest.mark.parametrize("formula", ["2^{10000}", "x^{30}+1", "\\frac{10!}{8!}", "e^{-2x}", "\\sqrt[3]{7}"])
def test_ordinary_formulas_are_evaluated(formula: str) -> None:
    assert is_safe(formula)


def test_text() -> None:
    plain = answer_type("text", {})
    assert plain.extract("Answer:  New \t York.") == "New York"
    assert plain.same("New York", "new  york")
    assert not answer_type("text", {"case": True}).same("New York", "new york")
    assert not answer_type("text", {"space": "keep"}).same("a b", "a  b")
    assert plain.extract("New York") is None
    assert answer_type("text", {"whole": True}).extract("New York") == "New York"


@pytest.mark.parametrize(
    ("text", "reference", "answer", "same"),
    [
        ("Answer: 1,000", "1000", "1000", True),
        ("Answer: \\frac{1}{2}", "0.5", "0.5", True),
        ("\\boxed{1+2x}", "2x+1", "1+2x", True),
        ("Answer: Room 5", "room  5", "Room 5", True),
        ("Answer: Room 5", "5", "Room 5", False),
        ("Answer: 72", "#### 72", "72", True),
        ("Answer: New York", "Paris", "New York", False),
        ("17", "17.0", "17", True),
    ],
)
def test_auto(text: str, reference: str, answer: str, same: bool) -> None:
    auto = answer_type("auto", {})
    assert auto.extract(text) == answer
    assert auto.same(answer, reference) is same


def test_users_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    own = answer_type("function", {"function": "user_answers:last_word", "equal": "user_answers:same_length"})
    assert own.extract("it is seventeen") == "seventeen"
    assert own.extract("") is None
    assert own.same("abc", "xyz")
    assert not answer_type("function", {"function": "user_answers:last_word"}).same("abc", "xyz")
    with pytest.raises(ConfigError, match="user_answers:broken raised KeyError"):
        answer_type("function", {"function": "user_answers:broken"}).extract("text")
    with pytest.raises(ConfigError, match="must return str or None"):
        answer_type("function", {"function": "user_answers:wrong_type"}).extract("text")


def test_canonical_is_the_first_equal_answer() -> None:
    number = answer_type("math", {})
    assert canonical("\\frac{\\sqrt{8}}{2}", ["7", "\\sqrt{2}"], number) == "\\sqrt{2}"
    assert canonical("8", ["7", "\\sqrt{2}"], number) == "8"


def test_a_seen_answer_is_not_compared() -> None:
    class Uncomparable:
        def extract(self, text: str) -> str | None:
            return text

        def same(self, left: str, right: str) -> bool:
            raise AssertionError("compared")

    assert canonical("7", ["6", "7"], Uncomparable()) == "7"


OPENERS = ["Answer: ", "\\boxed{", "the answer is ", "####", "\\frac{", "\\text{", "{", "(", "[", "$", "\\"]
CLOSERS = ["}", ")", "]", "^", "/", ".", ",", "-", "e", "!", "%", "=", "\n", " "]
VALUES = ["0", "1", "9" * 50, "A", "\x00", "\u00bd", "\u0661"]
PIECES = st.sampled_from([*OPENERS, *CLOSERS, *VALUES])
HOSTILE = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map("".join))


@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=150)
@given(text=HOSTILE)
def test_any_text_can_be_read(kind: str, text: str) -> None:
    reading: AnswerType = answer_type(kind, {})
    for shown in (text, "Answer: " + text):
        answer = reading.extract(shown)
        assert answer is None or (answer and reading.same(answer, answer))


@settings(max_examples=60)
@given(left=HOSTILE, right=HOSTILE)
def test_any_texts_can_be_compared(left: str, right: str) -> None:
    for kind in BUILT_IN:
        assert answer_type(kind, {}).same(left, right) in (True, False)


HUGE = [
    "Answer: " * 50_000,
    "\\boxed{" * 50_000,
    "1" * 400_000,
    "(" * 400_000,
    "Answer:" + " " * 400_000,
    "$" * 400_000,
]
HUGE += ["the answer is " + "1," * 200_000, "answer " * 60_000, "####" * 100_000, "*_" * 200_000, "\\(" * 200_000]


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("text", HUGE, ids=lambda text: text[:9])
@pytest.mark.timeout(20)
def test_huge_text_is_read_in_bounded_time(kind: str, text: str) -> None:
    reading = answer_type(kind, {"fallback": "last"} if kind in ("number", "math") else {})
    answer = reading.extract(text)
    assert answer is None or len(answer) <= 1000
