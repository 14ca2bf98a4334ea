"""Many arms: what price pays for the best accuracy of any single arm, against what that arm's uniform pays for it.

The target is the best accuracy that a single arm reaches under uniform; where arms have many samples also shares of
that arm's gain over one sample. Cost is that of the cheapest arm that reaches it. `rules` compares with the cheapest
arm under the best of uniform and the stopping rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from recorded import Clock, Stand, by_pass_rate, curve_of, error_console, spread, uniform_curve
from rich.console import Console
from rich.table import Table
from savings import (
    Curve,
    Floats,
    bounded,
    costs_to_reach,
    figure,
    geometric,
    interval,
    over_pools,
    resamples,
    savings,
    told,
    told_saving,
)
from voting import budgets_of

from apportion.costs import Unit
from apportion.difficulty.pools import Pool
from apportion.errors import ApportionError
from apportion.scheduler.contest import Entry, default_unit, mean_costs

POOLS = {
    "math500": "accuracy",
    "cruxeval-output": "accuracy",
    "game24": "coverage",
    "mmlu-cascade": "accuracy",
    "medmcqa-cascade": "accuracy",
}
"""The objective of each pool."""
QUICK_POOLS = ("cruxeval-output", "mmlu-cascade")
QUICK_ARMS = 4
RULES = {"accuracy": ("asc", "esc", "blend_asc"), "coverage": ("elimination",)}
SHARES = (1.0, 0.99, 0.95)
BEYOND = 2.0
"""Price is given up to so many times what uniform needs for the best single arm's accuracy, which shows its ceiling."""
KINDS = ("uniform", "rules")


@dataclass(frozen=True, slots=True)
class Match:
    """One pool. `ratios` are [draws, points] by kind, `gain` price's best less the best single arm's, [draws]."""

    pool: str
    objective: str
    unit: str
    best_arm: str
    best: float
    cheapest: dict[str, str]
    ratios: dict[str, Floats]
    reached: list[bool]
    gain: Floats
    price: Curve
    single: dict[str, Curve]


def arms(stand: Stand, clock: Clock) -> tuple[dict[str, Any], list[Match]]:
    """Play every pool, print the table, and return what it shows as JSON."""
    matches, failed = [], {}
    for name in QUICK_POOLS if stand.quick else POOLS:
        pool = stand.pool(name)
        if pool is None:
            continue
        if stand.quick and len(pool.decks) > QUICK_ARMS:
            pool = pool.only(spread_arms(pool, QUICK_ARMS))
        try:
            matches.append(match_of(stand, pool, POOLS[name]))
        except ApportionError as error:
            failed[name] = str(error)
            error_console.print(f"arms {name} failed: {error}", markup=False)
        clock.tell(f"arms {name}: {len(pool.decks)} arms")
    result: dict[str, Any] = {"failed": failed, "matches": [_row(match) for match in matches]}
    if matches:
        result |= summary(matches)
        Console(width=150).print(_table(matches, result))
    return result, matches


def spread_arms(pool: Pool, count: int) -> list[str]:
    """Some arms, spread by pass rate."""
    order = by_pass_rate(pool)
    return [order[at] for at in np.linspace(0, len(order) - 1, count).round().astype(int)]


def match_of(stand: Stand, pool: Pool, goal: str) -> Match:
    """One pool: every arm by itself, then price with all of them."""
    unit = default_unit(pool)
    uniform = {arm: uniform_curve(pool, arm, unit, goal) for arm in pool.decks}
    weights = resamples(pool.name, len(pool.ids), 0)
    best_arm = max(uniform, key=lambda arm: float(uniform[arm].values.mean(axis=1).max()))
    targets = targets_of(uniform, best_arm, weights)
    singles = {f"{arm} uniform": curve for arm, curve in uniform.items()}
    needed = {name: costs_to_reach(curve, weights, targets) for name, curve in singles.items()}
    by_rule = _rules(stand, pool, unit, goal, uniform)
    needed_by_rule = {name: costs_to_reach(curve, weights, targets) for name, curve in by_rule.items()}
    cost = {"uniform": least(needed), "rules": least(needed | needed_by_rule)}

    cheapest = min(mean_costs(pool, unit).values())
    budgets = spread(cheapest, BEYOND * float(cost["uniform"][0].max()), stand.budgets)
    entry = Entry(tuple(pool.decks), "price", unit, budgets)
    price = curve_of(stand.play(pool, [entry], "cross", goal)[0])
    mine = costs_to_reach(price, weights, targets)
    paid = bounded(mine, price.most)
    return Match(
        pool=pool.name,
        objective=goal,
        unit=unit.value,
        best_arm=best_arm,
        best=float(targets[0, 0]),
        cheapest={"uniform": cheapest_of(needed), "rules": cheapest_of(needed | needed_by_rule)},
        ratios={kind: savings(cost[kind], paid) for kind in KINDS},
        reached=np.isfinite(mine[0]).tolist(),
        gain=price.means(weights)[1].max(axis=1) - targets[:, 0],
        price=price,
        single=singles | by_rule,
    )


def targets_of(uniform: dict[str, Curve], best_arm: str, weights: Floats) -> Floats:
    """The best accuracy of the best single arm and, where it has several amounts, shares of its gain, [draws, points].

    The arm is chosen on the prompts as they are; in every draw its best is measured again.
    """
    _, value = uniform[best_arm].means(weights)
    best, first = value.max(axis=1, keepdims=True), value[:, :1]
    shares = np.array(SHARES if value.shape[1] > 1 else SHARES[:1])
    # From the best down, so that its own share is the best to the last digit, and reached.
    return np.asarray(best - (1.0 - shares) * (best - first))


def least(needed: dict[str, Floats]) -> Floats:
    """The least cost over arms, [draws, points]. The best arm reaches every target, so there always is one."""
    return np.asarray(np.fmin.reduce(list(needed.values())))


def cheapest_of(needed: dict[str, Floats]) -> str:
    """Who reaches the first target at the least cost."""
    return min(needed, key=lambda name: float(np.nan_to_num(needed[name][0, 0], nan=np.inf)))


def _rules(stand: Stand, pool: Pool, unit: Unit, goal: str, uniform: dict[str, Curve]) -> dict[str, Curve]:
    """Every arm with several samples under every stopping rule."""
    found = {}
    for arm, curve in uniform.items():
        if len(curve.values) < 2:
            continue
        budgets = budgets_of(pool, arm, unit, curve, stand.budgets)
        entries = [Entry((arm,), policy, unit, budgets) for policy in RULES[goal]]
        for policy, frontier in zip(RULES[goal], stand.play(pool, entries, "none", goal), strict=True):
            found[f"{arm} {policy}"] = curve_of(frontier)
    return found


def summary(matches: Sequence[Match]) -> dict[str, Any]:
    """Geometric means over pools, and each pool."""
    found: dict[str, Any] = {"shares": list(SHARES)}
    for kind in KINDS:
        key = f"saving_arms_{kind}"
        # Stopping rules need several samples of an arm.
        apply = [match for match in matches if kind == "uniform" or len(match.ratios[kind][0]) > 1]
        if not apply:
            continue
        whole, pools = over_pools({match.pool: [match.ratios[kind]] for match in apply})
        found |= figure(key, whole)
        found[f"{key}_by_pool"] = {pool: float(one[0]) for pool, one in pools.items()}
        found[f"{key}_by_pool_interval"] = {pool: interval(one) for pool, one in pools.items()}
        best, _ = over_pools({match.pool: [match.ratios[kind][:, :1]] for match in apply})
        found |= figure(f"{key}_at_best", best)
    found["ceiling_gain"] = {match.pool: float(match.gain[0]) for match in matches}
    found["ceiling_gain_interval"] = {match.pool: interval(match.gain) for match in matches}
    found["not_reached"] = sum(not one for match in matches for one in match.reached)
    return found


def _row(match: Match) -> dict[str, Any]:
    return {
        "pool": match.pool,
        "objective": match.objective,
        "unit": match.unit,
        "best_arm": match.best_arm,
        "best": match.best,
        "cheapest": match.cheapest,
        "reached": match.reached,
        **{f"saving_{kind}": match.ratios[kind][0].tolist() for kind in KINDS},
        "price": {
            "cost": match.price.costs.mean(axis=1).tolist(),
            "value": match.price.values.mean(axis=1).tolist(),
        },
    }


def _table(matches: Sequence[Match], result: dict[str, Any]) -> Table:
    table = Table(title="Many arms: saving of price over the cheapest single arm", title_justify="left")
    for heading in ("pool", "best single arm", "against"):
        table.add_column(heading)
    for heading in ("its best", "99% of its gain", "95%", "mean, 90% interval", "ceiling above it"):
        table.add_column(heading, justify="right")
    for match in matches:
        low, high = interval(match.gain)
        names = [match.pool, f"{match.best_arm}: {match.objective} {match.best:.3f}"]
        ceiling = f"{match.gain[0]:+.3f} ({low:+.3f} to {high:+.3f})"
        for kind in KINDS:
            draws = match.ratios[kind]
            cells = [told_saving(one, there) for one, there in zip(draws[0], match.reached, strict=True)]
            cells += [""] * (len(SHARES) - len(cells))
            mean = geometric(draws, axis=1)
            spoken = told(mean[0], interval(mean))
            table.add_row(*names, f"{kind}: {match.cheapest[kind]}", *cells, spoken, ceiling)
            names, ceiling = ["", ""], ""
        table.add_section()
    for kind in KINDS:
        key = f"saving_arms_{kind}"
        if key in result:
            spoken = told(result[key], result[f"{key}_interval"])
            table.add_row("over pools", "", kind, "", "", "", spoken, "")
    return table
