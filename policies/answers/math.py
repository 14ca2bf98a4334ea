r"""LaTeX and formulas, parsed and compared by math-verify (https://github.com/huggingface/Math-Verify).

math-verify bounds its time with SIGALRM, which only the main thread may use, and a computation inside Python's big
integers does not hear a signal. So what could explode (towers of powers, factorials of large numbers, sums, deep
nesting) is screened out before it is parsed and compared as text, in every thread; the alarm is a second defence
where it can be had.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from apportion.policies.answers.locate import READ_CHARACTERS, compiled, locate, tidy
from apportion.policies.answers.number import read_number, write_number

FORMULA_CHARACTERS = 300
"""A longer formula is compared as text: final answers are shorter, and parsing grows faster than length."""

NESTING = 12
"""Deeper brackets are compared as text: the parser is recursive."""

POWER = 10_000
"""The largest product of the numbers in all exponents of a formula that is evaluated: 10^10000 takes microseconds."""

ALARM_SECONDS = 5
"""What math-verify may take for one formula in the main thread; ordinary ones take milliseconds."""

_UNBOUNDED = re.compile(r"\\(?:sum|prod|int|iint|oint|lim|binom|tbinom|dbinom|Gamma|zeta)\b|\d{5,}\s*!|[)}\]!]\s*!")
_FORMULA = re.compile(r"\$\$([^$]{1,1000})\$\$|\$([^$\n]{1,1000})\$|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]")
_SPACING = re.compile(r"\\[,!;: ]|\\(?:left|right|displaystyle|quad|qquad)\b|\s+")


@dataclass(frozen=True, slots=True)
class MathAnswer:
    r"""Mathematical answers: \boxed{\frac{1}{2}} equals 0.5, 2x+1 equals 1+2x.

    `pattern` is a regex for where the answer stands (last match, group 1). `fallback: last` takes the last formula
    between dollars, \( \) or \[ \] of a response that has no such place.
    """

    pattern: str | None = None
    fallback: Literal["none", "last"] = "none"

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compiled(self.pattern)

    def extract(self, text: str) -> str | None:
        """The answer's formula without its wrapping; a number in its canonical form."""
        found = locate(text, self.pattern)
        if found is None and self.fallback == "last":
            found = _last_formula(text)
        if not found:
            return None
        value = read_number(found)
        return write_number(value) if value is not None and "%" not in found else found

    def same(self, left: str, right: str) -> bool:
        """Whether both are equal in value or as text without spacing. Either may stand in the place of the gold."""
        return same_formula(tidy(left), tidy(right))


def same_formula(left: str, right: str) -> bool:
    """Whether two formulas are equal: as text, as numbers, or by math-verify in either direction."""
    if left == right or _SPACING.sub("", left) == _SPACING.sub("", right):
        return True
    if not (is_safe(left) and is_safe(right)):
        return False
    first, second = read_number(left), read_number(right)
    if first is not None and second is not None and "%" not in left + right:
        return first == second
    golds, targets = _parsed(left), _parsed(right)
    if not golds or not targets:
        return False
    # math-verify is not symmetric (x = 2 against 2), and which one is the reference is not known here.
    return _verified(golds, targets) or _verified(targets, golds)


def is_safe(formula: str) -> bool:
    """Whether a formula can be parsed and evaluated in bounded time and memory."""
    if len(formula) > FORMULA_CHARACTERS or _UNBOUNDED.search(formula):
        return False
    depth = deepest = 0
    for character in formula:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest <= NESTING and _powers(formula) <= POWER


def _powers(formula: str) -> float:
    """A bound of the product of a formula's exponents; infinite for a power inside an exponent."""
    product = 1.0
    for match in re.finditer(r"\^|\*\*", formula):
        exponent = _argument(formula, match.end())
        if re.search(r"\^|\*\*|!", exponent):
            return math.inf
        for number in re.findall(r"\d+", exponent):
            product *= max(1.0, float(number))
    return product


def _argument(formula: str, at: int) -> str:
    """What follows a power sign: a bracketed group, or a run up to the next operator, with a power after it."""
    rest = formula[at:].lstrip()
    if rest[:1] not in ("{", "(") or not rest:
        run = re.match(r"[-+]?[\w.\\]*(?:\s*(?:\^|\*\*|!))?", rest)
        return run.group(0) if run else ""
    depth = 0
    for end, character in enumerate(rest):
        depth += (character in "{(") - (character in "})")
        if depth == 0:
            after = re.match(r"\s*(?:\^|\*\*|!)", rest[end + 1 :])
            return rest[: end + 1] + (after.group(0) if after else "")
    return rest


def _last_formula(text: str) -> str | None:
    last = None
    for match in _FORMULA.finditer(text[-READ_CHARACTERS:]):
        last = match
    return tidy(next(group for group in last.groups() if group)) if last else None


def _alarm() -> int | None:
    return ALARM_SECONDS if threading.current_thread() is threading.main_thread() else None


@lru_cache(maxsize=8192)
def _parsed(formula: str) -> tuple[Any, ...]:
    """math-verify's expressions for one formula, read both as LaTeX and as plain text; empty where it has none."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    _quiet()
    targets = [LatexExtractionConfig(), ExprExtractionConfig()]
    return tuple(parse(f"${formula}$", targets, fallback_mode="no_fallback", parsing_timeout=_alarm()))


def _verified(golds: tuple[Any, ...], targets: tuple[Any, ...]) -> bool:
    from math_verify import verify

    return bool(verify(list(golds), list(targets), timeout_seconds=_alarm()))


@lru_cache(maxsize=1)
def _quiet() -> None:
    # It warns about a disabled alarm and about every formula it cannot read; both are dealt with here.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
