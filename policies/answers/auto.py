"""The default: a number where the answer is one, a formula where it has LaTeX, else text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apportion.policies.answers.locate import compiled, locate, tidy
from apportion.policies.answers.math import same_formula
from apportion.policies.answers.number import NumberAnswer, bare_number, read_number, write_number
from apportion.policies.answers.text import TextAnswer

_LATEX = re.compile(r"[\\^]|\d\s*[-+*/]\s*[\w(]|[\w)]\s*[*=]\s*\w")
_NUMERIC = re.compile(r"^(?:[A-Za-z]\w{0,20}\s*=\s*)?[-+−]?\s?[$€£]?\s?-?(?:\\?\$)?[\d.\\]")
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
        if found is None:
            return None
        number = _number(found)
        return number if number is not None else " ".join(found.split()) or None

    def same(self, left: str, right: str) -> bool:
        """Equality as numbers, else as formulas, else as text; a reference may be a worked solution."""
        left, right = tidy(left), tidy(right)
        if _TEXT.same(left, right):
            return True
        first, second = _number(left), _number(right)
        if first is not None and second is not None:
            return first == second
        if _LATEX.search(left) or _LATEX.search(right):
            return same_formula(left, right)
        return first is not None and NumberAnswer().same(first, right)


def _number(text: str) -> str | None:
    """The canonical number of a text that begins with one; a name with a digit in it ("Room 5") stays text."""
    value = read_number(text) if _NUMERIC.match(text) else None
    return None if value is None else write_number(value)
