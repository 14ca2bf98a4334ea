"""Dealing recorded candidates: the strategy, the answers, the models and the engine of a job that is replayed.

Each repeat shuffles every prompt's candidates of every arm; a purchase of n takes the next n of the arm's deck. The
seeds of a request are positions in the deck, so no candidate is dealt twice. Requests carry the length of the prompt's
longest candidate as their max_tokens, so that the ledger's worst case is no looser than it must be.

Where a pool tells what is paid once (`Reuse`) it is: the prompt with the first purchase of an arm, as engines keep what
they have read, and the verification of equal responses with the first of them that is dealt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from apportion.costs import ModelProfile, Unit
from apportion.difficulty.fitted import is_search, search_size
from apportion.difficulty.pools import Deck, Pool
from apportion.errors import BudgetError, DataError
from apportion.policies.arm import Arm
from apportion.policies.strategy import Lengths, Plan, Task, Workload
from apportion.types import (
    Draft,
    Finish,
    Generate,
    Generated,
    LogprobStats,
    Message,
    Messages,
    Prompt,
    Request,
    Sampling,
    Usage,
)

Ints = NDArray[np.int64]

GRAINS = {Unit.TOKENS: 1.0, Unit.SAMPLES: 1.0, Unit.FLOPS: 1e5, Unit.DOLLARS: 1e-9}
"""What a recorded candidate can cost, and what a unit of its length stands for then: lengths are whole numbers, the
cheapest answers of the cheapest models cost some 1e-5 dollars, and those of a tiny model 1e8 FLOPs."""
AMOUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Purchases a recorded arm offers, as far as its largest deck goes: each at most half as large again as the last."""


@dataclass(frozen=True, slots=True)
class RecordedDraft(Draft):
    """A recorded response, whose `tokens` are what it takes of the budget."""

    written: int = 0

    @property
    def length(self) -> int:
        return self.written


@dataclass(frozen=True, slots=True)
class Dealt(Generated):
    """Recorded candidates, already whole: there are no completions to put together."""

    drafts: tuple[Draft, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """The strategy of a recorded arm: n independent samples, or a search that was bought `size` at a time.

    `samplings` are by the prompt's text (its id).
    """

    samplings: Mapping[str, Sampling]
    size: int = 1
    name: ClassVar[str] = "best_of_n"
    needs_verifier: ClassVar[bool] = False
    independent: ClassVar[bool] = True

    def plan(self, task: Task) -> Plan:
        seeds = tuple(range(task.drawn, task.drawn + task.n))
        replies = yield (Generate(task.policy, task.messages, seeds, self.samplings[task.messages[0].content]),)
        return tuple(draft for reply in replies if isinstance(reply, Dealt) for draft in reply.drafts)

    def check(self, n: int) -> str | None:
        if n >= 1 and n % self.size == 0:
            return None
        return f"n is {n}; deal at least 1" if self.size == 1 else f"n is {n}; a search of {self.size} is dealt whole"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        return Workload(
            prompt_tokens=lengths.prompt_tokens,
            completion_tokens=n * lengths.completion_tokens,
            samples=n + 0.0 * lengths.completion_tokens,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSearch(Recorded):
    """A recorded search: its candidates share their beginnings, and are no independent samples."""

    name: ClassVar[str] = "search"
    independent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """The text of a dealt draft is the number of its row; the answers were canonical when they were recorded."""

    answers: Sequence[str | None]

    def extract(self, text: str) -> str | None:
        return self.answers[int(text)]

    def same(self, left: str, right: str) -> bool:
        return left == right


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """What the job knows of the model behind a deck: that a unit of length costs a grain of the budget's unit.

    `prompts` are the lengths of prompts, by their text (its id).
    """

    name: str
    prompts: Mapping[str, int] = field(default_factory=dict)

    def profile(self) -> ModelProfile:
        return ModelProfile(
            self.name,
            active_parameters=0.5 * GRAINS[Unit.FLOPS],
            layers=0,
            attention_width=0,
            context=1 << 40,
            dollars_per_million_output=GRAINS[Unit.DOLLARS] * 1e6,
            seconds_per_token=0.0,
        )

    def count_prompt(self, messages: Messages) -> int:
        return self.prompts.get(messages[0].content, 0)

    def count_text(self, text: str) -> int:
        return 0


class Table:
    """The decks of a pool as drafts, and as the prompts and arms of a job. Made once, and played on many times.

    `select` names each arm's selector. With `revealed` the score of a candidate is 1 where it is correct and else 0, as
    a checkable reward would say.
    """

    def __init__(self, pool: Pool, unit: Unit, select: Mapping[str, str], revealed: bool) -> None:
        self.pool = pool
        self.unit = unit
        self.select = select
        self.revealed = revealed
        self.names = list(pool.decks)
        self.prompts = [Prompt(name, (Message("user", name),)) for name in pool.ids]
        self.limits = np.stack([deck.sizes for deck in pool.decks.values()], axis=1)
        self.drafts: list[Draft] = []
        self.answers: list[str | None] = []
        self.offset: dict[str, int] = {}
        self.lengths: dict[str, Ints] = {}
        self.reading = {name: _reading(deck, unit) for name, deck in pool.decks.items()}
        arms, correct = [], []
        for name, deck in pool.decks.items():
            lengths = lengths_of(pool.name, deck, unit)
            self.offset[name], self.lengths[name] = len(self.drafts), lengths
            correct.append(deck.correct)
            self._add(deck, lengths, deck.correct.astype(np.float64) if revealed else deck.score)
            arms.append(self._arm(name, deck, lengths))
        self.arms = tuple(arms)
        self.correct = np.concatenate(correct).tolist()

    def _add(self, deck: Deck, lengths: Ints, scores: NDArray[np.float64]) -> None:
        sure = np.full(len(scores), np.nan) if deck.certainty is None else deck.certainty
        written = lengths_of(self.pool.name, deck, Unit.SAMPLES)
        columns = (deck.owner, deck.answer, lengths, scores, sure, written)
        for prompt, answer, length, score, certainty, tokens in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            text = str(len(self.drafts))
            known = (score,) if score == score else None
            # Of the statistics a pool keeps what a selector may ask for.
            stats = LogprobStats(math.nan, math.nan, certainty) if certainty == certainty else None
            self.drafts.append(RecordedDraft(text, (text,), length, Finish.END, stats, known, written=tokens))
            self.answers.append(self.pool.answers[prompt][answer] if answer >= 0 else None)

    def _arm(self, name: str, deck: Deck, lengths: Ints) -> Arm:
        longest = np.zeros(len(self.prompts), dtype=np.int64)
        np.maximum.at(longest, deck.owner, lengths)
        samplings = {
            prompt.id: Sampling(max_tokens=most) for prompt, most in zip(self.prompts, longest.tolist(), strict=True)
        }
        most, size = int(deck.sizes.max(initial=1)), search_size(name)
        amounts = tuple(n * size for n in AMOUNTS if n * size <= max(most, size))
        sampling = Sampling(max_tokens=int(longest.max(initial=1)))
        strategy = RecordedSearch(samplings, size) if is_search(name) else Recorded(samplings)
        return Arm(name, strategy, name, None, self.select[name], "last", amounts, sampling, "\n")


def check_whole(pool: Pool) -> None:
    """Raise DataError for a search of which no prompt has a whole one: nothing of it could be dealt."""
    for name, deck in pool.decks.items():
        most = int(deck.sizes.max(initial=0))
        if most < search_size(name):
            raise DataError(
                f"arm {name!r} of pool {pool.name} is by its name a search of {search_size(name)} candidates, dealt "
                f"together, and no prompt has more than {most} of them: record it whole, give it a name without @ and "
                "a number if it is none, or leave it out with --arms"
            )


def _reading(deck: Deck, unit: Unit) -> Ints:
    """What reading each prompt takes of a budget in `unit`, beside the candidates, [prompts]."""
    if deck.reuse is None:
        return np.zeros(len(deck.sizes), dtype=np.int64)
    return np.rint(deck.reuse.reading(unit) / GRAINS[unit]).astype(np.int64)


def lengths_of(pool: str, deck: Deck, unit: Unit) -> Ints:
    """What each candidate takes of a budget in `unit`, as a whole number. Raises DataError where that is unknown.

    In a budget of samples, the tokens, which policies may look at, where they are known.
    """
    if unit is Unit.SAMPLES:
        return np.where(np.isfinite(deck.tokens), np.nan_to_num(deck.tokens), 1.0).astype(np.int64)
    known = deck.cost(unit) / GRAINS[unit]
    unknown = int((~np.isfinite(known)).sum())
    if unknown:
        column = {Unit.DOLLARS: "cost_usd", Unit.FLOPS: "cost_flops"}.get(unit, "tokens")
        raise DataError(
            f"arm {deck.arm!r} of pool {pool} has {unknown} of {len(known)} candidates without {column}, so a budget "
            f"in {unit} cannot be kept; give --unit samples, or leave the arm out"
        )
    lengths: Ints = np.maximum(1, np.rint(known)).astype(np.int64)
    return lengths


class Dealer:
    """Deals one repeat of a table. The order of an arm's deck depends on the seed, the repeat and the arm alone."""

    def __init__(self, table: Table, seed: int, repeat: int) -> None:
        self._drafts = table.drafts
        self._begin: dict[str, list[int]] = {}
        self._order: dict[str, list[int]] = {}
        self._paid: dict[str, list[int]] = {}
        self._reading = {name: reading.tolist() for name, reading in table.reading.items()}
        for name, deck in table.pool.decks.items():
            rng = np.random.default_rng([seed, repeat, crc32(name.encode())])
            order = np.lexsort((rng.random(len(deck.correct)), deck.owner))
            self._order[name] = (order + table.offset[name]).tolist()
            paid = table.lengths[name][order] - _saved(deck, order, table.unit)
            self._paid[name] = [0, *np.cumsum(paid).tolist()]
            self._begin[name] = deck.begin.tolist()

    def reply(self, prompt: int, request: Request) -> Dealt:
        """The candidates a request asks for. Raises BudgetError where the deck has fewer."""
        if not isinstance(request, Generate):
            raise TypeError(f"a replay was asked for a {type(request).__name__}")
        begin, size = self._begin[request.model][prompt], len(request.seeds)
        first = begin + request.seeds[0]
        if first + size > self._begin[request.model][prompt + 1]:
            raise BudgetError(
                f"a policy bought candidate {request.seeds[-1] + 1} of arm {request.model!r} for a prompt that has "
                f"{self._begin[request.model][prompt + 1] - begin}; it must honour Problem.limits"
            )
        drafts = tuple([self._drafts[row] for row in self._order[request.model][first : first + size]])
        paid = self._paid[request.model]
        reading = 0 if request.seeds[0] else self._reading[request.model][prompt]
        return Dealt((), Usage(reading, paid[first + size] - paid[first]), drafts)


def _saved(deck: Deck, order: Ints, unit: Unit) -> Ints:
    """What is not paid again of a deck's candidates dealt in this order, [candidates]: all but the first of equals."""
    if unit is not Unit.FLOPS or deck.reuse is None:
        return np.zeros(len(order), dtype=np.int64)
    like = np.stack([deck.owner[order], deck.reuse.like[order]])
    _, first = np.unique(like, axis=1, return_index=True)
    again = np.ones(len(order), dtype=bool)
    again[first] = False
    return np.where(again, np.rint(deck.reuse.once[order] / GRAINS[unit]), 0.0).astype(np.int64)
