"""A pool as a fitted policy keeps it: who answered what, and what was right; no texts.

Answers are numbers within a prompt, so that the file says nothing of the data but how candidates agreed. One string a
prompt and arm: the answers in order, separated by blanks, "-" where unparsed; scores likewise, with four digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from apportion.difficulty.pools import Deck, Pool

BLANK = "-"
DIGITS = 4


def keep(pool: Pool) -> dict[str, Any]:
    """The pool as plain data."""
    right: list[set[int]] = [set() for _ in pool.ids]
    decks = {}
    for arm, deck in pool.decks.items():
        answers, scores = [], []
        for prompt in range(len(pool.ids)):
            rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
            right[prompt].update(deck.answer[rows][deck.correct[rows] & (deck.answer[rows] >= 0)].tolist())
            answers.append(" ".join(BLANK if answer < 0 else str(answer) for answer in deck.answer[rows].tolist()))
            scores.append(" ".join(_score(score) for score in deck.score[rows].tolist()))
        decks[arm] = {"answers": answers, **({"scores": scores} if deck.scored else {})}
    return {"right": [" ".join(map(str, sorted(one))) for one in right], "decks": decks}


def kept(raw: Mapping[str, Any]) -> Pool:
    """The pool that `keep` wrote. Raises KeyError, TypeError or ValueError for other data."""
    right = [{int(answer) for answer in one.split()} for one in raw["right"]]
    decks, widest = {}, [1] * len(right)
    for arm, one in raw["decks"].items():
        lines = [line.split() for line in one["answers"]]
        if len(lines) != len(right):
            raise ValueError(f"arm {arm} has {len(lines)} prompts, and {len(right)} are labelled")
        answers = np.array([-1 if word == BLANK else int(word) for line in lines for word in line], dtype=np.int64)
        scores = [word for line in one.get("scores", ()) for word in line.split()]
        score = np.array([np.nan if word == BLANK else float(word) for word in scores], dtype=np.float64)
        if "scores" in one and len(score) != len(answers):
            raise ValueError(f"arm {arm} has {len(answers)} answers and {len(score)} scores")
        unknown = np.full(len(answers), np.nan)
        begin = np.cumsum([0, *map(len, lines)])
        correct = np.array([word != BLANK and int(word) in right[at] for at, line in enumerate(lines) for word in line])
        decks[str(arm)] = Deck(
            str(arm), begin, answers, correct.astype(bool), unknown, score if "scores" in one else unknown, unknown
        )
        for at, line in enumerate(lines):
            widest[at] = max([widest[at], *(int(word) + 1 for word in line if word != BLANK)])
    names = [str(at) for at in range(len(right))]
    return Pool("kept", names, [""] * len(right), [[str(n) for n in range(width)] for width in widest], decks)


def _score(score: float) -> str:
    return BLANK if np.isnan(score) else f"{score:.{DIGITS}g}"
