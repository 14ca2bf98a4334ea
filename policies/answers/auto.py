"""The default: a number where the answer is one, a formula where it has LaTeX, else text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from apportion.policies.answers.locate import compiled, locate, tidy
from apportion.policies.answers.math import same_formula
from apportion.policies.answers.number import INTEGER, bare_number, write_number
from apportion.policies.answers.quantity import read_quantity
from apportion.policies.answers.text import TextAnswer

_FORMULA = re.compile(
    r"[\\^]|\d\s*[-+*/]\s*[\w(]|[\w)]\s*[*=+]\s*\w|(?<![A-Za-z])[A-Za-z]\s*[-/]\s*\w|\d[A-Za-z!]|\d\s*,\s*[-+\d]"
)
"""What only formulas have: LaTeX, operators between terms, a letter after a digit, lists of numbers."""

_TEXT = TextAnswer()


@dataclass(frozen=True, slots=True)
class AutoAnswer:
    """Reads and compares each answer as what it looks like. `pattern` as everywhere: last match, group 1."""

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compiled(self.pattern)

    def extract(self, text: str) -> str | None:
        """A number in canonical form, or the answer's text with white space collapsed."""
        found = locate(text, self.pattern)
        if found is None and self.pattern is None:
            found = bare_number(text)
        if found is None or INTEGER.fullmatch(found):
            return found
        number = read_quantity(found)
        return write_number(number) if number is not None else " ".join(found.split()) or None

    def same(self, left: str, right: str) -> bool:
        """Equality as numbers, else as formulas, else as text; a reference may be a worked solution."""
        left, right = tidy(left), tidy(right)
        if _TEXT.same(left, right):
            return True
        first, second = self._number(left), self._number(right)
        if first is not None and second is not None:
            return first == second
        return bool(_FORMULA.search(left) or _FORMULA.search(right)) and same_formula(left, right)

    def _number(self, answer: str) -> Fraction | None:
        value = read_quantity(answer)
        if value is None and (extracted := self.extract(answer)) is not None:
            value = read_quantity(extracted)
        return value
