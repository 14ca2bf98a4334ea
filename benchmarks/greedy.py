"""Votes of one arm as greedy rules, over many random orders at once: what replays show, with little noise left.

    python benchmarks/greedy.py [--pools DIR] [--only-pools NAME,NAME] [--orders 24] [--all-arms]

A rule is an index of a prompt's counts, and the prompt with the highest buys next. Played on every prompt in every
order that is one sort, without a machine, purchases of several or a reserve, and so much faster. Prints the
saving of `price` (its tables, with a prompt's own cost to the powers 0, 1/2 and 1; `shorter`: to the power 1/2, ties
going to shorter responses) over the best of uniform, `asc` and `blend_asc`, all read at twelve budgets, and what both
readings of `benchmarks/voting.py` make of the same rules where they see six orders at a time: the difference is their
bias.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recorded import Stand, pools_folder, spread, uniform_curve
from rich.console import Console
from rich.table import Table
from savings import against_best, against_chosen, bounded, cost_to_reach, geometric, savings
from scipy.special import betainc, betaln
from voting import ARMS, BEYOND, SHARES, arms_of

from apportion.costs import Unit
from apportion.difficulty.playbook import plain_tables
from apportion.difficulty.pools import Pool
from apportion.difficulty.vote_length import log_lengths
from apportion.difficulty.walks import checkpoints, walk_votes
from apportion.scheduler.contest import default_unit
from apportion.scheduler.plain import dumps
from apportion.scheduler.pricing import LONGEST_VOTE, UNTAUGHT_SLOPE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Line = tuple[Floats, Floats]
"""Cost and accuracy of a frontier."""

POWERS = (0.0, 0.5, 1.0)
READ = 6
"""Orders a reading sees, as `--repeats 6` does."""
BUDGETS = 12
STAGES = 20
"""`blend_asc` ranks every prompt again so often in a job."""
SHRINKAGE = 4.0
"""As in `apportion.scheduler.lengths`: a prompt's own lengths count as much as the mean after so many candidates."""
UNSURE = 0.05
"""`asc` stops where the chance that the next answer is ahead is no more."""
FRESH = 1e9


@dataclass(frozen=True, slots=True)
class Play:
    """Every prompt in some orders: where each stands after each candidate, all [walks, candidates + 1]."""

    first: Floats
    second: Floats
    right: Floats
    paid: Floats
    """cost so far"""
    mean: float
    """cost of a candidate"""

    def some(self, rows: Ints) -> Play:
        return Play(self.first[rows], self.second[rows], self.right[rows], self.paid[rows], self.mean)

    @property
    def drawn(self) -> Floats:
        return np.arange(self.paid.shape[1], dtype=np.float64)[None]


def deal(pool: Pool, arm: str, unit: Unit, orders: int, slope: float = 0.0) -> Play:
    """A pool's arm in random orders, walks order by order, votes tilted by length where there is a slope."""
    deck, rng = pool.decks[arm], np.random.default_rng(0)
    most, size = int(deck.sizes.min()), len(deck.answer)
    order = np.lexsort((rng.random((orders, size)), np.broadcast_to(deck.owner, (orders, size))))
    rows = order[:, deck.begin[:-1, None] + np.arange(most)].reshape(-1, most)
    right = np.zeros((len(pool.ids), max(map(len, pool.answers)) + 1), dtype=bool)
    good = deck.correct & (deck.answer >= 0)
    right[deck.owner[good], deck.answer[good]] = True
    votes = np.ones(rows.shape)
    tilts = slope * log_lengths(deck.tokens[rows]) if slope else None
    stops, weight = range(1, most + 1), np.ones(len(rows))
    walks = walk_votes(deck.answer[rows], votes, np.tile(right, (orders, 1)), stops, weight, tilts)
    each = votes if unit is Unit.SAMPLES else np.asarray(deck.cost(unit), dtype=np.float64)[rows]
    paid = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(each, axis=1)], axis=1)
    first, second, reached = (one.astype(np.float64) for one in (walks.first, walks.second, walks.right))
    return Play(first, second, reached, paid, float(each.mean()))


def greedy(play: Play, index: Floats) -> Line:
    """The frontier of an index, [walks, candidates + 1]; minus infinity stops."""
    index = np.where(play.drawn == 0, FRESH, index)
    level = np.minimum.accumulate(index, axis=1)[:, :-1].ravel()
    order = np.argsort(-level, kind="stable")
    order = order[np.isfinite(level[order])]
    cost, value = np.diff(play.paid, axis=1).ravel()[order], np.diff(play.right, axis=1).ravel()[order]
    return np.cumsum(cost) / len(index), np.cumsum(value) / len(index)


def price(play: Play, power: float) -> Line:
    """The tables of a vote without labels."""
    most = min(play.paid.shape[1] - 1, LONGEST_VOTE)
    tables, stops = plain_tables(most, False), np.array((0, *checkpoints(most)))
    step = np.searchsorted(stops, play.drawn[0], side="right") - 1
    critical = tables.critical[step[None], tables.grid.cells(play.first, play.second)].astype(np.float64)
    length = (play.paid / play.mean + SHRINKAGE) / (play.drawn + SHRINKAGE)
    index = np.full(critical.shape, -np.inf)
    np.log(critical, out=index, where=critical > 0.0)
    return greedy(play, index - power * np.log(length))


def asc(play: Play) -> Line:
    """Adaptive-Consistency: prompts buy in turn until each is sure."""
    unsure = betainc(play.first + 1.0, play.second + 1.0, 0.5) > UNSURE
    return greedy(play, np.where(unsure, -play.drawn, -np.inf))


def blend(play: Play, budgets: Sequence[float]) -> Line:
    """`blend_asc`, whose index depends on the share of the budget that is spent: budget by budget."""
    first, second = play.first + 1.0, play.second + 1.0
    tail = np.log(np.maximum(betainc(first, second, 0.5), 1e-300))
    ratio = np.minimum(0.0, -(play.first + play.second) * np.log(2.0) - betaln(first, second))
    line, each = np.arange(len(first)), np.diff(play.paid, axis=1)
    found = []
    for budget in budgets:
        at = np.ones(len(first), dtype=np.int64)
        for stage in range(STAGES):
            share, spent = stage / STAGES, play.paid[line, at].sum()
            index = (1.0 - share) * tail + share * ratio - 1e-6 * play.drawn
            level = np.minimum.accumulate(np.where(play.drawn < at[:, None], np.inf, index), axis=1)[:, :-1]
            open_ = np.flatnonzero(play.drawn[:, :-1] >= at[:, None])
            order = open_[np.argsort(-level.ravel()[open_], kind="stable")]
            ends = spent + np.cumsum(each.ravel()[order])
            taken = order[: np.searchsorted(ends, budget * len(first) * (stage + 1) / STAGES)]
            at += np.bincount(taken // each.shape[1], minlength=len(first))
        found.append((play.paid[line, at].mean(), play.right[line, at].mean()))
    cost, value = np.array(found).T
    return cost, value


def read(line: Line, budgets: Floats) -> Line:
    """A frontier as a replay of these budgets shows it."""
    return np.minimum(budgets, line[0][-1]), np.interp(budgets, *line)


def case(pool: Pool, arm: str, orders: int) -> dict[str, list[float]]:
    """Savings over the best baseline at each share of uniform's gain, by what was read; see the module."""
    unit = default_unit(pool.only([arm]))
    play, uniform = deal(pool, arm, unit, orders), uniform_curve(pool, arm, unit)
    cost, value = uniform.costs.mean(axis=1), uniform.values.mean(axis=1)
    targets = [value[0] + share * (value.max() - value[0]) for share in SHARES]
    needed = np.array([cost_to_reach(cost, value, target) for target in targets])
    one = float(play.paid[:, 1].mean())
    most = float(np.clip(BEYOND * needed[-1], one, max(one, uniform.most)))
    budgets = np.array(spread(one, most, BUDGETS))

    def saved(line: Line, at_worst: bool = False) -> Floats:
        reached = np.array([cost_to_reach(*line, target) for target in targets])
        return savings(needed, bounded(reached, most) if at_worst else reached)

    baselines = [saved(read(asc(play), budgets)), saved(blend(play, budgets.tolist()))]
    found = {
        f"power {power:g}": against_best(saved(read(price(play, power), budgets), True), baselines) for power in POWERS
    }
    shorter = price(deal(pool, arm, unit, orders, UNTAUGHT_SLOPE), 0.5)
    found["shorter"] = against_best(saved(read(shorter, budgets), True), baselines)
    best, apart = [], []
    group = np.arange(len(play.paid)) // len(pool.ids)
    for begin in range(0, orders - READ + 1, READ):
        halves = [
            play.some(np.flatnonzero((group >= low) & (group < low + READ // 2))) for low in (begin, begin + READ // 2)
        ]
        whole = play.some(np.flatnonzero((group >= begin) & (group < begin + READ)))
        mine, *others = (
            [read(price(one, 0.5), budgets), read(asc(one), budgets), blend(one, budgets.tolist())]
            for one in (whole, *halves)
        )
        best.append(against_best(saved(mine[0], True), [saved(line) for line in mine[1:]]))
        chosen = [[saved(half[at]) for half in others] for at in (1, 2)]
        apart.append(against_chosen([saved(half[0], True) for half in others], chosen))
    found |= {f"best of {READ}": geometric(best), "chosen apart": geometric(apart)}
    return {name: row.tolist() for name, row in found.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=Path)
    parser.add_argument("--only-pools", metavar="NAME,NAME", help="play no others; the lab's own is called lab")
    parser.add_argument("--orders", type=int, default=4 * READ)
    parser.add_argument("--all-arms", action="store_true")
    given = parser.parse_args()
    names = None if given.only_pools is None else tuple(given.only_pools.split(","))
    stand = Stand(pools_folder(given.pools), 1, BUDGETS, None, False, names)
    pools: dict[str, list[dict[str, list[float]]]] = {}
    table = Table("pool / arm", "read as", *map(str, SHARES), title="Saving of price over the best baseline")
    for name, count in ARMS.items():
        pool = stand.pool(name)
        for arm in [] if pool is None else arms_of(pool, None if given.all_arms else count):
            assert pool is not None
            rows = case(pool, arm, given.orders)
            pools.setdefault(name, []).append(rows)
            for at, (read_as, row) in enumerate(rows.items()):
                table.add_row("" if at else f"{name} / {arm}", read_as, *(f"{one:.2f}" for one in row))
    Console(width=120).print(table)
    kinds = list(next(iter(pools.values()))[0]) if pools else []
    means = {
        kind: geometric([geometric([np.array(rows[kind]) for rows in arms]) for arms in pools.values()])
        for kind in kinds
    }
    result = {f"saving_{kind.replace(' ', '_')}": row.tolist() for kind, row in means.items()}
    print(dumps({"benchmark": "greedy", "shares": list(SHARES), **result}))


if __name__ == "__main__":
    main()
