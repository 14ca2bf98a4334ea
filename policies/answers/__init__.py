"""Reading the answer out of a response, and telling whether two answers are the same."""

from __future__ import annotations

from typing import Protocol


class AnswerType(Protocol):
    """How answers of one dataset are read and compared."""

    def extract(self, text: str) -> str | None:
        """The answer a response gives, in a canonical form, or None where none can be read."""
        ...

    def same(self, left: str, right: str) -> bool:
        """Whether two extracted answers (or an extracted answer and a reference) mean the same."""
        ...
