"""Accuracy against FLOPs: best-of-N, each search, and what chooses among them by prompt.

Costs are of policy, verifier and probe. The policies know what was fitted on the other half of the prompts, in each
repeat other halves. What `price` saves is the compute that best-of-N weighted needs for an accuracy over what `price`
needs, at shares of what best-of-N gains over one sample; a target that `price` never reaches counts as the largest
budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optimal_pool import (
    CONTROL,
    LARGE,
    MAJORITY,
    VOTE,
    Floats,
    Strategies,
    sampled,
    sampled_cost,
    search_curve,
    verified_each,
)
from recorded import Stand, over_splits, spread, uniform_amounts
from rich.table import Table
from savings import (
    Curve,
    bounded,
    costs_to_reach,
    figure,
    gain_targets,
    geometric,
    interval,
    resamples,
    rising,
    savings,
    told,
    told_saving,
)

from apportion.costs import Unit
from apportion.scheduler.contest import Entry, least_costs

SHARES = (0.80, 0.90, 0.95, 0.99)
ORACLE = {"difficulty": "oracle"}
CHOOSERS: dict[str, tuple[str, dict[str, str]]] = {
    "price": ("price", {}),
    "binned": ("binned", {}),
    "binned oracle": ("binned", ORACLE),
}
"""What is played on several arms: its name here, the policy and its settings."""
ALL, SMALL, PARALLEL = "all arms", "small's arms", "all arms and parallel attempts"
LEAST = 1.15
"""The smallest budget, times the cheapest purchase: one that all prompts can have with its prompt read."""


@dataclass(frozen=True, slots=True)
class Frontiers:
    """Curves in FLOPs: of single strategies, and of what chooses, by (chooser, arms)."""

    single: dict[str, Curve]
    chosen: dict[tuple[str, str], Curve]
    weights: Floats
    verified_each: Curve
    """best-of-N weighted, equal responses verified again"""


def frontiers(stand: Stand, found: Strategies) -> Frontiers:
    """Every curve of the picture."""
    single = {}
    for name in (VOTE, MAJORITY, CONTROL, LARGE):
        if name not in found.pool.decks:
            continue
        deck = found.pool.decks[name]
        single[name] = sampled(deck, uniform_amounts(int(deck.sizes.max())))
    single |= {name: search_curve(found, name) for name in found.searches}
    asked = entries(stand, found)
    chosen = dict(zip(asked, over_splits(stand, found.pool, list(asked.values())), strict=True))
    deck = found.pool.decks[VOTE]
    each = verified_each(deck, uniform_amounts(int(deck.sizes.max())))
    return Frontiers(single, chosen, resamples(found.pool.name, len(found.pool.ids), 0), each)


def entries(stand: Stand, found: Strategies) -> dict[tuple[str, str], Entry]:
    """What is played, by chooser and arms."""
    budgets = budgets_of(stand, found)
    return {
        (name, kind): Entry(arms, policy, Unit.FLOPS, budgets, settings)
        for kind, arms in kinds_of(found).items()
        for name, (policy, settings) in CHOOSERS.items()
    }


def kinds_of(found: Strategies) -> dict[str, tuple[str, ...]]:
    """The sets of arms that are chosen from."""
    kinds = {ALL: found.arms, SMALL: found.small_arms}
    return {**kinds, PARALLEL: found.with_parallel} if CONTROL in found.pool.decks else kinds


def budgets_of(stand: Stand, found: Strategies) -> tuple[float, ...]:
    """From one sample of the cheapest arm, its prompt read, to what best-of-N was recorded to."""
    deck = found.pool.decks[VOTE]
    most = float(sampled_cost(deck, int(deck.sizes.max())).mean())
    least = min(least_costs(found.pool.only(found.arms), Unit.FLOPS).values())
    return spread(LEAST * least, most, stand.budgets)


def saved(curves: Frontiers) -> dict[str, Any]:
    """What each chooser saves over best-of-N weighted, as JSON."""
    targets = gain_targets(curves.single[VOTE], curves.weights, SHARES)
    needed = costs_to_reach(curves.single[VOTE], curves.weights, targets)
    result: dict[str, Any] = {"shares": list(SHARES), "targets": targets[0].tolist(), "vote_flops": needed[0].tolist()}
    for (name, kind), curve in curves.chosen.items():
        mine = costs_to_reach(curve, curves.weights, targets)
        ratios = savings(needed, bounded(mine, curve.most))
        key = _key(name, kind)
        result |= figure(key, geometric(ratios, axis=1))
        result[f"{key}_by_share"] = ratios[0].tolist()
        result[f"{key}_by_share_interval"] = [interval(ratios[:, at]) for at in range(len(SHARES))]
        result[f"reached_{key}"] = np.isfinite(mine[0]).tolist()
        more = savings(costs_to_reach(curves.verified_each, curves.weights, targets), bounded(mine, curve.most))
        result |= figure(f"{key}_over_each_verified", geometric(more, axis=1))
    if CONTROL in curves.single:
        result |= _over_reviser(curves)
    return result


def _over_reviser(curves: Frontiers) -> dict[str, Any]:
    """What is saved over best-of-N weighted of the reviser itself, at shares of what that gains."""
    targets = gain_targets(curves.single[CONTROL], curves.weights, SHARES)
    needed = costs_to_reach(curves.single[CONTROL], curves.weights, targets)
    result: dict[str, Any] = {"reviser_targets": targets[0].tolist(), "reviser_flops": needed[0].tolist()}
    for (name, kind), curve in curves.chosen.items():
        if kind == PARALLEL:
            ratios = savings(needed, bounded(costs_to_reach(curve, curves.weights, targets), curve.most))
            key = f"{_key(name, kind)}_over_reviser"
            result |= figure(key, geometric(ratios, axis=1))
            result[f"{key}_by_share"] = ratios[0].tolist()
    return result


def _key(name: str, kind: str) -> str:
    return f"saving_{name}_{kind}".replace(" ", "_").replace("'", "")


def price_over_binned(curves: Frontiers, kind: str) -> dict[str, Any]:
    """Accuracy of `price` less that of `binned` at the same cost, with its interval over the prompts.

    At every budget of `price` from the least cost of `binned` on: below there is nothing to compare with.
    """
    first, second = curves.chosen["price", kind], curves.chosen["binned", kind]
    cost, value = first.means(curves.weights)
    paid, reached = second.means(curves.weights)
    at = cost[0][cost[0] >= paid[0].min()]
    gaps = np.array(
        [
            np.interp(at, *rising(mine, got)) - np.interp(at, *rising(theirs, they))
            for mine, got, theirs, they in zip(cost, value, paid, reached, strict=True)
        ]
    )
    return {
        "flops": at.tolist(),
        "gap": gaps[0].tolist(),
        "interval": [interval(gaps[:, column]) for column in range(gaps.shape[1])],
        "mean_gap": float(gaps[0].mean()),
        "mean_gap_interval": interval(gaps.mean(axis=1)),
    }


def table_of(curves: Frontiers, result: dict[str, Any]) -> Table:
    """Savings by share of what best-of-N gains."""
    table = Table(
        title="Compute of best-of-N weighted over that of what chooses, for the same accuracy (90% intervals)"
    )
    table.add_column("chooses by")
    for share, target in zip(SHARES, result["targets"], strict=True):
        table.add_column(f"{share:.0%} of the gain: {100 * target:.1f}%", justify="right")
    table.add_column("geometric mean", justify="right")
    for name, kind in curves.chosen:
        key = _key(name, kind)
        ratios = zip(result[f"{key}_by_share"], result[f"reached_{key}"], strict=True)
        cells = [told_saving(ratio, there) for ratio, there in ratios]
        table.add_row(f"{name}, {kind}", *cells, told(result[key], result[f"{key}_interval"]))
    table.add_section()
    flops = [f"{one / 1e9:.2f} GFLOPs" for one in result["vote_flops"]]
    table.add_row("best-of-N weighted needs", *flops, "")
    return table
