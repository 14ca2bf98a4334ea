"""Replays of policies over budgets and repeats: what each reaches at which cost, prompt by prompt.

Every policy sees the same shuffles (common random numbers), so that two frontiers can be compared repeat by repeat.
With `cross` the prompts are split in two; each half is a job with its share of the budget, whose policy may know what
was fitted on the other half. Results do not depend on the number of processes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from apportion.costs import Unit
from apportion.difficulty.fitted import FittedPolicy, load
from apportion.difficulty.objectives import Objective
from apportion.difficulty.pools import Pool
from apportion.scheduler.contest import (
    FORECAST,
    Contest,
    Entry,
    Terms,
    check_budgets,
    check_terms,
    default_unit,
    goal_of,
    spread,
)
from apportion.scheduler.forecasts import NINETY

Floats = NDArray[np.float64]

MOST_CONTESTS = 2
"""Contests a process keeps ready: work comes in the order of the entries, so few are in use at a time."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """What an entry reached. Costs and budgets are per prompt.

    `accuracy` and `cost` are [budgets, repeats], in the objective and the unit; `values` and `costs` are means over
    repeats, [budgets, prompts]; `forecasts` are value, low and high, [budgets, 3], where the policy forecasts.
    """

    pool: str
    arms: tuple[str, ...]
    policy: str
    unit: Unit
    objective: str
    budgets: Floats
    accuracy: Floats
    cost: Floats
    values: Floats
    costs: Floats
    forecasts: Floats | None

    def interval(self) -> tuple[Floats, Floats]:
        """The 90% interval of the mean over prompts like these, [budgets] each.

        Normal, with the prompts as units: repeats of a prompt are no further evidence about other prompts. As ten
        prompts that are all right do not say that every prompt is, some are added that are half right and half wrong
        (Agresti and Coull 1998).
        """
        mean, prompts = self.values.mean(axis=1), self.values.shape[1]
        added, whole = NINETY**2, prompts + NINETY**2
        center = (self.values.sum(axis=1) + 0.5 * added) / whole
        square = ((self.values**2).sum(axis=1) + 0.5 * added) / whole
        half = NINETY * np.sqrt(np.maximum(square - center**2, 0.0) / whole)
        return np.maximum(np.minimum(center - half, mean), 0.0), np.minimum(np.maximum(center + half, mean), 1.0)


def replay(
    pool: Pool,
    arms: Sequence[str],
    policy: str,
    budgets: Sequence[float] | int = 12,
    repeats: int = 20,
    seed: int = 0,
    fit: FittedPolicy | str | Path = "none",
    objective: Objective | str = "accuracy",
    unit: Unit | None = None,
    select: str | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> Frontier:
    """Replay one policy on some arms of a pool.

    `budgets` are per prompt, or how many to spread over what was recorded. `fit` is "none", "cross", a fitted policy
    or its file. Raises ConfigError, DataError or BudgetError for what cannot be played.
    """
    goal = goal_of(objective) if isinstance(objective, str) else objective
    terms = terms_of(fit, repeats=repeats, seed=seed, goal=goal, select=select)
    check_terms(terms, [policy])
    chosen = pool.only(arms)
    unit = unit or default_unit(chosen)
    amounts = spread(chosen, unit, budgets) if isinstance(budgets, int) else tuple(map(float, budgets))
    check_budgets(chosen, unit, amounts)
    entry = Entry(tuple(arms), policy, unit, amounts, settings or {})
    return next(replay_all([pool], [(0, entry)], terms, workers))


def terms_of(fit: FittedPolicy | str | Path, **others: Any) -> Terms:
    """The terms of a replay; `fit` as in `replay`. Raises ConfigError for a file that is no fitted policy."""
    if isinstance(fit, FittedPolicy):
        return Terms(fitted=fit, **others)
    if fit in ("none", "cross"):
        return Terms(cross=fit == "cross", **others)
    return Terms(fitted=load(fit, "--fit"), **others)


def replay_all(
    pools: Sequence[Pool], entries: Sequence[tuple[int, Entry]], terms: Terms, workers: int = 1
) -> Iterator[Frontier]:
    """Replay entries, each on the pool of its number, in order."""
    if workers <= 1:
        stage = Stage(pools, terms)
        with threadpool_limits(1):
            for at, entry in entries:
                said = stage.forecast(at, entry)
                repeats = [stage.repeat(at, entry, repeat) for repeat in range(terms.repeats)]
                yield _gather(pools[at], entry, terms, repeats, said)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (pools, terms)) as executor:
        asked = [
            (
                executor.submit(_forecast, at, entry),
                [executor.submit(_repeat, at, entry, repeat) for repeat in range(terms.repeats)],
            )
            for at, entry in entries
        ]
        try:
            for (at, entry), (forecast, played) in zip(entries, asked, strict=True):
                yield _gather(pools[at], entry, terms, [future.result() for future in played], forecast.result())
        finally:
            executor.shutdown(cancel_futures=True)


def _gather(
    pool: Pool, entry: Entry, terms: Terms, repeats: Sequence[tuple[Floats, Floats]], forecasts: Floats | None
) -> Frontier:
    value, cost = (np.stack(each) for each in zip(*repeats, strict=True))
    return Frontier(
        pool=pool.name,
        arms=entry.arms,
        policy=entry.policy,
        unit=entry.unit,
        objective=terms.goal.name,
        budgets=np.array(entry.budgets),
        accuracy=value.mean(axis=2).T,
        cost=cost.mean(axis=2).T,
        values=value.mean(axis=0),
        costs=cost.mean(axis=0),
        forecasts=forecasts,
    )


class Stage:
    """The contests of some pools, made when they are needed; the last few are kept."""

    def __init__(self, pools: Sequence[Pool], terms: Terms) -> None:
        self._pools = pools
        self._terms = terms
        self._contests: dict[tuple[int, tuple[str, ...], Unit], Contest] = {}

    def repeat(self, at: int, entry: Entry, repeat: int) -> tuple[Floats, Floats]:
        return self._contest(at, entry).repeat(entry, repeat)

    def forecast(self, at: int, entry: Entry) -> Floats | None:
        return self._contest(at, entry).forecast(entry) if entry.policy in FORECAST else None

    def _contest(self, at: int, entry: Entry) -> Contest:
        key = (at, entry.arms, entry.unit)
        if key not in self._contests:
            while len(self._contests) >= MOST_CONTESTS:
                del self._contests[next(iter(self._contests))]
            self._contests[key] = Contest(self._pools[at], entry.arms, entry.unit, self._terms)
        return self._contests[key]


_stage: Stage | None = None
"""What this worker process plays on; its pools are sent to it once."""


def _begin(pools: Sequence[Pool], terms: Terms) -> None:
    global _stage
    # One thread each: the processes share the cores, and sums come out the same whatever their number.
    threadpool_limits(1)
    # Ctrl-C reaches all processes of a terminal; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stage = Stage(pools, terms)


def _repeat(at: int, entry: Entry, repeat: int) -> tuple[Floats, Floats]:
    assert _stage is not None
    return _stage.repeat(at, entry, repeat)


def _forecast(at: int, entry: Entry) -> Floats | None:
    assert _stage is not None
    return _stage.forecast(at, entry)
