"""Marks of prompts: hashes by which a policy tells the very prompts it was fitted on, without keeping their texts.

What a job reaches on prompts that its policy was fitted on says nothing of others. A mark tells whether a text at hand
is the same, blanks aside; nothing can be read from it. Prompts without a text have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

DIGEST_BYTES = 6
"""A million prompts against ten thousand fitted on are mistaken for one of them once in thirty thousand jobs."""


def mark(text: str) -> str:
    """The mark of a text that is not blank; empty for one that is."""
    words = text.split()
    return (
        hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=DIGEST_BYTES).hexdigest()
        if words
        else ""
    )


def marks(texts: Iterable[str]) -> tuple[str, ...]:
    """The marks of all texts, each once, in an order that tells nothing of theirs."""
    return tuple(sorted({mark(text) for text in texts} - {""}))


def among(texts: Iterable[str], known: Collection[str]) -> int:
    """How many of the texts have a mark that is known."""
    there = set(known)
    return sum(mark(text) in there for text in texts) if there else 0
