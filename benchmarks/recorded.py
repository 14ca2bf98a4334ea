"""Recorded pools for the benchmarks, and replays of them that are not played twice.

Pools with more candidates of an arm than `MOST_RECORDED` are cut: to `MOST_SAMPLES` candidates a prompt, then to fewer
prompts. Uniform is every prompt given the same number of samples, the strongest form of it: a mixture of two numbers
lies on the line between them. It decides nothing, so its curve is a mean over hundreds of random orders.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from savings import Curve

from apportion import lab
from apportion.costs import Unit
from apportion.difficulty.curves import curves_of
from apportion.difficulty.pools import Deck, Pool, read_pool
from apportion.errors import DataError
from apportion.scheduler.contest import Entry, Terms, default_select, goal_of
from apportion.scheduler.curves import mean_cost
from apportion.scheduler.frontier import Frontier, replay_all

VARIABLE = "APPORTION_POOLS"
MOST_SAMPLES = 100
MOST_RECORDED = 50_000
"""Candidates of an arm: more tell little and take long."""
QUICK_PROMPTS = 240
WORK_OF_REPEATS = 160_000
FEWEST_REPEATS, MOST_REPEATS = 4, 16
"""Small pools are played more often: it costs little, and their curves are the noisiest."""
BEND = 1.5
"""How much denser the low budgets stand: thrifty policies reach most of their gain within a few samples."""
UNIFORM_AMOUNTS = 32

error_console = Console(stderr=True)


@dataclass(slots=True)
class Stand:
    """Where replays are played and kept. `quick` cuts pools, repeats and budgets."""

    folder: Path | None
    workers: int
    budgets: int
    repeats: int | None
    quick: bool
    names: tuple[str, ...] | None = None
    """the only pools that are played, where given"""
    labels: bool = True
    """whether votes are also played by who knows the labels of other prompts"""
    pools: dict[str, Pool | None] = field(default_factory=dict)
    played: dict[tuple[object, ...], Frontier] = field(default_factory=dict)

    def pool(self, name: str) -> Pool | None:
        """A pool by name, cut; `lab` is the lab's own. None, with the reason shown, where it is not there."""
        if name not in self.pools:
            self.pools[name] = self._read(name)
        return self.pools[name]

    def _read(self, name: str) -> Pool | None:
        if self.names is not None and name not in self.names:
            return None
        if name == "lab":
            whole = replace(read_pool(Path(lab.__file__).parent / "pools" / "test"), name="lab")
        elif self.folder is None:
            error_console.print(f"{name} skipped: name the folder of recorded pools with --pools or {VARIABLE}")
            return None
        elif not (self.folder / name / "candidates.parquet").is_file():
            error_console.print(f"{name} skipped: {self.folder} has no pool of that name")
            return None
        else:
            whole = read_pool(self.folder / name)
        return cut(whole, QUICK_PROMPTS if self.quick else None)

    def repeats_of(self, pool: Pool) -> int:
        """Repeats of a pool: as many as given, else more for small ones."""
        if self.repeats is not None:
            return self.repeats
        if self.quick:
            return 2
        work = max(len(deck.correct) for deck in pool.decks.values())
        return int(np.clip(WORK_OF_REPEATS // work, FEWEST_REPEATS, MOST_REPEATS))

    def play(
        self,
        pool: Pool,
        entries: Sequence[Entry],
        fit: str,
        goal: str = "accuracy",
        repeats: int | None = None,
        seed: int = 0,
    ) -> list[Frontier]:
        """Frontiers of entries, those known already not played again. Raises ApportionError."""
        terms = Terms(repeats or self.repeats_of(pool), seed, cross=fit == "cross", goal=goal_of(goal))
        keys = [_key(pool, entry, terms) for entry in entries]
        new = [(key, entry) for key, entry in zip(keys, entries, strict=True) if key not in self.played]
        if new:
            workers = self.workers if terms.repeats * len(new) > 1 else 1
            frontiers = replay_all([pool], [(0, entry) for _, entry in new], terms, workers)
            self.played.update(zip([key for key, _ in new], frontiers, strict=True))
        return [self.played[key] for key in keys]


def over_splits(stand: Stand, pool: Pool, entries: Sequence[Entry]) -> list[Curve]:
    """The curves of entries over repeats of which each splits the prompts into other halves, to fit on and to score.

    With few prompts how they fall apart decides more than the order of what was recorded.
    """
    seeds = range(stand.repeats_of(pool))
    played = [[curve_of(one) for one in stand.play(pool, entries, "cross", repeats=1, seed=seed)] for seed in seeds]
    return [Curve.mean(one) for one in zip(*played, strict=True)]


def _key(pool: Pool, entry: Entry, terms: Terms) -> tuple[object, ...]:
    settings = tuple(sorted(entry.settings.items()))
    played = (terms.cross, terms.goal.name, terms.goal.enough, terms.repeats, terms.seed)
    return (pool.name, entry.arms, entry.policy, entry.unit, entry.budgets, settings, *played)


def uniform_curve(pool: Pool, arm: str, unit: Unit, goal: str = "accuracy") -> Curve:
    """Uniform at its amounts, one sample first: the mean over many random orders, which needs no replay.

    Beyond what a prompt has recorded it stays with all it has.
    """
    deck = pool.decks[arm]
    amounts = uniform_amounts(int(deck.sizes.max()))
    values = curves_of(deck, amounts, goal, default_select(deck)).T
    each = mean_cost(deck, unit)
    if each is None:
        raise DataError(f"arm {arm!r} of pool {pool.name} has candidates of unknown cost in {unit}; use --unit samples")
    bought = np.minimum(np.array(amounts)[:, None], deck.sizes)
    for at in range(1, len(amounts)):
        values[at] = np.where(np.isnan(values[at]), values[at - 1], values[at])
    costs = bought * each
    return Curve(values, costs, float(costs[-1].mean()))


def curve_of(frontier: Frontier) -> Curve:
    return Curve(frontier.values, frontier.costs, float(frontier.budgets[-1]))


def by_pass_rate(pool: Pool) -> list[str]:
    """The arms, the weakest first."""
    return sorted(pool.decks, key=lambda name: float(pool.decks[name].correct.mean()))


def cut(pool: Pool, prompts: int | None) -> Pool:
    """A pool of a size that can be played: fewer candidates a prompt, then fewer prompts, drawn at random."""
    most = max(int(deck.sizes.max(initial=0)) for deck in pool.decks.values())
    if most > MOST_SAMPLES:
        pool = replace(pool, decks={name: thinned(deck, MOST_SAMPLES) for name, deck in pool.decks.items()})
    keep = max(1, MOST_RECORDED // min(most, MOST_SAMPLES))
    keep = min(keep, len(pool.ids) if prompts is None else prompts)
    if keep >= len(pool.ids):
        return pool
    return pool.part(np.sort(np.random.default_rng(0).permutation(len(pool.ids))[:keep]))


def thinned(deck: Deck, most: int) -> Deck:
    """The first candidates of each prompt, at most so many."""
    rows = np.flatnonzero(np.arange(len(deck.correct)) - deck.begin[deck.owner] < most)
    begin = np.concatenate([[0], np.cumsum(np.minimum(deck.sizes, most))]).astype(np.int64)
    return deck.taken(rows, begin)


def spread(least: float, most: float, count: int) -> tuple[float, ...]:
    """`count` budgets from the least to the most, the denser the lower."""
    if most <= least or count < 2:
        return (max(least, most),)
    steps = np.linspace(0.0, 1.0, count) ** BEND
    return tuple((least * (most / least) ** steps).tolist())


def uniform_amounts(most: int) -> tuple[int, ...]:
    """Numbers of samples from 1 to all, odd ones between: an even vote only adds ties."""
    between = {int(n) // 2 * 2 + 1 for n in np.geomspace(1, most, UNIFORM_AMOUNTS)}
    return tuple(sorted({1, most} | {n for n in between if n <= most}))


class Clock:
    """Seconds of each part, told as they pass."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()

    def tell(self, what: str) -> None:
        now = time.perf_counter()
        error_console.print(f"{now - self._begin:6.0f} s  {what} ({now - self._last:.0f} s)", highlight=False)
        self._last = now


def pools_folder(given: Path | None) -> Path | None:
    """The folder of recorded pools: given, or named by the environment."""
    named = os.environ.get(VARIABLE)
    return given if given is not None else Path(named) if named else None
