"""A playbook: one sequence of purchases for every prompt, and where to stop on it.

The sequence says which arm comes next (a cheap model first, an expensive one where the vote stays open); the tables of
`apportion.difficulty.stopping` say at which price a prompt goes on. A playbook fitted on labels averages over the
pool's own prompts; without labels, a vote of one arm averages over imagined prompts. Then the reward is that the
answer which would lead in the end leads now: whether that answer is right, agreement alone cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from apportion.difficulty.belief import base_prior
from apportion.difficulty.learn import DEFAULT_WEIGHTS
from apportion.difficulty.pools import Pool
from apportion.difficulty.stopping import Grid, Tables, solve_stopping
from apportion.difficulty.vote_length import LengthSpread, log_lengths
from apportion.difficulty.votes import LEAST, Votes
from apportion.difficulty.walks import Walks, checkpoints, imagine, walk_votes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IMAGINED = 40_000
"""Imagined prompts: with fewer, rare near ties are so noisy that the last percent of a vote's gain comes dear."""
IMAGINED_UNPARSED = 0.03
DOUBT = 5e-3
"""Share of what a candidate could gain at most (the chance that the next answer overtakes the leader, over the
candidates that would take) at which a vote is bought whatever the tables see in it: money left over goes to the least
settled."""
SETTLED = 5e-6
"""Below this price, per unit of the cheapest step, a prompt is settled: two hundred thousand samples would change one
answer. It is where about a dozen votes agree."""
VOTE_UNIT, LENGTH_UNIT, SCORE_UNIT = 1.0, 0.5, 0.25
"""Cells of the grid, in votes: of plain ones, of those that length tilts, and of those that scores weigh."""


@dataclass(frozen=True, slots=True)
class Playbook:
    """`steps` are (arm, n); `unit` the grid's, in votes; `plurality` the weight of agreement in the reward."""

    steps: tuple[tuple[str, int], ...]
    votes: Votes
    unit: float = VOTE_UNIT
    plurality: float = 1.0
    labelled: bool = False

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms it buys from, in order of first use."""
        return tuple(dict.fromkeys(arm for arm, _ in self.steps))

    def costs(self, each: Mapping[str, float], once: Mapping[str, float]) -> list[float]:
        """What each step costs: a candidate `each`, and an arm's first one `once` more, as the prompt is read."""
        seen: set[str] = set()
        found = []
        for arm, n in self.steps:
            found.append(each[arm] * n + (0.0 if arm in seen else once.get(arm, 0.0)))
            seen.add(arm)
        return found

    @property
    def stops(self) -> tuple[int, ...]:
        """Candidates drawn after each step."""
        return tuple(np.cumsum([n for _, n in self.steps]).tolist())


@dataclass(frozen=True, slots=True)
class _Dealt:
    """The candidates of one arm in the order of each walk, [walks, draws]."""

    answer: Ints
    score: Floats
    row: Ints
    """where each is in its deck"""


class Orders:
    """A pool's candidates in `orders` random orders a prompt, dealt arm by arm: orders x prompts walks.

    The same seed deals the same orders to every sequence, so that sequences are compared on equal luck.
    """

    def __init__(self, pool: Pool, orders: int, seed: int) -> None:
        self.pool = pool
        self.prompts = np.tile(np.arange(len(pool.ids)), orders)
        self.weight = np.full(len(self.prompts), 1.0 / orders)
        self._dealt: dict[str, _Dealt] = {}
        width = max(map(len, pool.answers), default=0) + 1
        right = np.zeros((len(pool.ids), width), dtype=bool)
        for at, (arm, deck) in enumerate(sorted(pool.decks.items())):
            rng = np.random.default_rng([seed, at])
            most = int(deck.sizes.min()) if len(deck.sizes) else 0
            order = np.lexsort(
                (rng.random((orders, len(deck.answer))), np.broadcast_to(deck.owner, (orders, len(deck.answer))))
            )
            rows = (order[:, deck.begin[:-1, None] + np.arange(most)]).reshape(len(self.prompts), most)
            self._dealt[arm] = _Dealt(deck.answer[rows], deck.score[rows], rows)
            good = deck.correct & (deck.answer >= 0)
            right[deck.owner[good], deck.answer[good]] = True
        self.right = right[self.prompts]

    def most(self, arm: str) -> int:
        """Candidates of the arm that every prompt has."""
        return int(self._dealt[arm].answer.shape[1])

    def walks(self, book: Playbook) -> Walks:
        """The walks of a playbook's sequence."""
        used: dict[str, int] = dict.fromkeys(book.arms, 0)
        none = (len(self.prompts), 0)
        answers, votes = [np.zeros(none, dtype=np.int64)], [np.zeros(none)]
        for arm, n in book.steps:
            begin, used[arm] = used[arm], used[arm] + n
            dealt = self._dealt[arm]
            answers.append(dealt.answer[:, begin : begin + n])
            votes.append(book.votes.many(arm, dealt.score[:, begin : begin + n]))
        drawn, weighed = np.concatenate(answers, axis=1), np.concatenate(votes, axis=1)
        tilts = None
        if book.votes.slope:
            (arm,) = book.arms
            tokens = self.pool.deck(arm).tokens[self._dealt[arm].row[:, : drawn.shape[1]]]
            tilts = book.votes.slope * log_lengths(tokens)
        return walk_votes(drawn, weighed, self.right, book.stops, self.weight, tilts)


def vote_steps(arm: str, most: int) -> tuple[tuple[str, int], ...]:
    """Up to `most` candidates of an arm that draws independently, looked at ever more rarely."""
    return tuple((arm, b - a) for a, b in pairwise((0, *checkpoints(most))))


def plain_book(arm: str, most: int, by_score: bool, slope: float = 0.0) -> Playbook:
    """A vote of one arm by prompts imagined: weighted by scores or not, or tilted by length."""
    return Playbook(vote_steps(arm, most), Votes(by_score=by_score, slope=slope), _unit(by_score, bool(slope)))


def _unit(by_score: bool, by_length: bool) -> float:
    return SCORE_UNIT if by_score else LENGTH_UNIT if by_length else VOTE_UNIT


def plain_tables(most: int, by_score: bool, prior: Floats | None = None, lengths: LengthSpread | None = None) -> Tables:
    """The tables of `plain_book` over imagined prompts, for steps that cost one unit a candidate.

    `prior` is over pass rate and concentration, [POINTS, concentrations]; None is the one before any evidence.
    `lengths` are the arm's, where they tilt its votes.
    """
    return _plain_tables(most, by_score, (base_prior() if prior is None else prior).tobytes(), lengths)


@lru_cache(maxsize=8)
def _plain_tables(most: int, by_score: bool, prior: bytes, lengths: LengthSpread | None) -> Tables:
    stops = checkpoints(most)
    known = np.frombuffer(prior).reshape(base_prior().shape)
    answers, right, _ = imagine(known, IMAGINED_UNPARSED, IMAGINED, most, seed=0)
    votes = np.ones(answers.shape)
    if by_score:
        rng, weights = np.random.default_rng(1), DEFAULT_WEIGHTS
        mean = np.where(right, weights.right, weights.wrong)
        spread = np.where(right, weights.right_sd, weights.wrong_sd)
        votes = np.maximum(mean + spread * rng.standard_normal(answers.shape), LEAST)
    good = np.zeros((len(answers), int(answers.max()) + 1), dtype=bool)
    good[:, 0] = True
    tilts = None
    if lengths is not None:
        drawn = lengths.gap * right + lengths.deviation * np.random.default_rng(2).standard_normal(answers.shape)
        tilts = lengths.slope * drawn
    walks = walk_votes(answers, votes, good, stops, np.ones(len(answers)), tilts)
    grid = Grid.of(walks, _unit(by_score, lengths is not None))
    return doubting(solve_stopping(walks, np.diff((0, *stops)).astype(np.float64), grid, plurality=1.0))


def doubting(tables: Tables) -> Tables:
    """Tables in which no open vote is worth nothing; see DOUBT."""
    first, second = np.divmod(np.arange(tables.grid.sides[0] * tables.grid.sides[1]), tables.grid.sides[1])
    own, other = first * tables.grid.unit, np.minimum(second, first) * tables.grid.unit
    overtakes = betainc(own + 1.0, other + 1.0, 0.5)
    # To overtake takes as many candidates as the lead; what rare walks say beyond that is noise.
    most = overtakes / np.maximum(own - other, 1.0) / float(tables.cost.min())
    critical = np.clip(tables.critical, DOUBT * most, most).astype(np.float32)
    critical[critical < SETTLED / float(tables.cost.min())] = 0.0
    critical[-1] = 0.0
    # At lower prices nothing more is bought, and what is expected must say so.
    level = min(int(np.searchsorted(tables.prices, SETTLED / float(tables.cost.min()))), len(tables.prices) - 1)
    lowest = np.maximum(np.arange(len(tables.prices)), level)
    return replace(tables, critical=critical, reach=tables.reach[..., lowest], spend=tables.spend[..., lowest])


def book_tables(book: Playbook, orders: Orders, cost: Sequence[float]) -> Tables:
    """The tables of a fitted playbook over its pool's prompts. `cost` is of each step, in the budget's unit."""
    walks = orders.walks(book)
    return solve_stopping(walks, np.asarray(cost, dtype=np.float64), Grid.of(walks, book.unit), book.plurality)
