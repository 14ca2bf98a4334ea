"""Exact text and multiple-choice letters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from apportion.errors import ConfigError
from apportion.policies.answers.locate import ANSWER_CHARACTERS, compiled, locate, tidy

LETTER_CHARACTERS = 20
"""A response that is nothing but a letter, with some wrapping, is no longer than this."""

_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s?\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """Answers compared as text. `case` compares upper and lower case; `space: keep` compares white space as it is.

    `whole: true` takes the whole response as the answer where nothing says where it stands.
    """

    pattern: str | None = None
    case: bool = False
    space: Literal["collapse", "keep"] = "collapse"
    whole: bool = False

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compiled(self.pattern)

    def extract(self, text: str) -> str | None:
        """The answer's text, in its own case."""
        found = locate(text, self.pattern)
        if found is None and self.whole and len(text) <= ANSWER_CHARACTERS:
            found = tidy(text)
        return self._spaced(found) or None if found else None

    def same(self, left: str, right: str) -> bool:
        return self._plain(left) == self._plain(right)

    def _spaced(self, text: str) -> str:
        return " ".join(text.split()) if self.space == "collapse" else text

    def _plain(self, text: str) -> str:
        spaced = self._spaced(text)
        return spaced if self.case else spaced.casefold()


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """One letter of `letters`, upper case: `Answer: B`, `(b)`, `B) 42`, or a box around any of them."""

    pattern: str | None = None
    letters: str = "ABCDEFGHIJ"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{1,26}", self.letters) or len(set(self.letters)) < len(self.letters):
            raise ConfigError(f"answer.letters is {self.letters!r}; it must be distinct capital letters, such as ABCD")
        if self.pattern is not None:
            compiled(self.pattern)

    def extract(self, text: str) -> str | None:
        """The letter the answer's text begins with or states alone, or that is all of the response."""
        found = locate(text, self.pattern)
        if found is None and self.pattern is None and len(text) <= LETTER_CHARACTERS:
            whole = tidy(text)
            found = whole if re.fullmatch(r"\(?[A-Za-z][).:]?", whole) else None
        return None if found is None else self._letter(found)

    def same(self, left: str, right: str) -> bool:
        """Whether both name the same letter."""
        first = self._letter(left)
        return first is not None and first == self._letter(right)

    def _letter(self, text: str) -> str | None:
        text = tidy(_LATEX_TEXT.sub(r"\1", text[:ANSWER_CHARACTERS]))
        either = self.letters + self.letters.lower()
        leading = re.fullmatch(rf"\(?([{either}])[).:]?", text) or re.match(
            rf"\(([{either}])\)|([{either}])[).:]", text
        )
        if leading is not None:
            return next(group for group in leading.groups() if group).upper()
        # In a sentence only capitals count, not the article "A" or the pronoun "I", and two letters are no answer.
        stated = set(re.findall(rf"(?<![\w'])(?![AI]\s+(?!and\b|or\b)[a-z])([{self.letters}])(?![\w'])", text))
        return stated.pop() if len(stated) == 1 else None
