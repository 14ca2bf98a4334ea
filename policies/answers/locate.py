r"""Finding where in a response its answer stands.

The last of these wins: `Answer: X`, `#### X`, "the answer is X", a balanced \boxed{X}; or a configured regex (its first
group, or the whole match where it has none). All scanning is linear in the text, of which the last part is read.
"""

from __future__ import annotations

import re
from functools import lru_cache

from apportion.errors import ConfigError

READ_CHARACTERS = 50_000
"""Of a longer response only the end is read: answers stand at the end, and model text may be of any length."""

ANSWER_CHARACTERS = 1_000
"""A longer answer is no answer: it is a runaway response, and comparing such texts is what costs time."""

_CUE = re.compile(
    r"(?:\banswer\b[ \t*_]{0,8}(?::|\bis\b(?:[ \t*_]{0,8}:)?|=)|^[ \t]{0,8}####)[*_ \t]{0,8}\n?([^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
SHORTEST_CUE = len("####")
MOST_BLANKS = 8
"""Blanks that may stand before ####."""

BOXES = 16
"""Only so many last boxes are looked into; each may be scanned for an answer's length."""

_ASIDE = re.compile(r"\.\s{1,4}I hope\b.*", re.IGNORECASE | re.DOTALL)
"""The prompt of Minerva (Lewkowycz et al. 2022) taught many models to end with "I hope it is correct"."""

_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")


def locate(text: str, pattern: str | None = None) -> str | None:
    """The last non-empty answer text, or None where no cue stands in the text or the answer is too long."""
    tail = text[-READ_CHARACTERS:]
    found = _configured(tail, pattern) if pattern is not None else _cued(tail)
    return found if found and len(found) <= ANSWER_CHARACTERS else None


@lru_cache(maxsize=64)
def compiled(pattern: str) -> re.Pattern[str]:
    """The regex of a config's `pattern`; ConfigError where it is none."""
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"answer.pattern {pattern!r} is not a regular expression: {error}") from error


def _configured(tail: str, pattern: str) -> str | None:
    last: str | None = None
    for match in compiled(pattern).finditer(tail):
        group = match.group(1) if match.re.groups else match.group(0)
        last = tidy(group) if group and tidy(group) else last
    return last


def _cues(tail: str) -> list[tuple[int, str]]:
    """Start and text of what follows each cue. The pattern is tried only where a cue can be: trying it everywhere is
    most of what reading an answer costs."""
    folded = tail.casefold()
    if len(folded) != len(tail):
        # Places in the one text are not places in the other.
        return [(match.start(1), match.group(1)) for match in _CUE.finditer(tail)]
    cues, at = [], 0
    word, marks = folded.find("answer"), folded.find("####")
    while word >= 0 or marks >= 0:
        start = word
        if marks >= 0 and (word < 0 or marks < word):
            start = marks
            while start > max(at, marks - MOST_BLANKS) and folded[start - 1] in " \t":
                start -= 1
        match = _CUE.match(tail, start)
        if match is not None:
            cues.append((match.start(1), match.group(1)))
        at = match.end() if match is not None else (word if start == word else marks) + 1
        if 0 <= word < at:
            word = folded.find("answer", at)
        if 0 <= marks < at:
            marks = folded.find("####", at)
    return cues


def _cued(tail: str) -> str | None:
    cued = _cues(tail)
    # Two cues on one line ("Final answer: the answer is 5") are one match: look for the second inside the first.
    for start, group in tuple(cued):
        if len(group) >= SHORTEST_CUE:
            cued.extend((start + begin, inner) for begin, inner in _cues(group))
    cued.extend(_boxed(tail))
    for _, group in sorted(cued, reverse=True):
        if found := tidy(_ASIDE.sub("", group)):
            return found
    return None


def _boxed(tail: str) -> list[tuple[int, str]]:
    """Start and content of the last balanced boxes; one that nothing closes within an answer's length is left out."""
    boxes: list[tuple[int, str]] = []
    for match in list(_BOXED.finditer(tail))[-BOXES:]:
        depth = 1
        for at in range(match.end(), min(len(tail), match.end() + ANSWER_CHARACTERS)):
            depth += {"{": 1, "}": -1}.get(tail[at], 0)
            if depth == 0:
                boxes.append((match.end(), tail[match.end() : at]))
                break
    return boxes


def tidy(text: str) -> str:
    r"""An answer without the wrapping of markdown, dollars, \( \), quotes and final stops around it."""
    before = text if text.isalnum() else None
    while before != text:
        before = text
        text = text.strip().strip("*`\"'").strip()
        text = text[:-1] if text.endswith((".", ";", ",")) and not text.endswith("\\,") else text
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                inside = text[len(left) : -len(right)]
                text = inside if left not in inside else text
    return text
