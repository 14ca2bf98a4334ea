r"""Finding where in a response its answer stands.

The last of these comes first: `Answer: X`, `#### X`, "the answer is X", a balanced \boxed{X}; or the last match of a
configured regex (its first group, or the whole match where it has none). A phrase that may only speak about the answer
("the answer is consistent with the estimate") comes after every box. All scanning is linear in the text, of which the
last part is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from apportion.errors import ConfigError
from apportion.policies.answers.cues import ANSWER_CHARACTERS, Place, cues

READ_CHARACTERS = 50_000
"""Of a longer response only the end is read: answers stand at the end, and model text may be of any length."""

BOXES = 16
"""Only so many last boxes are looked into; each may be scanned for an answer's length."""

_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")


def places(text: str, pattern: str | None = None) -> Iterator[str]:
    """Every non-empty answer text that is no longer than an answer, the likeliest first."""
    tail = text[-READ_CHARACTERS:]
    found = _configured(tail, pattern) if pattern is not None else _ordered(tail)
    for candidate in found:
        answer = tidy(candidate)
        if answer and len(answer) <= ANSWER_CHARACTERS:
            yield answer


def locate(text: str, pattern: str | None = None) -> str | None:
    """The likeliest answer text, or None where nothing says where the answer stands."""
    return next(places(text, pattern), None)


@lru_cache(maxsize=64)
def compiled(pattern: str) -> re.Pattern[str]:
    """The regex of a config's `pattern`; ConfigError where it is none."""
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"answer.pattern {pattern!r} is not a regular expression: {error}") from error


def _configured(tail: str, pattern: str) -> list[str]:
    found = [match.group(1 if match.re.groups else 0) for match in compiled(pattern).finditer(tail)]
    return [group for group in found if group and tidy(group)][-1:]


def _ordered(tail: str) -> list[str]:
    cued = cues(tail)
    boxes = _boxed(tail) if "box" in tail else []
    if boxes:
        cued = sorted(cued + boxes, key=lambda place: (not place.mention, place.start), reverse=True)
    return [place.text for place in cued]


def _boxed(tail: str) -> list[Place]:
    """The last balanced boxes; one that nothing closes within an answer's length is left out."""
    boxes: list[Place] = []
    for match in list(_BOXED.finditer(tail))[-BOXES:]:
        depth = 1
        for at in range(match.end(), min(len(tail), match.end() + ANSWER_CHARACTERS)):
            depth += {"{": 1, "}": -1}.get(tail[at], 0)
            if depth == 0:
                boxes.append(Place(match.end(), tail[match.end() : at]))
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
