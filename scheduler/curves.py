"""The truth about the prompts of a pool, which only a replay may know: their mean curves, and what candidates cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from apportion.costs import Unit
from apportion.difficulty.curves import ORDERS, SELECTS, curves_of, grid
from apportion.difficulty.pools import Deck, Pool
from apportion.policies.selectors import predicted_as
from apportion.scheduler.known import Truth

Floats = NDArray[np.float64]


def truth_of(
    pool: Pool,
    objective: str = "accuracy",
    select: str | Mapping[str, str] = "majority",
    unit: Unit | None = None,
    orders: int = ORDERS,
    seed: int = 0,
) -> Truth:
    """The mean curves of every arm of a pool; `select` is one selector, or one for each arm by name.

    With a `unit`, the mean cost of one candidate of each prompt is known too, where
    the pool tells it. Raises ConfigError for an objective or selector without a curve.
    """
    amounts: dict[str, tuple[int, ...]] = {}
    curves: dict[str, Floats] = {}
    costs: dict[str, Floats] = {}
    for arm, deck in pool.decks.items():
        amounts[arm] = grid(int(deck.sizes.max(initial=0)))
        chosen = select if isinstance(select, str) else select[arm]
        # Recorded candidates belong to no chain, and where none do a hierarchical choice is the weighted vote.
        told = chosen if chosen in SELECTS else predicted_as(chosen)
        curves[arm] = curves_of(deck, amounts[arm], objective, told, orders, seed)
        known = None if unit is None else mean_cost(deck, unit)
        if known is not None:
            costs[arm] = known
    return Truth(amounts, curves, costs)


def mean_cost(deck: Deck, unit: Unit) -> Floats | None:
    """Mean recorded cost of one candidate of each prompt, [prompts]; None where the pool does not tell."""
    each = deck.cost(unit)
    if not np.isfinite(each).all():
        return None
    total = np.bincount(deck.owner, weights=each, minlength=len(deck.sizes))
    return np.asarray(total / np.maximum(deck.sizes, 1))
