r"""The words that say an answer follows: `Answer: X`, `#### X`, "the answer is X"; and where X ends.

X ends with its line, with its sentence, or where a reason for it begins. All scanning is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

ANSWER_CHARACTERS = 1_000
"""A longer answer is no answer: it is a runaway response, and comparing such texts is what costs time."""

CUES = 16
"""Only so many last cues are looked at; each may be followed by an answer's length of text."""

_REST = (
    r"[*_ \t\r]{0,8}(?:(?:\n[ \t\r]{0,8}){1,2}(?:[-*•][ \t]{1,8})?)?"  # on the next line or the one after, in a list
    r"(?P<rest>\$\$[ \t]{0,8}\n[^$]{1,1000}\$\$|\\\[[ \t]{0,8}\n(?:[^\\]|\\(?!\])){1,1000}\\\]|[^\n]{0,1001})"
)
_WORD = re.compile(
    r"(?<!\bthis )(?<!\bthat )\banswer\b[ \t*_]{0,8}"
    r"(?:(?P<label>:|=|is\b[ \t*_]{0,8}:)|is\b(?![ \t]{1,8}not\b))" + _REST,
    re.IGNORECASE,
)
_HASHES = re.compile(r"[ \t]{0,8}(?P<label>#{4,6})" + _REST)

_VALUE = re.compile(r"[-+−$€£\\({\[\d.]|[A-Z]\b")
"""How a value begins. "The answer is" before anything else may only speak about an answer that stands elsewhere."""

_END = re.compile(
    r"\.[*$]{0,4}\s{1,4}I hope\b"
    r"|(?P<stop>\.[*_\"'”$)\]]{0,4})\s{1,4}(?=[A-Z(])"
    r"|[,;:]?\s{1,4}\(?(?:since|because|rather than)\b|[,;]\s{1,4}(?:as|not|so|which)\b"
)
"""Where an answer ends on its line. That of Minerva's prompt (Lewkowycz et al. 2022), "I hope it is correct", follows
even N. and B., whose stop could otherwise be that of an initial."""

_ABBREVIATED = re.compile(r"(?:\b[A-Z]|\be\.g|\bi\.e|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Ft|Jr|Sr|Prof|Gen|Gov|Sen|Lt|Col|No|vs))$")
"""What a full stop may follow without ending a sentence: J. K. Rowling, St. Louis."""


class Place(NamedTuple):
    """Where an answer's text begins, and the text. A mention may only speak about the answer."""

    start: int
    text: str
    mention: bool = False


def cues(text: str) -> list[Place]:
    """What follows each of the last cues, the last first."""
    matches = (pattern.match(text, start) for pattern, start in _marks(text))
    found = islice((match for match in matches if match is not None), CUES)
    return [
        Place(match.start("rest"), _stated(match["rest"]), match["label"] is None and not _VALUE.match(match["rest"]))
        for match in found
    ]


def _stated(rest: str) -> str:
    """The answer that begins a text, without the sentences and the reasons after it."""
    for end in _END.finditer(rest, 1):
        before = rest[: end.start()]
        if before.count("{") != before.count("}"):
            continue
        if end["stop"] is None:
            return before
        if not _ABBREVIATED.search(before):
            return rest[: end.end("stop")]
    return rest


def _marks(text: str) -> Iterator[tuple[re.Pattern[str], int]]:
    """Where a cue can be, the last first. Trying the patterns everywhere is most of what reading an answer costs."""
    folded = text.casefold()
    if len(folded) != len(text):
        # Places in the one text would not be places in the other.
        folded = "".join(character.lower() if character.isascii() else character for character in text)
    word, hashes = folded.rfind("answer"), folded.rfind("####")
    while word >= 0 or hashes >= 0:
        if word > hashes:
            yield _WORD, word
            word = folded.rfind("answer", 0, word)
        else:
            line = folded.rfind("\n", 0, hashes) + 1
            yield _HASHES, line
            hashes = folded.rfind("####", 0, line)
