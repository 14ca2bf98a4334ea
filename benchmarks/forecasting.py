"""Forecasts: how often what price reached lies in the 90% interval it gave beforehand, and how wide that is.

One case is one job: a pool, an arm or a pair of arms, a budget and a seed, which draws the halves and the order of the
candidates. The width is divided by that of the noise that sampling the prompts alone imposes. Cases of one pool share
prompts, so intervals of the share are resampled over sets of arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from recorded import Clock, Stand, error_console, unit_of
from rich.console import Console
from rich.table import Table
from savings import Floats, interval

from apportion.difficulty.pools import Pool
from apportion.errors import ApportionError
from apportion.scheduler.contest import Entry, mean_costs
from apportion.scheduler.frontier import Frontier

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
QUICK_POOLS = ("addsub", "mmlu-cascade")
FITS = ("cross", "none")
BUDGETS = (1.5, 3.0, 6.0, 12.0)
"""Times what one candidate of the cheapest arm costs, or of the dearest where arms have one candidate each."""
SINGLE_BUDGETS = (0.1, 0.3, 0.6, 0.9)
"""The same for arms with one candidate a prompt: shares of the way from the cheapest to all of them."""
SEEDS, QUICK_SEEDS = 4, 2
SETS = 2
"""Single arms, and pairs, of each pool."""
NINETY = 1.645
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


def forecasting(stand: Stand, clock: Clock) -> dict[str, Any]:
    """Play every pool, print the table, and return what it shows as JSON."""
    cases: list[Case] = []
    failed: dict[str, str] = {}
    for name, goal in POOLS.items():
        pool = stand.pool(name) if not stand.quick or name in QUICK_POOLS else None
        if pool is None:
            continue
        for fit in FITS:
            for arms in sets_of(pool):
                try:
                    cases += cases_of(stand, pool, arms, goal, fit)
                except ApportionError as error:
                    failed[f"{name}/{'+'.join(arms)} {fit}"] = str(error)
                    error_console.print(f"forecast {name} {'+'.join(arms)} {fit} failed: {error}", markup=False)
            clock.tell(f"forecast {name} {fit}")
    result: dict[str, Any] = {"failed": failed}
    for fit in FITS:
        mine = [case for case in cases if case.fit == fit]
        if mine:
            result[fit] = shown(mine)
    if cases:
        Console(width=150).print(_table(result))
    return result


def sets_of(pool: Pool) -> list[tuple[str, ...]]:
    """Some single arms and some pairs, spread by pass rate."""
    order = sorted(pool.decks, key=lambda name: float(pool.decks[name].correct.mean()))
    at = np.unique(np.linspace(len(order) // 3, len(order) - 1, SETS).round().astype(int))
    singles = [(order[one],) for one in at]
    if len(order) < 2:
        return singles
    pairs = {(order[len(order) // 2 - 1], order[-1]), (order[0], order[len(order) // 2])}
    return singles + sorted(pairs)[:SETS]


def cases_of(stand: Stand, pool: Pool, arms: tuple[str, ...], goal: str, fit: str) -> list[Case]:
    """The cases of one set of arms."""
    only = pool.only(arms)
    unit = unit_of(only)
    each = sorted(mean_costs(only, unit).values())
    most = int(max(deck.sizes.max() for deck in only.decks.values()))
    if most > 1:
        budgets = sorted({each[0] * min(times, most) for times in BUDGETS})
    else:
        # All of one arm alone is no forecast of a decision, but it is one of accuracy.
        budgets = sorted({each[0] * 1.01 + share * (sum(each) - each[0]) for share in SINGLE_BUDGETS})
    entry = Entry(arms, "price", unit, tuple(budgets))
    found = []
    for seed in range(QUICK_SEEDS if stand.quick else SEEDS):
        frontier = stand.play(pool, [entry], fit, goal, repeats=1, seed=seed)[0]
        found += _cases(frontier, fit, seed)
    return found


def _cases(frontier: Frontier, fit: str, seed: int) -> list[Case]:
    if frontier.forecasts is None:
        return []
    return [
        Case(
            frontier.pool,
            frontier.arms,
            fit,
            seed,
            float(frontier.budgets[at]),
            *frontier.forecasts[at].tolist(),
            reached=float(frontier.accuracy[at, 0]),
            prompts=frontier.values.shape[1],
        )
        for at in range(len(frontier.budgets))
    ]


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
    """Coverage and width of each set of arms."""
    sets: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        sets.setdefault((case.pool, *case.arms), []).append(case)
    inside = np.array([np.mean([case.inside for case in mine]) for mine in sets.values()])
    width = np.array([np.mean([case.width for case in mine]) for mine in sets.values()])
    return inside, width


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="Forecasts: accuracy within the 90% interval", title_justify="left")
    for heading in ("fit", "pool", "cases", "inside", "width over noise", "said less reached"):
        table.add_column(heading, justify="left" if heading in ("fit", "pool") else "right")
    for fit in FITS:
        if fit not in result:
            continue
        whole = result[fit]
        for pool, one in whole["by_pool"].items():
            width, error = f"{one['width_over_noise']:.2f}", f"{one['error']:+.3f}"
            table.add_row(fit, pool, str(one["cases"]), f"{one['coverage']:.0%}", width, error)
        low, high = whole["coverage_interval"]
        inside = f"{whole['coverage']:.1%} ({low:.0%} to {high:.0%})"
        narrow, wide = whole["width_over_noise_interval"]
        width = f"{whole['width_over_noise']:.2f} ({narrow:.2f} to {wide:.2f})"
        table.add_row(fit, "all", str(whole["cases"]), inside, width, f"{whole['error']:.3f} in size")
        table.add_section()
    return table
