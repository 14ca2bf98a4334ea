"""Small recorded pools, made up and in memory or as a folder: what the tests of replay share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apportion.difficulty.pools import Deck, Pool


def make_pool(
    prompts: int = 20,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    dollars: bool = False,
    scored: bool = False,
) -> Pool:
    """Arm number a is better than the last by a logit, and its answers three times as long. Answer 0 is right."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.3, 1.5, prompts)
    stretch = rng.uniform(0.6, 1.6, prompts)
    decks = {}
    for at, (name, size) in enumerate((sizes or {"small": 12}).items()):
        owner = np.repeat(np.arange(prompts), size)
        right = rng.random(len(owner)) < 1.0 / (1.0 + np.exp(-(ease[owner] + at)))
        answer = np.where(right, 0, rng.integers(-1, 4, len(owner)))
        right = answer == 0
        lengths = np.rint(20.0 * 3.0**at * stretch[owner] * rng.uniform(0.7, 1.4, len(owner)))
        unknown = np.full(len(owner), np.nan)
        decks[name] = Deck(
            arm=name,
            begin=np.arange(prompts + 1, dtype=np.int64) * size,
            answer=answer.astype(np.int64),
            correct=right,
            tokens=unknown if dollars else lengths,
            score=np.clip(0.5 + 0.2 * right + rng.normal(0.0, 0.15, len(owner)), 0.01, 0.99) if scored else unknown,
            dollars=lengths * 1e-6 if dollars else unknown,
        )
    ids = [f"q{at}" for at in range(prompts)]
    return Pool("made-up", ids, [f"question {at}" for at in ids], [["right", "a", "b", "c"]] * prompts, decks)


def write_pool(pool: Pool, folder: Path) -> Path:
    """The pool as a folder."""
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table({"prompt_id": pool.ids, "text": pool.texts, "reference": ["right"] * len(pool.ids)}),
        folder / "prompts.parquet",
    )
    rows = []
    for name, deck in pool.decks.items():
        for at, prompt in enumerate(deck.owner.tolist()):
            number = int(deck.answer[at])
            rows.append(
                {
                    "prompt_id": pool.ids[prompt],
                    "arm": name,
                    "index": at - int(deck.begin[prompt]),
                    "answer": pool.answers[prompt][number] if number >= 0 else None,
                    "correct": bool(deck.correct[at]),
                    **{
                        column: None if np.isnan(values[at]) else float(values[at])
                        for column, values in (
                            ("tokens", deck.tokens),
                            ("score", deck.score),
                            ("cost_usd", deck.dollars),
                            (
                                "self_certainty",
                                np.full(len(deck.answer), np.nan) if deck.certainty is None else deck.certainty,
                            ),
                        )
                    },
                }
            )
    schema = pa.schema(
        [
            ("prompt_id", pa.string()),
            ("arm", pa.string()),
            ("index", pa.int64()),
            ("answer", pa.string()),
            ("correct", pa.bool_()),
            ("tokens", pa.float64()),
            ("score", pa.float64()),
            ("cost_usd", pa.float64()),
            ("self_certainty", pa.float64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "candidates.parquet")
    return folder
