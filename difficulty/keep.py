"""A pool as a fitted policy keeps it: who answered what, and what was right; no texts.

Answers are numbers within a prompt, so that the file says nothing of the data but how candidates agreed (and by its
marks, which prompts they were, to who has them). One string a prompt and arm: the answers in order, separated by
blanks, "-" where unparsed; scores likewise, with four digits, and lengths in tokens, where all are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from apportion.difficulty.pools import Deck, Floats, Pool

BLANK = "-"
DIGITS = 4
MOST_DIGITS = 6
"""Of an answer's number: no prompt has a million answers, and damage must not take the memory of as many."""


def keep(pool: Pool) -> dict[str, Any]:
    """The pool as plain data."""
    right: list[set[int]] = [set() for _ in pool.ids]
    decks = {}
    for arm, deck in pool.decks.items():
        answers = []
        for prompt in range(len(pool.ids)):
            rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
            right[prompt].update(deck.answer[rows][deck.correct[rows] & (deck.answer[rows] >= 0)].tolist())
            answers.append(" ".join(BLANK if answer < 0 else str(answer) for answer in deck.answer[rows].tolist()))
        decks[arm] = {"answers": answers}
        if deck.scored:
            decks[arm]["scores"] = _lines(deck, deck.score, f".{DIGITS}g")
        if len(deck.tokens) and np.isfinite(deck.tokens).all():
            decks[arm]["tokens"] = _lines(deck, deck.tokens, ".0f")
    return {"right": [" ".join(map(str, sorted(one))) for one in right], "decks": decks}


def kept(raw: Mapping[str, Any]) -> Pool:
    """The pool that `keep` wrote. Raises KeyError, TypeError or ValueError for other data."""
    right = [set(map(_number, line)) for line in _words(raw["right"])]
    decks, widest = {}, [1] * len(right)
    for arm, one in _named(raw["decks"]).items():
        lines = [list(map(_number, line)) for line in _words(_named(one)["answers"])]
        if len(lines) != len(right):
            raise ValueError(f"arm {arm} has {len(lines)} prompts, and {len(right)} are labelled")
        begin = np.cumsum([0, *map(len, lines)])
        score, tokens = (_column(arm, one, name, lines) for name in ("scores", "tokens"))
        answers = np.array([answer for line in lines for answer in line], dtype=np.int64)
        correct = np.array([answer in right[at] for at, line in enumerate(lines) for answer in line], dtype=bool)
        correct &= answers >= 0
        decks[arm] = Deck(arm, begin, answers, correct, tokens, score, np.full(len(answers), np.nan))
        widest = [max([width, *(answer + 1 for answer in line)]) for width, line in zip(widest, lines, strict=True)]
    names = [str(at) for at in range(len(right))]
    return Pool("kept", names, [""] * len(right), [[str(n) for n in range(width)] for width in widest], decks)


def _lines(deck: Deck, values: Floats, form: str) -> list[str]:
    """A column of numbers, one line a prompt."""
    words = [BLANK if np.isnan(value) else format(value, form) for value in values.tolist()]
    return [" ".join(words[begin:end]) for begin, end in pairwise(deck.begin.tolist())]


def _column(arm: str, deck: Mapping[str, Any], name: str, answers: list[list[int]]) -> Floats:
    """A column beside the answers; nan where it was not kept."""
    if name not in deck:
        return np.full(sum(map(len, answers)), np.nan)
    given = _words(deck[name])
    if list(map(len, given)) != list(map(len, answers)):
        raise ValueError(f"arm {arm} has other numbers of {name} than of answers")
    return np.array([np.nan if word == BLANK else float(word) for line in given for word in line], dtype=np.float64)


def _named(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise TypeError(f"a {type(raw).__name__} stands where names and what they mean are due")
    return raw


def _words(raw: Any) -> list[list[str]]:
    if not isinstance(raw, list | tuple) or not all(isinstance(line, str) for line in raw):
        raise TypeError(f"a {type(raw).__name__} stands where lines of words are due")
    return [line.split() for line in raw]


def _number(word: str) -> int:
    """An answer's number; -1 where unparsed."""
    if word != BLANK and not (word.isdecimal() and len(word) <= MOST_DIGITS):
        raise ValueError(f"{word!r} is no number of an answer")
    return -1 if word == BLANK else int(word)
