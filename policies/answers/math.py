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
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from apportion.policies.answers.locate import READ_CHARACTERS, compiled, locate, tidy
from apportion.policies.answers.number import INTEGER, write_number
from apportion.policies.answers.quantity import read_quantity, without_unit

FORMULA_CHARACTERS = 300
"""A longer formula is compared as text: final answers are shorter, and parsing grows faster than length."""

NESTING = 12
"""Deeper brackets are compared as text: the parser is recursive."""

DIGITS = 100_000
"""The most digits a formula may have when it is multiplied out; computing so many takes milliseconds."""

SYMBOLIC_POWER = 6
"""The largest power of brackets with letters in them that is expanded; (a+b+c+d+e)^6 takes seconds, ^30 hours."""

ALARM_SECONDS = 5
"""What math-verify may take for one formula in the main thread; ordinary ones take milliseconds."""

_UNBOUNDED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|[td]?binom|Gamma|zeta)(?![A-Za-z])|\d{4,}\s*!|[)}\]!]\s*!|\\sqrt\s*\[(?!\s*\d\s*\])"
)
"""Values computed by loops of any length, and roots whose degree may be a fraction, which makes them powers."""

_POWER = re.compile(r"\^|\*\*|\\exp(?![A-Za-z])")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
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
        if found is None or INTEGER.fullmatch(found):
            return found
        value = read_quantity(found)
        return write_number(value) if value is not None and "%" not in found else found

    def same(self, left: str, right: str) -> bool:
        """Whether both are equal in value or as text without spacing. Either may stand in the place of the gold."""
        return same_formula(tidy(left), tidy(right))


def same_formula(left: str, right: str) -> bool:
    """Whether two formulas are equal: as numbers, as text, or by math-verify in either direction."""
    if left == right:
        return True
    first, second = read_quantity(left), read_quantity(right)
    if first is not None and second is not None and not any(sign in left + right for sign in "%="):
        return first == second
    if _SPACING.sub("", left) == _SPACING.sub("", right):
        return True
    if not (is_safe(left) and is_safe(right)):
        return False
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
    return deepest <= NESTING and _powers_are_small(formula)


def _powers_are_small(formula: str) -> bool:
    """Whether no power stands in an exponent, and the powers together make a number of bounded size."""
    nested = plain = 1.0
    for match in _POWER.finditer(formula):
        exponent = _argument(formula, match.end())
        if "!" in exponent or _POWER.search(exponent):
            return False
        size = math.prod(max(1.0, float(number)) for number in re.findall(r"\d+", exponent))
        if formula[: match.start()].rstrip()[-1:] in (")", "}", "]"):
            nested *= size
        else:
            plain = max(plain, size)
    if nested > SYMBOLIC_POWER and _LETTER.search(formula):
        return False
    longest = max(map(len, re.findall(r"\d+", formula)), default=1)
    return nested * plain * max(longest, 3000 if "!" in formula else 1) <= DIGITS  # 999! has 2,565 digits


def _argument(formula: str, at: int) -> str:
    """What follows a power sign: a command with its groups, a bracketed group or a run, and a power sign after it."""
    end, rest = at, len(formula)
    while end < rest and formula[end] in " +-":
        end += 1
    while end < rest and (word := re.match(r"[\w.\\]+\s*", formula[end:])):
        end += word.end()
    while end < rest and formula[end] in "{([":
        depth = 0
        while end < rest:
            depth += (formula[end] in "{([") - (formula[end] in "})]")
            end += 1
            if depth == 0:
                break
    after = re.match(r"\s*(?:\^|\*\*|!)", formula[end:])
    return formula[at:end] + (after.group(0) if after else "")


def _last_formula(text: str) -> str | None:
    last = None
    for match in _FORMULA.finditer(text[-READ_CHARACTERS:]):
        last = match
    return tidy(next(group for group in last.groups() if group)) if last else None


def _alarm() -> int | None:
    return ALARM_SECONDS if threading.current_thread() is threading.main_thread() else None


@lru_cache(maxsize=8192)
def _parsed(formula: str) -> tuple[Any, ...]:
    """math-verify's expressions for one formula; empty where it has none.

    Only its LaTeX grammar is used: its reader of plain expressions hands model text to sympy's `parse_expr`, an eval.
    """
    from math_verify import parse

    latex = "$" + without_unit(formula.replace("\\$", "").replace("$", "")).replace("**", "^") + "$"
    return tuple(parse(latex, [_grammar()], fallback_mode="no_fallback", parsing_timeout=_alarm()))


def _verified(golds: tuple[Any, ...], targets: tuple[Any, ...]) -> bool:
    from math_verify import verify

    return bool(verify(list(golds), list(targets), timeout_seconds=_alarm()))


@lru_cache(maxsize=1)
def _grammar() -> Any:
    """What math-verify reads: LaTeX with its letters kept. It takes the t of 5t and the m of 3m for units."""
    from math_verify import LatexExtractionConfig

    # It warns about a disabled alarm and about every formula it cannot read; both are dealt with here.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    usual = LatexExtractionConfig()
    return replace(usual, normalization_config=replace(usual.normalization_config, units=False))
