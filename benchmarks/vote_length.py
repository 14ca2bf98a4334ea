"""What the length of responses says in a plain vote: uniform voting, tilted, against uniform voting as it is.

    python benchmarks/vote_length.py [--pools DIR] [--only-pools NAME,NAME] [--orders 48]

Each half of the prompts is voted on with the slope that was fitted on the other (`apportion.difficulty.vote_length`),
the same number of samples for every prompt: no allocation is in it. Prints the samples that the plain vote needs over
those that the tilted one needs, at shares of what the plain vote gains over one sample, and the points it ends above
it. A target that is not reached within the recorded samples counts as all of them. Intervals are 90%, over the prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from recorded import Stand, pools_folder
from rich.console import Console
from rich.table import Table
from savings import Curve, bounded, costs_to_reach, figure, gain_targets, geometric, over_pools, resamples, savings
from voting import SHARES, arms_of

from apportion.difficulty.playbook import Orders, plain_book
from apportion.difficulty.pools import Pool
from apportion.difficulty.vote_length import fit_slope
from apportion.scheduler.plain import dumps

POOLS = ("addsub", "last-letters", "math500", "aime24")
"""Those that have lengths."""


def voted(pool: Pool, arm: str, orders: int, slopes: list[float]) -> Curve:
    """Uniform voting at every number of samples; prompts of even number have the first slope, others the second."""
    most = int(pool.decks[arm].sizes.min())
    values = np.zeros((most, len(pool.ids)))
    for half, slope in enumerate(slopes):
        prompts = np.arange(half, len(pool.ids), 2)
        walks = Orders(pool.part(prompts), orders, seed=0).walks(plain_book(arm, most, False, slope))
        values[:, prompts] = _every(walks.right, most).reshape(orders, len(prompts), most).mean(axis=0).T
    return Curve(values, np.broadcast_to(np.arange(1.0, most + 1.0)[:, None], values.shape), float(most))


def _every(right: np.ndarray, most: int) -> np.ndarray:
    """What was reached after each number of samples, [walks, most], from the looks that a playbook takes."""
    stops = np.array((0, *plain_book("vote", most, False).stops))
    return np.asarray(right[:, np.searchsorted(stops, np.arange(1, most + 1), side="right") - 1], dtype=np.float64)


def case(pool: Pool, arm: str, orders: int) -> tuple[list[float], np.ndarray, float]:
    """The two slopes, savings [draws, shares], and points gained with all samples."""
    deck = pool.decks[arm]
    everyone = np.arange(len(pool.ids))
    slopes = [fit_slope(deck.part(everyone[everyone % 2 != half])) for half in range(2)]
    plain, tilted = voted(pool, arm, orders, [0.0, 0.0]), voted(pool, arm, orders, slopes)
    weights = resamples(pool.name, len(pool.ids), 0)
    targets = gain_targets(plain, weights, SHARES)
    needed, mine = (costs_to_reach(curve, weights, targets) for curve in (plain, tilted))
    ends = 100.0 * float(tilted.values[-1].mean() - plain.values[-1].mean())
    return slopes, savings(needed, bounded(mine, plain.most)), ends


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=Path)
    parser.add_argument("--only-pools", metavar="NAME,NAME", help="play no others")
    parser.add_argument("--orders", type=int, default=48)
    given = parser.parse_args()
    names = None if given.only_pools is None else tuple(given.only_pools.split(","))
    stand = Stand(pools_folder(given.pools), 1, 1, None, False, names)
    table = Table("pool / arm", "slopes", *map(str, SHARES), "points at the end")
    by_pool: dict[str, list[np.ndarray]] = {}
    for name in POOLS:
        pool = stand.pool(name)
        for arm in [] if pool is None else arms_of(pool, None):
            assert pool is not None
            slopes, saved, ends = case(pool.only([arm]), arm, given.orders)
            by_pool.setdefault(name, []).append(saved)
            told = " / ".join(f"{slope:+.2f}" for slope in slopes)
            table.add_row(f"{name} / {arm}", told, *(f"{one:.2f}" for one in saved[0]), f"{ends:+.1f}")
    Console(width=120).print(table)
    result: dict[str, object] = {"benchmark": "vote_length", "shares": list(SHARES)}
    if by_pool:
        whole, pools = over_pools(by_pool)
        result |= figure("saving", whole)
        result |= {f"saving_{name}": float(draws[0]) for name, draws in pools.items()}
        each = geometric([geometric([line[0] for line in lines]) for lines in by_pool.values()])
        result["saving_by_share"] = each.tolist()
    print(dumps(result))


if __name__ == "__main__":
    main()
