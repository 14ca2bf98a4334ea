"""Voting with one arm: what each policy saves against uniform voting, and price against the best of the others.

Targets are shares of what uniform voting gains over one sample; a baseline that never reaches one is left out of the
best, a price that never does is given the cost of its largest budget, so that it counts against it. The best of
several baselines is read twice: as the best that was seen, and, because that one was also the luckiest, as the one that
was best on other repeats (`_apart`). Repeats are played in two halves of different seeds for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from recorded import Clock, Stand, by_pass_rate, curve_of, error_console, spread, uniform_curve
from rich.console import Console
from rich.table import Table
from savings import (
    Curve,
    Floats,
    against_best,
    against_chosen,
    bounded,
    clear_gain,
    costs_to_reach,
    figure,
    gain_targets,
    geometric,
    interval,
    over_pools,
    resamples,
    savings,
    told,
)

from apportion.costs import Unit
from apportion.difficulty.pools import Pool
from apportion.errors import ApportionError
from apportion.scheduler.contest import Entry, default_unit, mean_costs

SHARES = (0.8, 0.9, 0.95, 0.99)
PLAYED = {"none": ("asc", "esc", "blend_asc", "price", "oracle"), "cross": ("binned", "damani", "price")}
BASELINES = {"none": ("asc", "esc", "blend_asc"), "cross": ("asc", "esc", "blend_asc", "binned", "damani")}
ARMS = {"addsub": 3, "last-letters": 1, "math500": 7, "cruxeval-output": 6, "aime24": 4, "lab": 1}
"""Arms of each pool that are played, spread by pass rate, unless all are asked for."""
QUICK_ARMS = {"addsub": 1, "last-letters": 1, "cruxeval-output": 1}
FEWEST_SAMPLES = 10
BEYOND = 1.5
"""Policies are given up to so many times what uniform needs for the last target: beyond it there is nothing to save."""
LAB_ARMS = ("small",)
"""The lab's other arm is the same strategy with a larger model, which gains nothing from votes."""
FITS = ("none", "cross")
NAMES = {"": "", "_apart": ", baseline chosen apart", "_clear": ", noise left out"}
HALVES = (0, 1)
"""Seeds of the two halves of the repeats."""
SMALL = 100
"""Half of fewer prompts makes a job that is much harder to spend well on: where price plays halves, because it is
fitted on the others, so do the baselines that need no labels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One arm of one pool. `savings` are [draws, points] by policy, nan where never reached; `ratios` by fit."""

    pool: str
    arm: str
    unit: str
    uniform: tuple[float, float]
    clear: bool
    savings: dict[str, Floats]
    ratios: dict[str, Floats]
    apart: dict[str, Floats]
    """as `ratios`, over the baseline that was best on other repeats"""
    curves: dict[str, Curve]


def arms_of(pool: Pool, count: int | None) -> list[str]:
    """Arms with enough samples for a vote, `count` of them spread by pass rate; all where None."""
    enough = [name for name in by_pass_rate(pool) if int(pool.decks[name].sizes.min()) >= FEWEST_SAMPLES]
    if pool.name == "lab":
        enough = [name for name in enough if name in LAB_ARMS]
    if count is None or count >= len(enough):
        return enough
    at = np.linspace(0, len(enough) - 1, count) if count > 1 else np.array([len(enough) // 2])
    return [enough[one] for one in np.unique(at.round().astype(int))]


def voting(stand: Stand, every_arm: bool, clock: Clock) -> tuple[dict[str, Any], list[Line]]:
    """Play every pool, print the tables, and return what they show as JSON."""
    lines, failed = [], {}
    for name, count in (QUICK_ARMS if stand.quick else ARMS).items():
        pool = stand.pool(name)
        if pool is None:
            continue
        for arm in arms_of(pool, None if every_arm else count):
            try:
                lines.append(line_of(stand, pool, arm))
            except ApportionError as error:
                failed[f"{name}/{arm}"] = str(error)
                error_console.print(f"voting {name} / {arm} failed: {error}", markup=False)
            clock.tell(f"voting {name} / {arm}")
    result: dict[str, Any] = {"failed": failed, "lines": [_row(line) for line in lines]}
    if lines:
        result |= summary(lines)
        Console(width=150).print(_table(lines))
        Console(width=150).print(_summary_table(result))
    return result, lines


def line_of(stand: Stand, pool: Pool, arm: str) -> Line:
    """One arm played by everyone."""
    unit = default_unit(pool.only([arm]))
    uniform = uniform_curve(pool, arm, unit)
    budgets = budgets_of(pool, arm, unit, uniform, stand.budgets)
    played: dict[str, list[Curve]] = {}
    for fit in FITS if stand.labels else FITS[:1]:
        # What predicts from texts has nothing to go by where the source has none.
        policies = [policy for policy in PLAYED[fit] if policy != "damani" or any(pool.texts)]
        if fit == "cross" and len(pool.ids) < SMALL:
            policies += BASELINES["none"]
        entries = [Entry((arm,), policy, unit, budgets) for policy in policies]
        repeats = max(1, stand.repeats_of(pool) // len(HALVES))
        halves = [stand.play(pool, entries, fit, repeats=repeats, seed=seed) for seed in HALVES]
        for policy, frontiers in zip(policies, zip(*halves, strict=True), strict=True):
            shown = f"{policy} {fit}" if policy == "price" or policy in played else policy
            played[shown] = [curve_of(frontier) for frontier in frontiers]
    return compare(pool.name, arm, unit.value, uniform, played)


def budgets_of(pool: Pool, arm: str, unit: Unit, uniform: Curve, count: int) -> tuple[float, ...]:
    """Budgets of the policies that buy votes of one arm: one sample, to somewhat more than uniform needs."""
    one = mean_costs(pool.only([arm]), unit)[arm]
    weights = resamples(pool.name, uniform.values.shape[1], 0, 0)
    needed = costs_to_reach(uniform, weights, gain_targets(uniform, weights, SHARES[-1:]))
    return spread(one, float(np.clip(BEYOND * needed[0, 0], one, max(one, uniform.most))), count)


def compare(pool: str, arm: str, unit: str, uniform: Curve, played: Mapping[str, Sequence[Curve]]) -> Line:
    """Savings and ratios of one arm's curves, of which there is one for each half of the repeats."""
    weights = resamples(pool, uniform.values.shape[1], 0)
    targets = gain_targets(uniform, weights, SHARES)
    needed = costs_to_reach(uniform, weights, targets)

    def saved(curve: Curve, at_worst: bool = False) -> Floats:
        reached = costs_to_reach(curve, weights, targets)
        return savings(needed, bounded(reached, curve.most) if at_worst else reached)

    whole = {name: Curve.mean(halves) for name, halves in played.items()}
    every = {name: saved(curve) for name, curve in whole.items()}
    by_half = {name: [saved(curve) for curve in halves] for name, halves in played.items()}
    ratios, apart = {}, {}
    for fit in FITS:
        mine = f"price {fit}"
        if mine not in played:
            continue
        others = [f"{policy} {fit}" if f"{policy} {fit}" in played else policy for policy in BASELINES[fit]]
        others = [policy for policy in others if policy in played]
        ratios[fit] = against_best(saved(whole[mine], at_worst=True), [every[policy] for policy in others])
        worst = [saved(half, at_worst=True) for half in played[mine]]
        apart[fit] = against_chosen(worst, [by_half[policy] for policy in others])
    means = uniform.values.mean(axis=1)
    ends = (float(means[0]), float(means.max()))
    curves = {"uniform": uniform, **whole}
    return Line(pool, arm, unit, ends, clear_gain(uniform), every, ratios, apart, curves)


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Geometric means over pools, the least pool, each point; all of it also over the lines whose gain is clear."""
    found: dict[str, Any] = {"shares": list(SHARES)}
    for fit in lines[0].ratios:
        key = f"saving_voting_{fit}"
        found |= _means(key, lines, [line.ratios[fit] for line in lines])
        found |= _means(f"{key}_apart", lines, [line.apart[fit] for line in lines])
        clear = [line for line in lines if line.clear]
        if clear:
            found |= _means(f"{key}_clear", clear, [line.ratios[fit] for line in clear])
        mine = [line.savings[f"price {fit}"][0] for line in lines]
        found[f"not_reached_{fit}"] = int(np.isnan(mine).sum())
    found["targets"] = len(lines) * len(SHARES)
    return found


def _means(key: str, lines: Sequence[Line], ratios: Sequence[Floats]) -> dict[str, Any]:
    draws: dict[str, list[Floats]] = {}
    for line, ratio in zip(lines, ratios, strict=True):
        draws.setdefault(line.pool, []).append(ratio)
    whole, pools = over_pools(draws)
    points = geometric([geometric(each) for each in draws.values()])
    least = min(pools, key=lambda pool: float(pools[pool][0]))
    by_point = {str(share): points[:, at] for at, share in enumerate(SHARES)}
    return {
        **figure(key, whole),
        f"{key}_least": float(pools[least][0]),
        f"{key}_least_pool": least,
        f"{key}_least_interval": interval(pools[least]),
        f"{key}_by_pool": {pool: float(one[0]) for pool, one in pools.items()},
        f"{key}_by_pool_interval": {pool: interval(one) for pool, one in pools.items()},
        f"{key}_by_point": {share: float(one[0]) for share, one in by_point.items()},
        f"{key}_by_point_interval": {share: interval(one) for share, one in by_point.items()},
    }


def _row(line: Line) -> dict[str, Any]:
    """One line for the JSON; null where a target was not reached."""
    return {
        "pool": line.pool,
        "arm": line.arm,
        "unit": line.unit,
        "uniform_first": line.uniform[0],
        "uniform_best": line.uniform[1],
        "clear": line.clear,
        "savings": {name: draws[0].tolist() for name, draws in line.savings.items()},
        **{f"saving_over_best_{fit}": ratios[0].tolist() for fit, ratios in line.ratios.items()},
        **{f"saving_over_best_{fit}_apart": ratios[0].tolist() for fit, ratios in line.apart.items()},
        **{
            f"saving_over_best_{fit}_interval": interval(geometric(ratios, axis=1))
            for fit, ratios in line.ratios.items()
        },
    }


def _table(lines: Sequence[Line]) -> Table:
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    table = Table(title=f"Voting: saving over uniform at {shares} of its gain", title_justify="left")
    for heading in ("pool / arm", "uniform", "policy"):
        table.add_column(heading)
    for share in SHARES:
        table.add_column(f"{share:.0%}", justify="right")
    table.add_column("over the best baseline, 90% interval", justify="right")
    for line in lines:
        first, best = line.uniform
        names = [f"{line.pool} / {line.arm}", f"{first:.3f} to {best:.3f}" + ("" if line.clear else ", noise")]
        for name, draws in line.savings.items():
            fit = name.removeprefix("price ")
            over = ""
            if fit in FITS:
                means = geometric(line.ratios[fit], axis=1)
                over = told(means[0], interval(means))
            cells = ["not reached" if np.isnan(one) else f"{one:.2f}" for one in draws[0]]
            table.add_row(*names, name, *cells, over)
            names = ["", ""]
        table.add_section()
    return table


def _summary_table(result: dict[str, Any]) -> Table:
    table = Table(title="Voting: price over the best baseline, geometric means", title_justify="left")
    for heading in ("labels", "over pools", "90% interval", "least pool", *map(str, SHARES), "not reached"):
        table.add_column(heading, justify="left" if heading == "labels" else "right")
    for fit in FITS:
        for suffix in ("", "_apart", "_clear"):
            key = f"saving_voting_{fit}{suffix}"
            if key not in result:
                continue
            low, high = result[f"{key}_interval"]
            points = [f"{one:.2f}" for one in result[f"{key}_by_point"].values()]
            least = f"{result[f'{key}_least']:.2f} ({result[f'{key}_least_pool']})"
            missed = "" if suffix else f"{result[f'not_reached_{fit}']} of {result['targets']}"
            name = fit + NAMES[suffix]
            table.add_row(name, f"{result[key]:.3f}", f"{low:.2f} to {high:.2f}", least, *points, missed)
    return table
