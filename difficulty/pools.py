"""Recorded candidates of many prompts: a pool folder read into arrays, one deck an arm.

A pool is a folder with prompts.parquet (`prompt_id, text, reference`) and candidates.parquet (`prompt_id, arm, index,
answer, correct, tokens, score, self_certainty, cost_usd`; null where unknown), and where `apportion calibrate` wrote
it, what each candidate was charged (`cost_tokens, cost_flops`) and what engines did once and kept (`Reuse`). A pool may
have hidden.parquet with the prompts' hidden states (`apportion.difficulty.hidden`). An answer that is null was not
parsed and agrees with nothing. Pools are fitted on (`apportion.difficulty.fit`) and replayed
(`apportion.scheduler.frontier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.costs import Unit
from apportion.difficulty.columns import check_known, check_numbers, read_table
from apportion.difficulty.hidden import HiddenStates, read_hidden
from apportion.errors import DataError, nearest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEEDED = ("prompt_id", "arm", "answer", "correct")
COSTS = ("cost_usd", "cost_tokens", "cost_flops", "prompt_flops", "prompt_tokens", "verify_flops", "like")
NUMBERS = ("correct", "tokens", "score", "self_certainty", *COSTS)


@dataclass(frozen=True, slots=True)
class Reuse:
    """What of an arm's cost is paid once: columns `prompt_flops, prompt_tokens, verify_flops, like` of a pool.

    `prompt` is what reading the prompt costs beside the candidates, however many, in FLOPs, and `prompt_tokens` in
    tokens, None where that is not known, [prompts]. `once` is the part of a candidate's FLOPs that is not paid again
    for an equal response, verification, and `like` numbers each prompt's distinct responses, [candidates].
    """

    prompt: Floats
    once: Floats
    like: Ints
    prompt_tokens: Floats | None = None

    def reading(self, unit: Unit) -> Floats:
        """What reading each prompt costs beside the candidates, [prompts]; 0 in units in which that is not known."""
        if unit is Unit.FLOPS:
            return self.prompt
        known = self.prompt_tokens if unit is Unit.TOKENS else None
        return np.zeros(len(self.prompt)) if known is None else known

    def part(self, prompts: Ints) -> Reuse:
        """That of some prompts, whose candidates were chosen already."""
        tokens = None if self.prompt_tokens is None else self.prompt_tokens[prompts]
        return replace(self, prompt=self.prompt[prompts], prompt_tokens=tokens)


@dataclass(frozen=True, slots=True)
class Deck:
    """The candidates of one arm, prompt after prompt in the pool's order of prompts.

    Prompt i has the candidates `begin[i] : begin[i + 1]`. `answer` numbers each prompt's answers, the same in all
    decks of a pool, -1 where unparsed; `score` and `dollars` are nan where unknown; `tokens` is the length of the
    response itself, nan where unknown. `charged` (tokens) and `flops` are its share of what its purchase cost: prompt,
    branches given up and verifier included; None where nothing was recorded. Where `reuse` is known they leave out what
    it says of the prompt, and `flops` is what a response costs that no other is like.
    """

    arm: str
    begin: Ints
    answer: Ints
    correct: NDArray[np.bool_]
    tokens: Floats
    score: Floats
    dollars: Floats
    charged: Floats | None = None
    flops: Floats | None = None
    reuse: Reuse | None = None
    certainty: Floats | None = None
    """self-certainty of each candidate, nan where unknown; None where nothing was recorded"""

    def cost(self, unit: Unit) -> Floats:
        """What each candidate cost in a unit, [candidates]; nan where unknown. Its length, where no more is known."""
        known = {
            Unit.SAMPLES: np.ones(len(self.answer)),
            Unit.TOKENS: self.tokens if self.charged is None else self.charged,
            Unit.FLOPS: self.flops,
            Unit.DOLLARS: self.dollars,
        }.get(unit)
        return np.full(len(self.answer), np.nan) if known is None else known

    @property
    def sizes(self) -> Ints:
        """Candidates of each prompt, [prompts]."""
        return np.diff(self.begin)

    @property
    def owner(self) -> Ints:
        """The prompt of each candidate, [candidates]."""
        return np.repeat(np.arange(len(self.begin) - 1), self.sizes)

    @property
    def scored(self) -> bool:
        """Whether any candidate has a score."""
        return bool(np.isfinite(self.score).any())

    def part(self, prompts: Ints) -> Deck:
        """The deck of some prompts, in the order given."""
        sizes = self.sizes[prompts]
        begin = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.arange(begin[-1]) - np.repeat(begin[:-1], sizes) + np.repeat(self.begin[prompts], sizes)
        chosen = self.taken(rows, begin)
        if chosen.reuse is None:
            return chosen
        return replace(chosen, reuse=chosen.reuse.part(prompts))

    def taken(self, rows: Ints, begin: Ints) -> Deck:
        """The deck of these candidates of the same prompts, which belong to them as `begin` says."""
        reuse = self.reuse
        return Deck(
            self.arm,
            begin,
            self.answer[rows],
            self.correct[rows],
            self.tokens[rows],
            self.score[rows],
            self.dollars[rows],
            None if self.charged is None else self.charged[rows],
            None if self.flops is None else self.flops[rows],
            None if reuse is None else replace(reuse, once=reuse.once[rows], like=reuse.like[rows]),
            None if self.certainty is None else self.certainty[rows],
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """Prompts in order, a deck for each arm, and the text of every numbered answer."""

    name: str
    ids: list[str]
    texts: list[str]
    """empty where the source has none"""
    answers: list[list[str]]
    """of each prompt: the distinct answers, in the order of their numbers"""
    decks: dict[str, Deck]
    hidden: HiddenStates | None = None

    def deck(self, arm: str) -> Deck:
        """The deck of an arm. Raises DataError naming those there are."""
        if arm not in self.decks:
            raise DataError(f"pool {self.name} has no arm {arm!r}: {nearest(arm, self.decks)}")
        return self.decks[arm]

    def part(self, prompts: Ints) -> Pool:
        """The pool of some prompts."""
        chosen = prompts.tolist()
        return Pool(
            self.name,
            [self.ids[at] for at in chosen],
            [self.texts[at] for at in chosen],
            [self.answers[at] for at in chosen],
            {arm: deck.part(prompts) for arm, deck in self.decks.items()},
            None if self.hidden is None else self.hidden.part(prompts),
        )

    def only(self, arms: Sequence[str]) -> Pool:
        """The pool with these arms, in this order. Raises DataError for one that is not there."""
        return replace(self, decks={arm: self.deck(arm) for arm in arms})


def read_pool(folder: str | Path) -> Pool:
    """Read a labelled pool. Raises DataError for a folder that is none or damaged, or candidates without labels."""
    path = Path(folder)
    file = path / "candidates.parquet"
    if not file.is_file():
        raise DataError(f"{path} is no pool: it has no candidates.parquet; give a folder that holds one")
    table = read_table(file)
    lacking = [name for name in NEEDED if name not in table.column_names]
    if lacking:
        raise DataError(f"{file} lacks the columns {', '.join(lacking)}; a pool needs {', '.join(NEEDED)}")
    check_known(file, table, ("prompt_id", "arm"))
    check_numbers(file, table, NUMBERS)
    columns: dict[str, list[Any]] = table.to_pydict()
    unlabelled = sum(label is None for label in columns["correct"])
    if unlabelled:
        raise DataError(
            f"{file}: {unlabelled} of {table.num_rows} candidates have no `correct`; fitting and replay need labels: "
            "record the pool on prompts with references"
        )
    if not set(columns["correct"]) <= {0, 1}:
        raise DataError(f"{file}: the column correct must hold true or false, or 1 or 0, and nothing between")
    ids = list(dict.fromkeys(map(str, columns["prompt_id"])))
    place = {prompt: at for at, prompt in enumerate(ids)}
    where = np.array([place[str(prompt)] for prompt in columns["prompt_id"]], dtype=np.int64)
    answers: list[dict[str, int]] = [{} for _ in ids]
    numbers = np.full(len(where), -1, dtype=np.int64)
    for row, (prompt, answer) in enumerate(zip(where.tolist(), columns["answer"], strict=True)):
        if answer is not None:
            numbers[row] = answers[prompt].setdefault(str(answer), len(answers[prompt]))
    by_arm: dict[str, list[int]] = {}
    for row, arm in enumerate(columns["arm"]):
        by_arm.setdefault(str(arm), []).append(row)
    decks = {arm: _deck(arm, columns, numbers, np.array(by_arm[arm]), where, len(ids)) for arm in sorted(by_arm)}
    hidden = read_hidden(path, ids)
    return Pool(path.name, ids, _texts(path, ids), [list(one) for one in answers], decks, hidden)


def _deck(arm: str, columns: dict[str, list[Any]], numbers: Ints, rows: Ints, where: Ints, prompts: int) -> Deck:
    rows = rows[np.argsort(where[rows], kind="stable")]
    begin = np.concatenate([[0], np.cumsum(np.bincount(where[rows], minlength=prompts))])

    def known(name: str) -> Floats:
        values = columns.get(name)
        if values is None:
            return np.full(len(rows), np.nan)
        return np.array([np.nan if values[at] is None else float(values[at]) for at in rows.tolist()])

    return Deck(
        arm=arm,
        begin=begin.astype(np.int64),
        answer=numbers[rows],
        correct=np.array([bool(columns["correct"][at]) for at in rows.tolist()], dtype=bool),
        tokens=known("tokens"),
        score=known("score"),
        dollars=known("cost_usd"),
        charged=_whole(known("cost_tokens")),
        flops=_whole(known("cost_flops")),
        reuse=_reuse(begin, *map(known, ("prompt_flops", "prompt_tokens", "verify_flops", "like"))),
        certainty=_some(known("self_certainty")),
    )


def _reuse(begin: Ints, prompt: Floats, tokens: Floats, once: Floats, like: Floats) -> Reuse | None:
    """None where prompts are not told of; a prompt without candidates costs nothing to read.

    Where nothing is told of equal responses, none are equal.
    """
    if not len(prompt) or not np.isfinite(prompt).all():
        return None
    first, some = np.minimum(begin[:-1], len(prompt) - 1), np.diff(begin) > 0
    if not (np.isfinite(once).all() and np.isfinite(like).all()):
        once, like = np.zeros(len(prompt)), np.arange(float(len(prompt)))
    reading = np.where(some, tokens[first], 0.0) if np.isfinite(tokens).all() else None
    return Reuse(np.where(some, prompt[first], 0.0), once, like.astype(np.int64), reading)


def _whole(cost: Floats) -> Floats | None:
    """A column of costs that is there for every candidate; None otherwise."""
    return cost if len(cost) and np.isfinite(cost).all() else None


def _some(values: Floats) -> Floats | None:
    """A column that says something; None otherwise."""
    return values if np.isfinite(values).any() else None


def _texts(path: Path, ids: Sequence[str]) -> list[str]:
    file = path / "prompts.parquet"
    if not file.is_file():
        return [""] * len(ids)
    table = read_table(file)
    if not {"prompt_id", "text"} <= set(table.column_names):
        return [""] * len(ids)
    rows = table.select(["prompt_id", "text"]).to_pydict()
    texts = ("" if text is None else str(text) for text in rows["text"])
    known = dict(zip(map(str, rows["prompt_id"]), texts, strict=True))
    return [known.get(prompt, "") for prompt in ids]
