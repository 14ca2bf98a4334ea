"""Exact text and multiple-choice letters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from apportion.errors import ConfigError
from apportion.policies.answers.cues import ANSWER_CHARACTERS
from apportion.policies.answers.locate import compiled, locate, places, tidy

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
        """The letter of the last place that states one, or that is all of the response."""
        place = None
        for place in places(text, self.pattern):
            if (letter := self._letter(place)) is not None:
                return letter
        if place is None and self.pattern is None and len(text) <= LETTER_CHARACTERS:
            whole = tidy(text)
            return self._letter(whole) if re.fullmatch(r"\(?[A-Za-z][).:]?", whole) else None
        return None

    def same(self, left: str, right: str) -> bool:
        """Whether both name the same letter."""
        first = self._letter(left)
        return first is not None and first == self._letter(right)

    def _letter(self, text: str) -> str | None:
        """The letter a text begins with, alone or marked as an option, or else the only one it states."""
        text = tidy(_LATEX_TEXT.sub(r"\1", text[:ANSWER_CHARACTERS]))
        option, another, stated = _letters(self.letters)
        if (first := option.match(text)) is not None:
            letter = next(group for group in first.groups() if group).upper()
            return None if another.match(text, first.end()) else letter
        found = set(stated.findall(text))
        return found.pop() if len(found) == 1 else None  # two letters are no answer


@lru_cache(maxsize=64)
def _letters(letters: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Regexes for an option at the beginning, for another one after it, and for a letter in a sentence."""
    either = letters + letters.lower()
    named = r"(?:[Oo]ption|[Cc]hoice)\s{1,4}"
    marked = rf"\(([{either}])\)|([{either}])[).:]"
    # In a sentence only capitals count, and not the article "A" or the pronoun "I".
    stated = rf"(?![AI]\s+(?!(?:and|or|is)\b)[a-z])([{letters}])(?![\w'])"
    return (
        re.compile(rf"\(?([{either}])$|(?:{named})?(?:{marked})|{named}([{either}])(?![\w'])"),
        re.compile(rf"\s{{0,4}}(?:[,;/&]|and\b|or\b)\s{{0,4}}(?:{named})?(?:{marked}|{stated})"),
        re.compile(rf"(?<![\w']){stated}"),
    )
