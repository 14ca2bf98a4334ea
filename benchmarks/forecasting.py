"""Forecasts: how often what price reached lies in the 90% interval it gave beforehand, and how wide that is.

A case is one job: half of a pool's prompts, an arm or a pair of arms, a budget and a seed, which draws the halves and
the order of the candidates; what is known was fitted on the other half. Without labels the job is the whole pool. The
width is divided by that of the noise that sampling the prompts alone imposes. `both` puts the halves together, as
`apportion replay --fit cross` does: their errors cancel, for each is forecast from the other. Each seed takes the next
set of arms in turn. Intervals of the shares are resampled over pools and seeds: cases of one split stand and fall
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from multiprocessing import get_context
from typing import Any

import numpy as np
from recorded import Clock, Stand, by_pass_rate, error_console
from rich.console import Console
from rich.table import Table
from savings import Floats, interval
from threadpoolctl import threadpool_limits

from apportion.difficulty.fit import fit
from apportion.difficulty.pools import Pool
from apportion.errors import ApportionError
from apportion.scheduler.contest import Entry, Terms, default_unit, goal_of, mean_costs
from apportion.scheduler.forecasts import NINETY
from apportion.scheduler.frontier import Frontier, replay_all

POOLS = {
    "addsub": "accuracy",
    "last-letters": "accuracy",
    "math500": "accuracy",
    "cruxeval-output": "accuracy",
    "aime24": "accuracy",
    "game24": "coverage",
    "mmlu-cascade": "accuracy",
    "medmcqa-cascade": "accuracy",
    "lab": "accuracy",
}
QUICK_POOLS = ("last-letters", "mmlu-cascade")
FITS = ("cross", "none")
NAMES = {"cross": "labels of the other half", "none": "no labels", "both": "both halves together"}
BUDGETS = (1.5, 3.0, 6.0, 12.0)
"""Times what one candidate of the cheapest arm costs, or of the dearest where arms have one candidate each."""
SINGLE_BUDGETS = (0.1, 0.3, 0.6, 0.9)
"""The same for arms with one candidate a prompt: shares of the way from the cheapest to all of them."""
MARGIN = 0.05
"""The least budget exceeds the cheapest arm's mean cost by this: a half of the prompts may cost more than the whole."""
SEEDS, QUICK_SEEDS = 12, 4
SETS = 2
"""Single arms, and pairs, of each pool."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """What was said and what was reached, of one job."""

    pool: str
    arms: tuple[str, ...]
    fit: str
    seed: int
    budget: float
    said: float
    low: float
    high: float
    reached: float
    prompts: int

    @property
    def inside(self) -> bool:
        return self.low <= self.reached <= self.high

    @property
    def width(self) -> float:
        """Of the interval, in widths of the sampling noise of these prompts; 0 of 0 is 1."""
        noise = 2.0 * NINETY * np.sqrt(max(self.reached * (1.0 - self.reached), 1e-12) / self.prompts)
        return float((self.high - self.low) / noise)


@dataclass(frozen=True, slots=True)
class Task:
    """One set of arms of a pool with one seed; the pool has these arms only."""

    pool: Pool
    entry: Entry
    goal: str
    fit: str
    seed: int


def forecasting(stand: Stand, clock: Clock) -> dict[str, Any]:
    """Play every pool, print the table, and return what it shows as JSON."""
    cases: list[Case] = []
    failed: dict[str, str] = {}
    with ProcessPoolExecutor(stand.workers, get_context("spawn"), threadpool_limits, (1,)) as executor:
        for name, goal in POOLS.items():
            pool = stand.pool(name) if not stand.quick or name in QUICK_POOLS else None
            if pool is None:
                continue
            sets = sets_of(pool)
            tasks = [
                Task(pool.only(arms), entry_of(pool, arms), goal, known, seed)
                for known in FITS
                for seed, arms in zip(range(QUICK_SEEDS if stand.quick else SEEDS), cycle(sets), strict=False)
            ]
            for task, found in zip(tasks, executor.map(cases_of, tasks), strict=True):
                if isinstance(found, str):
                    failed[f"{name}/{'+'.join(task.entry.arms)} {task.fit}"] = found
                else:
                    cases += found
            clock.tell(f"forecast {name}")
    for what, why in failed.items():
        error_console.print(f"forecast {what} failed: {why}", markup=False)
    result: dict[str, Any] = {"failed": failed}
    for known in FITS:
        mine = [case for case in cases if case.fit == known]
        if mine:
            result[known] = shown(mine)
    halves = [case for case in cases if case.fit == "cross"]
    if halves:
        result["both"] = shown(both(halves))
        result |= {key: result["cross"][key] for key in ("coverage", "width_over_noise")}
    if cases:
        Console(width=150).print(_table(result))
    return result


def sets_of(pool: Pool) -> list[tuple[str, ...]]:
    """Some single arms and some pairs, spread by pass rate."""
    order = by_pass_rate(pool)
    at = np.unique(np.linspace(len(order) // 3, len(order) - 1, SETS).round().astype(int))
    singles: list[tuple[str, ...]] = [(order[one],) for one in at]
    if len(order) < 2:
        return singles
    pairs: set[tuple[str, ...]] = {(order[len(order) // 2 - 1], order[-1]), (order[0], order[len(order) // 2])}
    return singles + sorted(pairs)[:SETS]


def entry_of(pool: Pool, arms: tuple[str, ...]) -> Entry:
    """Price on these arms, at every budget."""
    only = pool.only(arms)
    unit = default_unit(only)
    each = sorted(mean_costs(only, unit).values())
    most = int(max(deck.sizes.max() for deck in only.decks.values()))
    if most > 1:
        budgets = sorted({each[0] * min(times, most) for times in BUDGETS})
    else:
        budgets = sorted({each[0] * (1.0 + MARGIN) + share * (sum(each) - each[0]) for share in SINGLE_BUDGETS})
    return Entry(arms, "price", unit, tuple(budgets))


def cases_of(task: Task) -> list[Case] | str:
    """The cases of a task, or what was wrong. Runs in a process of its own."""
    pool, entry = task.pool, task.entry
    terms = Terms(1, task.seed, goal=goal_of(task.goal))
    everyone = np.arange(len(pool.ids))
    try:
        if task.fit == "none":
            return _cases(next(replay_all([pool], [(0, entry)], terms)), task)
        halves = np.array_split(np.random.default_rng([task.seed, 2]).permutation(everyone), 2)
        found = []
        for mine, other in (halves, halves[::-1]):
            known = replace(terms, fitted=fit([pool.part(np.sort(other))]))
            found += _cases(next(replay_all([pool.part(np.sort(mine))], [(0, entry)], known)), task)
        return found
    except ApportionError as error:
        return str(error)


def _cases(frontier: Frontier, task: Task) -> list[Case]:
    if frontier.forecasts is None:
        return []
    found = []
    for at, (said, low, high) in enumerate(frontier.forecasts.tolist()):
        budget, reached = float(frontier.budgets[at]), float(frontier.accuracy[at, 0])
        prompts = frontier.values.shape[1]
        arms = task.entry.arms
        found.append(Case(task.pool.name, arms, task.fit, task.seed, budget, said, low, high, reached, prompts))
    return found


def both(cases: Sequence[Case]) -> list[Case]:
    """The two halves of each job put together; their errors are taken to be independent."""
    jobs: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        jobs.setdefault((case.pool, case.arms, case.seed, case.budget), []).append(case)
    found = []
    for halves in jobs.values():
        share = np.array([case.prompts for case in halves]) / sum(case.prompts for case in halves)
        said, reached = (float(share @ [getattr(case, name) for case in halves]) for name in ("said", "reached"))
        below = float(np.linalg.norm(share * [case.said - case.low for case in halves]))
        above = float(np.linalg.norm(share * [case.high - case.said for case in halves]))
        prompts = sum(case.prompts for case in halves)
        found.append(
            replace(halves[0], said=said, low=said - below, high=said + above, reached=reached, prompts=prompts)
        )
    return found


def shown(cases: Sequence[Case]) -> dict[str, Any]:
    """Coverage and width of some cases, and of each pool's."""
    inside, width = grouped(cases)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(inside), (RESAMPLES, len(inside)))
    pools = {case.pool: [one for one in cases if one.pool == case.pool] for case in cases}
    error = np.array([case.said - case.reached for case in cases])
    return {
        "cases": len(cases),
        "coverage": float(np.mean([case.inside for case in cases])),
        "coverage_interval": interval(np.concatenate([[0.0], inside[draws].mean(axis=1)])),
        "width_over_noise": float(np.mean([case.width for case in cases])),
        "width_over_noise_interval": interval(np.concatenate([[0.0], width[draws].mean(axis=1)])),
        "error": float(np.abs(error).mean()),
        "by_pool": {
            name: {
                "cases": len(mine),
                "coverage": float(np.mean([case.inside for case in mine])),
                "width_over_noise": float(np.mean([case.width for case in mine])),
                "error": float(np.mean([case.said - case.reached for case in mine])),
            }
            for name, mine in pools.items()
        },
        "by_arms": {
            str(count): float(np.mean([case.inside for case in cases if len(case.arms) == count]))
            for count in sorted({len(case.arms) for case in cases})
        },
    }


def grouped(cases: Sequence[Case]) -> tuple[Floats, Floats]:
    """Coverage and width of each pool and seed."""
    splits: dict[tuple[str, int], list[Case]] = {}
    for case in cases:
        splits.setdefault((case.pool, case.seed), []).append(case)
    inside = np.array([np.mean([case.inside for case in mine]) for mine in splits.values()])
    width = np.array([np.mean([case.width for case in mine]) for mine in splits.values()])
    return inside, width


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="Forecasts: accuracy within the 90% interval", title_justify="left")
    for heading in ("known", "pool", "cases", "inside", "width over noise", "said less reached"):
        table.add_column(heading, justify="left" if heading in ("known", "pool") else "right")
    for known in (*FITS, "both"):
        if known not in result:
            continue
        whole = result[known]
        for pool, one in whole["by_pool"].items():
            width, error = f"{one['width_over_noise']:.2f}", f"{one['error']:+.3f}"
            table.add_row(NAMES[known], pool, str(one["cases"]), f"{one['coverage']:.0%}", width, error)
        low, high = whole["coverage_interval"]
        inside = f"{whole['coverage']:.1%} ({low:.0%} to {high:.0%})"
        narrow, wide = whole["width_over_noise_interval"]
        width = f"{whole['width_over_noise']:.2f} ({narrow:.2f} to {wide:.2f})"
        table.add_row(NAMES[known], "all", str(whole["cases"]), inside, width, f"{whole['error']:.3f} in size")
        table.add_section()
    return table
