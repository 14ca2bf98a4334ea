"""What a user might configure with `answer: {kind: function}`; imported by name in test_answers.py."""

from __future__ import annotations


def last_word(text: str) -> str | None:
    words = text.split()
    return words[-1] if words else None


def same_length(left: str, right: str) -> bool:
    return len(left) == len(right)


def broken(text: str) -> str | None:
    raise KeyError(text)


def wrong_type(text: str) -> int:
    return len(text)
