"""Numbers: integers, decimals, fractions, mixed numbers, percent, thousands separators and units; compared exactly.

The canonical form is an integer, a decimal where it ends early, or p/q, so that equal numbers are equal strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from apportion.policies.answers.cues import ANSWER_CHARACTERS
from apportion.policies.answers.locate import READ_CHARACTERS, compiled, places, tidy

DIGITS = 200
"""A number of more digits is not read: no dataset has them, and arithmetic on hostile ones costs time."""

EXPONENT = 100
"""The largest power of ten in scientific notation, for the same reason."""

DECIMALS = 12
"""A fraction that ends within so many decimals is written as a decimal."""

FRACTIONS = (
    (re.compile(r"(?<=[\w}])(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[dt]?frac\s?\{\s?([-+]?\d{1,200})\s?\}\s?\{\s?(\d{1,200})\s?\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s?(\d)\s?(\d)(?!\d)"), r"\1/\2"),
)
"""Fractions of LaTeX, and how to write them with a stroke."""

_LATEX = (
    *FRACTIONS,
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s?\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,!;: ]|\\quad|~"), ""),
    (re.compile(r"\\([%$#&])"), r"\1"),
    (re.compile(r"(?<=[A-Za-z])\^(?:\{\d\}|\d)|(?<=[A-Za-z])[²³]"), ""),
    (re.compile(r"\\circ\b|\^\\circ|\^\{\\circ\}"), ""),
    (re.compile(r"[−–]"), "-"),
)
NUMBER = re.compile(
    r"(?<![\w.^/])(?P<sign>[-+]\s?)?(?P<money>[$€£]\s?)?(?P<minus>-)?"
    r"(?:(?:(?P<whole>\d{1,200})\s)?(?P<top>\d{1,200})\s?/\s?(?P<bottom>\d{1,200})(?![\d/.])"
    r"|(?P<grouped>\d{1,3}(?:,\d{3})+(?:\.\d{1,200})?)(?![\d,]*\d)"
    r"|(?P<plain>\d{1,200}(?:\.\d{0,200})?|\.\d{1,200})(?:[eE](?P<power>[-+]?\d{1,4})(?![\w.]))?(?!\d))"
    r"\s?(?P<percent>%)?"
)
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""The canonical form of most answers there are: nothing has to be worked out of it."""

_OPERATORS = re.compile(r"[\\^*_+=<>{}√π|]|\d")


def read_number(text: str, percent: str = "strip") -> Fraction | None:
    """The one number an answer's text states, in full; None where it states none, several, or an expression."""
    if len(text) > ANSWER_CHARACTERS:
        return None
    text = _plain(text).rpartition("=")[2].strip()
    match = NUMBER.search(text)
    if match is None or _OPERATORS.search(text[: match.start()] + " " + text[match.end() :]):
        return None
    return number_value(match, percent)


def bare_number(text: str) -> str | None:
    """The response itself where it is nothing but a number."""
    whole = tidy(text) if len(text) <= DIGITS else ""
    return whole if NUMBER.fullmatch(whole) else None


def write_number(value: Fraction) -> str:
    """The canonical form of a number."""
    if value.denominator == 1:
        return str(value.numerator)
    shifted = value * 10**DECIMALS
    if shifted.denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(shifted.numerator)).rjust(DECIMALS + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-DECIMALS]}.{digits[-DECIMALS:].rstrip('0')}"


def number_value(match: re.Match[str], percent: str = "strip", signed: bool = True) -> Fraction | None:
    """The value of a match of `NUMBER`; without the sign before it where that is none."""
    part = match.groupdict()
    if part["top"]:
        if int(part["bottom"]) == 0:
            return None
        value = Fraction(int(part["top"]), int(part["bottom"])) + int(part["whole"] or 0)
    elif part["grouped"]:
        value = Fraction(part["grouped"].replace(",", ""))
    else:
        power = int(part["power"] or 0)
        if abs(power) > EXPONENT:
            return None
        value = Fraction(part["plain"].rstrip(".") or "0") * Fraction(10) ** power
    if part["percent"] and percent == "ratio":
        value /= 100
    sign = (part["sign"] or "").strip() if signed else ""
    return -value if (sign == "-") != bool(part["minus"]) else value


def _plain(text: str) -> str:
    """A text with its LaTeX rewritten, as far as numbers need it."""
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """Numeric answers.

    `pattern` is a regex for where the answer stands (last match, group 1). A response that has no such place has no
    answer, unless it is nothing but a number, or `fallback: last` takes the last number in it. `percent: strip` reads
    50% as 50, `ratio` as 0.5.
    """

    pattern: str | None = None
    fallback: Literal["none", "last"] = "none"
    percent: Literal["strip", "ratio"] = "strip"

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compiled(self.pattern)

    def extract(self, text: str) -> str | None:
        """The number in canonical form: of the last place that states one."""
        place = None
        for place in places(text, self.pattern):
            if INTEGER.fullmatch(place):
                return place
            value = read_number(place, self.percent)
            if value is not None:
                return write_number(value)
        if place is not None:
            return None
        whole = bare_number(text) if self.pattern is None else None
        value = read_number(whole, self.percent) if whole is not None else None
        if whole is None and self.fallback == "last":
            value = self._last(text)
        return None if value is None else write_number(value)

    def same(self, left: str, right: str) -> bool:
        """Whether both are the same number exactly; a reference may also be a worked solution with its answer."""
        if left == right:
            return True
        if INTEGER.fullmatch(left) and INTEGER.fullmatch(right):
            return False
        first, second = self._read(left), self._read(right)
        return first is not None and first == second

    def _read(self, answer: str) -> Fraction | None:
        value = read_number(answer, self.percent)
        if value is None and (extracted := self.extract(answer)) is not None:
            value = read_number(extracted, self.percent)
        return value

    def _last(self, text: str) -> Fraction | None:
        text = _plain(text[-READ_CHARACTERS:])
        last = None
        for match in NUMBER.finditer(text):
            last = match
        if last is None:
            return None
        # In running text a sign that stands off its number is a list's mark or an operator, as is one after a number.
        off = (last["sign"] or "").endswith((" ", "\t", "\n"))
        operator = text[: last.start()].rstrip(" ").endswith((*"0123456789", ")"))
        return number_value(last, self.percent, signed=not (off or operator))
