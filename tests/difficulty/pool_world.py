"""Pools in memory, made from a truth that a test knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from apportion.difficulty.pools import Deck, Pool

Row = tuple[str | None, bool] | tuple[str | None, bool, float]
"""A candidate: its answer, whether it is right, and its score where it has one."""


def make_pool(
    decks: Mapping[str, Mapping[str, Sequence[Row]]], texts: Mapping[str, str] | None = None, name: str = "made"
) -> Pool:
    """A pool of `{arm: {prompt: rows}}`."""
    ids = list(dict.fromkeys(prompt for deck in decks.values() for prompt in deck))
    answers: list[dict[str, int]] = [{} for _ in ids]
    made = {}
    for arm, by_prompt in decks.items():
        rows = [(at, row) for at, prompt in enumerate(ids) for row in by_prompt.get(prompt, ())]
        numbers = [-1 if row[0] is None else answers[at].setdefault(row[0], len(answers[at])) for at, row in rows]
        owner = np.array([at for at, _ in rows], dtype=np.int64)
        unknown = np.full(len(rows), np.nan)
        made[arm] = Deck(
            arm,
            np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(ids)))]).astype(np.int64),
            np.array(numbers, dtype=np.int64),
            np.array([row[1] for _, row in rows], dtype=bool),
            np.full(len(rows), 20.0),
            np.array([row[2] if len(row) == 3 else np.nan for _, row in rows]),
            unknown,
        )
    return Pool(name, ids, [(texts or {}).get(prompt, "") for prompt in ids], [list(one) for one in answers], made)


def draw(
    rng: np.random.Generator, logits: np.ndarray, count: int, concentration: float, gap: float | None = None
) -> dict[str, list[Row]]:
    """Candidates of one arm: right with sigmoid(logit), wrong answers collide, scores lie gap apart."""
    found: dict[str, list[Row]] = {}
    for at, logit in enumerate(logits):
        rows: list[Row] = []
        wrong: list[str] = []
        for _ in range(count):
            right = bool(rng.random() < 1.0 / (1.0 + np.exp(-logit)))
            answer = "right"
            if not right:
                fresh = rng.random() < concentration / (concentration + len(wrong))
                answer = f"wrong {len(set(wrong))}" if fresh or not wrong else str(rng.choice(wrong))
                wrong.append(answer)
            if gap is None:
                rows.append((answer, right))
            else:
                noisy = rng.normal(0.5 * gap if right else -0.5 * gap, 1.0)
                rows.append((answer, right, float(1.0 / (1.0 + np.exp(-noisy)))))
        found[f"p{at}"] = rows
    return found
