r"""Quantities: one number with, at most, a name before it and a unit after it.

Beside formulas a number must be read strictly: 5x is not 5, n - 1 not -1, and x^2+y^2=4 not 4. What is no quantity is
for others to compare, as a formula or as text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from apportion.policies.answers.cues import ANSWER_CHARACTERS
from apportion.policies.answers.number import FRACTIONS, NUMBER, number_value

_TEXT = r"\\(?:text|textrm|textbf|mathrm|mathbf|mbox)\s?\{"

_LATEX = (
    (re.compile(r"(?<=\})\s{1,4}(?=[A-Za-z](?![A-Za-z]))"), ""),  # a letter after a fraction multiplies it
    *FRACTIONS,
    (re.compile(r"(?<=\d)\^?\{?\\(?:text|mathrm)\{(st|nd|rd|th)\}\}?"), r"\1"),
    (re.compile(_TEXT + r"([^{}]*)\}"), r" \1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\[,;: ](?=\d{3}(?!\d))|\\!"), ""),
    (re.compile(r"\\[,;: ]|\\q?quad(?![A-Za-z])|~"), " "),
    (re.compile(r"\^\{\\circ\}|\^?\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|°"), " "),
    (re.compile(r"(?:US|Rs\.?\s?)(?=\\?\$|\d)|\\?[$%€£]|\\approx(?![A-Za-z])|[≈“”]"), ""),
    (re.compile(r"[−–]"), "-"),
)
_BEFORE = re.compile(r"(?:(?:[A-Za-z]\w{0,30})?\s{0,4}=|about\b|approximately\b|exactly\b)?\s{0,4}")

_JOINED = (
    r"(?:mm|cm|km|in|inch|inches|ft|foot|feet|yards?|miles?|met(?:er|re)s?|kg|grams?|oz|ounces?|lbs?|pounds?|tons?|cc"
    r"|lit(?:er|re)s?|gallons?|cups?|secs?|seconds?|min|mins|minutes?|hrs?|hours?|days?|weeks?|months?|years?|mph|kmh|kph"
    r"|Hz|kHz|kPa|kJ|kW|kWh|calories|radians?|degrees?|cents?|dollars?|points?|units?|percent)"
)
"""Units that may follow a number without a blank between: few would write products of letters like these."""

_SHORT = r"(?:mg|ms|ml|mL|dm|mi|yd|gal|sq|cu|Pa|kcal|cal|mol|rad|deg|USD|pts|egg|men|man|of|[CFJLNVWghms])"
"""Further units of so few letters that elsewhere they may be a product."""

_NO_WORD = (
    r"(?!(?:and|or|mod|plus|minus|squared|cubed|factorial|base|half|dozen|hundred|thousand|million|billion|trillion"
    r"|alpha|beta|gamma|delta|theta|lambda|sigma|omega)(?![A-Za-z]))"
)
"""What a word may not be that is to stand for a unit (18 apples): one that makes another number of the one before."""

_POWER = r"(?![A-Za-z])(?:\^[23]|\^\{[23]\}|[²³])?"
_MORE = rf"(?:(?:\s{{0,4}}/\s{{0,4}}|\s{{1,4}})(?:{_NO_WORD}[A-Za-z]{{2,20}}|{_SHORT}|a){_POWER}){{0,5}}"
_WORD = rf"{_NO_WORD}(?:[a-z]{{4,20}}|[a-z]{{3}}(?=\s[A-Za-z]{{3}}))"
"""A word for a unit. Three letters by themselves are more often a product (3 abc), and 10 Downing Street is a name."""

_SPELT = rf"(?:{_JOINED}|{_SHORT}|{_WORD}){_POWER}{_MORE}"
"""A unit after a blank: m, m/s, square miles, red apples."""

_ORDINAL = r"(?:(?<=1)st|(?<=2)nd|(?<=3)rd|(?<=\d)th)"

_UNIT = re.compile(rf"(?:(?:{_JOINED}{_POWER}{_MORE}|\s{{1,4}}{_SPELT}|/{_WORD}|{_ORDINAL})\s{{0,4}})?\.?")
_FORMULA_UNIT = re.compile(
    rf"(?:(?<=[\d}})])\s{{0,4}}{_JOINED}|\s{{0,4}}{_TEXT}\s{{0,4}}{_SPELT}\s{{0,4}}\}}){_POWER}$"
)


def read_quantity(text: str) -> Fraction | None:
    """The value of a text that is a quantity; None for any other."""
    if len(text) > ANSWER_CHARACTERS:
        return None
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = text.strip()
    before = _BEFORE.match(text)
    match = NUMBER.match(text, before.end()) if before is not None else None
    if match is None or _UNIT.fullmatch(text, len(match.group().rstrip()) + match.start()) is None:
        return None
    return number_value(match)


def without_unit(formula: str) -> str:
    r"""A formula without the unit at its end: 3\sqrt{2}\text{ cm} is 3\sqrt{2}. Without a number there is no unit."""
    unit = _FORMULA_UNIT.search(formula)
    return formula[: unit.start()] if unit is not None and re.search(r"\d", formula[: unit.start()]) else formula
