r"""Formulas are compared as formulas, and only what is one number is read as one, in `kind: math` and `kind: auto`."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.policies.answers import AnswerType
from apportion.policies.answers.number import write_number
from apportion.policies.answers.quantity import read_quantity
from apportion.policies.registry import answer_type

KINDS = ["math", "auto"]


def judged(kind: str, answer: str, reference: str) -> bool:
    """Whether a response that puts this answer in a box is right."""
    reading: AnswerType = answer_type(kind, {})
    read = reading.extract(f"So we have $\\boxed{{{answer}}}$.")
    return read is not None and reading.same(read, reading.extract(reference) or reference)


QUANTITIES: list[tuple[str, str]] = [
    ("42", "42"),
    ("-\\frac{3}{4}", "-3/4"),
    ("- \\frac{3}{4}", "-3/4"),
    ("6\\frac{3}{4}", "27/4"),
    ("1 1/2", "3/2"),
    ("1,234.5", "2469/2"),
    ("10\\,000", "10000"),
    ("10,\\!000", "10000"),
    ("12{,}345", "12345"),
    ("x = 5", "5"),
    ("x_1=5", "5"),
    ("\\text{Area} = 12", "12"),
    ("x = 5 apples", "5"),
    ("\\$18", "18"),
    ("-$0.50", "-1/2"),
    ("$15/hour", "15"),
    ("25\\%", "25"),
    ("90^\\circ", "90"),
    ("20^\\circ C", "20"),
    ("18 eggs", "18"),
    ("18 red apples", "18"),
    ("18 eggs per day", "18"),
    ("about 3.14", "157/50"),
    ("5 m", "5"),
    ("5 m/s", "5"),
    ("5cm", "5"),
    ("5 cm^2", "5"),
    ("12\\text{ cm}^2", "12"),
    ("5\\,\\text{m}/\\text{s}^2", "5"),
    ("5\\ \\mathrm{km/h}", "5"),
    ("\\frac{3}{4}\\text{ m}", "3/4"),
    ("12th", "12"),
    ("12^{\\text{th}}", "12"),
]


@pytest.mark.parametrize(("text", "value"), QUANTITIES)
def test_a_quantity(text: str, value: str) -> None:
    assert read_quantity(text) == Fraction(value)


NO_QUANTITIES = ["5x", "5m", "3mg", "3R^2", "x-2", "n - 1", "10 - x", "1-i", "3i", "7(x-y)", "\\frac{2}{3}x", "4!"]
NO_QUANTITIES += ["\\frac{1}{2} h", "2^{10}", "x^2", "5^2", "1011_2", "12\\pi", "12 pi", "12pi", "2 theta", "\\pm 2"]
NO_QUANTITIES += ["y=2x", "x=2, y=3", "a=b=3", "f(x)=3", "x+y=6", "x^2+y^2=4", "5x-7y+11z+4=0", "x > 6", "-1<x<5"]
NO_QUANTITIES += ["3 or 4", "3,5", "3:2", "2,x", "(3)", "3 \\text{ and } x", "\\text{Row } 3", "Room 5", "3\\text{ PM}"]
NO_QUANTITIES += ["5 million", "5 squared", "10 Downing Street", "3rd Street", "5 more than x", "2024-01-05", "1/2/3"]
NO_QUANTITIES += ["", "x", "x=", "="]


@pytest.mark.parametrize("text", NO_QUANTITIES)
def test_no_quantity(text: str) -> None:
    assert read_quantity(text) is None


@given(st.fractions(max_denominator=10**6).filter(lambda value: abs(value) < 10**30))
def test_a_number_survives_its_canonical_form(value: Fraction) -> None:
    assert read_quantity(write_number(value)) == value


@pytest.mark.parametrize("kind", KINDS)
@given(value=st.integers(1, 999), letter=st.sampled_from("abcdfghjkmnpqrstuvwxyz"), sign=st.sampled_from(["", "-"]))
@settings(max_examples=30)
def test_a_number_is_not_its_product_with_a_letter(kind: str, value: int, letter: str, sign: str) -> None:
    assert not judged(kind, f"{sign}{value}{letter}", f"{sign}{value}")
    assert not judged(kind, f"{sign}{value}", f"{sign}{value}{letter}")
    assert not judged(kind, f"{letter}-{value}", f"-{value}")


RIGHT: list[tuple[str, str]] = [
    ("x-2", "x - 2"),
    ("x-2", "-2+x"),
    ("y=2x", "y=2x"),
    ("y=2x", "2x"),
    ("\\frac{2}{3}x", "\\frac{2x}{3}"),
    ("\\frac{1}{2}n", "\\frac{n}{2}"),
    ("2x", "x\\cdot 2"),
    ("5x", "5x"),
    ("3i", "3i"),
    ("4!", "24"),
    ("120", "5!"),
    ("x=3\\text{ or }x=5", "3,5"),
    ("x=3, x=5", "3,5"),
    ("3,5", "5, 3"),
    ("x = 2, y = 3", "(2,3)"),
    ("f(x)=3", "3"),
    ("\\theta = 5", "5"),
    ("AB = 5", "5"),
    ("x = 5", "5"),
    ("2(a+b)=40", "40"),
    ("5x-7y+11z+4=0", "10x-14y+22z+8=0"),
    ("3\\sqrt{2}\\text{ cm}", "3\\sqrt{2}"),
    ("3\\sqrt{2} cm", "3\\sqrt{2}"),
    ("12\\pi\\text{ square inches}", "12\\pi"),
    ("10 \\text{ inches}", "10"),
    ("\\$5.00", "5"),
    ("50\\%", "50"),
    ("12^{\\text{th}}", "12"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("answer", "reference"), RIGHT)
def test_judged_right(kind: str, answer: str, reference: str) -> None:
    assert judged(kind, answer, reference)


WRONG: list[tuple[str, str]] = [
    ("(x-3)^2+(y-1)^2=4", "(x-7)^2+(y-1)^2=4"),
    ("x^2+y^2=4", "x^2+4y^2=4"),
    ("5x", "5y"),
    ("5t", "5s"),
    ("3n", "3m"),
    ("5m", "5"),
    ("3mg", "3"),
    ("x+t", "x+s"),
    ("10 - x", "10-y"),
    ("1-i", "1"),
    ("7(x-y)", "7"),
    ("n-1", "1"),
    ("2", "x-2"),
    ("x=2, y=3", "3"),
    ("x=3\\text{ or }x=5", "5"),
    ("a=1,b=2", "a=3,b=2"),
    ("y=2x", "2"),
    ("y=3x", "y = 3"),
    ("2,x", "2"),
    ("1 1/2", "11/2"),
    ("12pi", "12"),
    ("3\\text{ AM}", "3\\text{ PM}"),
    ("n\\text{ even}", "n\\text{ prime}"),
    ("\\text{Sunday the 5th}", "5"),
    ("\\text{Row } 3", "3"),
    ("5 million", "5"),
    ("3R^2", "3"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("answer", "reference"), WRONG)
def test_judged_wrong(kind: str, answer: str, reference: str) -> None:
    assert not judged(kind, answer, reference)
    assert not judged(kind, reference, answer)


# All different, as the references of a data set are.
CORPUS = ["0", "-2", "0.75", "p-q", "6-5i", "2k+2", "2k", "-2x", "5r^5", "3R^2", "6r^2-4r-24", "x^3+3x-6", "-13x+3"]
CORPUS += ["(3,\\frac{\\pi}{2})", "(3,4]", "[3,4]", "(-\\infty,0]", "(0,9)\\cup(9,36)", "\\{1\\pm\\sqrt{5},-2\\}"]
CORPUS += ["1,-2", "3\\sqrt{13}", "\\frac{\\sqrt{3}}{3}", "\\frac{11+9a}{20}", "\\frac{20000}{\\pi}", "1\\pm\\sqrt{19}"]
CORPUS += ["12\\pi", "y=2x", "x^2+y^2=4", "(x-3)^2+(y-1)^2=4", "5x-7y+11z+4=2", "x > 6", "(a+5)(b+2)", "7!", "e^{-x}"]
CORPUS += [
    "\\cot x",
    "n - 1",
    "|x|",
    "\\text{Evelyn}",
    "\\text{even}",
    "ellipse",
    "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reference", CORPUS)
def test_a_reference_in_a_box_is_right(kind: str, reference: str) -> None:
    assert judged(kind, reference, reference)
    assert judged(kind, f" {reference.replace('+', ' + ')} ", reference)


@pytest.mark.parametrize("kind", KINDS)
def test_different_references_are_not_the_same(kind: str) -> None:
    reading = answer_type(kind, {})
    assert [pair for pair in combinations(CORPUS[::3], 2) if reading.same(*pair)] == []


SHOWN = [*CORPUS, *(text for pair in RIGHT + WRONG for text in pair), *(text for text, _ in QUANTITIES)]


@settings(max_examples=60)
@given(left=st.sampled_from(SHOWN), right=st.sampled_from(SHOWN))
def test_sameness_has_no_direction(left: str, right: str) -> None:
    for kind in ("math", "auto", "number", "text"):
        reading = answer_type(kind, {})
        assert reading.same(left, left)
        assert reading.same(left, right) == reading.same(right, left)
