"""What a policy saves: costs to reach an accuracy, ratios of them, geometric means, and intervals over the prompts.

A frontier is made non-decreasing first (a larger budget that lost by chance is not held against a policy) and is linear
in cost between budgets. Draws are resamples of a pool's prompts, the same for every policy of the pool; the first draw
is the prompts as they are, so row 0 of every array of draws is the figure itself. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 400
NINETY = (5.0, 95.0)
CLEAR = 2.0
"""A gain of fewer standard errors than this is noise, and so are the targets that are shares of it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a policy reached on each prompt and what it paid, means over repeats, [budgets, prompts].

    `most` is the largest budget that was played, per prompt.
    """

    values: Floats
    costs: Floats
    most: float

    def means(self, weights: Floats) -> tuple[Floats, Floats]:
        """Mean cost and value of each draw, [draws, budgets] each; `weights` are [draws, prompts]."""
        return weights @ self.costs.T, weights @ self.values.T

    @staticmethod
    def mean(curves: Sequence[Curve]) -> Curve:
        """The curve of all repeats, from those of equal parts of them."""
        values, costs = (np.mean([getattr(one, name) for one in curves], axis=0) for name in ("values", "costs"))
        return Curve(values, costs, curves[0].most)


def resamples(name: str, prompts: int, seed: int, count: int = RESAMPLES) -> Floats:
    """Weights of the prompts, [1 + count, prompts], rows of sum 1, the first row even; the same for the same name."""
    rng = np.random.default_rng([seed, crc32(name.encode())])
    drawn = rng.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=count)
    return np.concatenate([np.ones((1, prompts)), drawn]) / prompts


def rising(cost: Floats, value: Floats) -> tuple[Floats, Floats]:
    """A frontier by rising cost, never falling, [budgets] each."""
    order = np.argsort(cost, kind="stable")
    return cost[order], np.maximum.accumulate(value[order])


def cost_to_reach(cost: Floats, value: Floats, target: float) -> float:
    """The cost at which a frontier first has the target, its least where it begins above it; nan where it never has.

    `cost` and `value` are [budgets], in any order.
    """
    paid, reached = rising(cost, value)
    if not reached[-1] >= target:
        return float("nan")
    at = int(np.searchsorted(reached, target))
    if at == 0:
        return float(paid[0])
    share = (target - reached[at - 1]) / (reached[at] - reached[at - 1])
    return float(paid[at - 1] + share * (paid[at] - paid[at - 1]))


def costs_to_reach(curve: Curve, weights: Floats, targets: Floats) -> Floats:
    """Costs to reach each draw's targets, nan where never, [draws, points]; `targets` are [draws, points]."""
    cost, value = curve.means(weights)
    rows = zip(cost, value, targets, strict=True)
    return np.array([[cost_to_reach(paid, got, one) for one in wanted] for paid, got, wanted in rows])


def gain_targets(uniform: Curve, weights: Floats, shares: Sequence[float]) -> Floats:
    """Shares of what uniform gains from its first budget to its best, [draws, points]."""
    _, value = uniform.means(weights)
    first = value[:, :1]
    return np.asarray(first + np.array(shares) * (value.max(axis=1, keepdims=True) - first))


def clear_gain(uniform: Curve) -> bool:
    """Whether uniform's best gain over its first budget is at least two standard errors, over the prompts."""
    best = int(uniform.values.mean(axis=1).argmax())
    gains = uniform.values[best] - uniform.values[0]
    if len(gains) < 2:
        return False
    return bool(gains.mean() > 0.0 and gains.mean() >= CLEAR * gains.std(ddof=1) / np.sqrt(len(gains)))


def savings(uniform: Floats, policy: Floats) -> Floats:
    """Cost of uniform over cost of a policy; nan where the policy never reached."""
    return np.asarray(uniform / policy)


def against_best(saved: Floats, baselines: Sequence[Floats]) -> Floats:
    """A saving over the best of the baselines' and of uniform itself, whose saving is 1."""
    best = np.ones_like(saved)
    for one in baselines:
        best = np.fmax(best, one)
    return np.asarray(saved / best)


def against_chosen(saved: Sequence[Floats], baselines: Sequence[Sequence[Floats]]) -> Floats:
    """A saving over that of the best baseline where it was chosen on other repeats than both are scored on.

    The best of several noisy savings is the luckiest one, and as good as it looks only if it is measured again.
    `saved` has one array for each half of the repeats, `baselines` as many for each baseline; uniform, whose saving is
    1, is one of them. Those that do not reach in the half that scores are left out, as in `against_best`. Geometric
    mean of the two ways round.
    """
    halves = range(len(saved))
    stacked = [np.stack([np.ones_like(saved[half]), *(one[half] for one in baselines)]) for half in halves]
    ratios = []
    for half in halves:
        hoped = np.where(np.isnan(stacked[half]), 0.0, np.nan_to_num(stacked[1 - half], nan=0.0))
        chosen = hoped.argmax(axis=0)[None]
        ratios.append(saved[half] / np.take_along_axis(stacked[half], chosen, axis=0)[0])
    return geometric(ratios)


def bounded(cost: Floats, most: float) -> Floats:
    """Costs to reach, with the largest budget that was played where a target was never reached."""
    return np.where(np.isnan(cost), most, cost)


def geometric(values: Sequence[Floats] | Floats, axis: int = 0) -> Floats:
    """Geometric mean over an axis."""
    return np.asarray(np.exp(np.log(np.asarray(values, dtype=np.float64)).mean(axis=axis)))


def interval(draws: Floats) -> list[float]:
    """The 90% interval over resamples: row 0, the figure itself, is left out."""
    low, high = np.percentile(draws[1:], NINETY, axis=0)
    return [float(low), float(high)]


def figure(key: str, draws: Floats) -> dict[str, object]:
    """A figure and its interval under a key, for the JSON line; `draws` are [draws]."""
    return {key: float(draws[0]), f"{key}_interval": interval(draws)}


def told(value: float, ends: Sequence[float]) -> str:
    """A figure and its interval, for a table."""
    return f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def told_saving(ratio: float, reached: bool) -> str:
    """A saving, for a table; a bound of it where the target was never reached."""
    return f"{ratio:.2f}" if reached else f"under {ratio:.2f}"


def over_pools(draws: Mapping[str, Sequence[Floats]]) -> tuple[Floats, dict[str, Floats]]:
    """Geometric mean over pools of each pool's geometric mean over its lines and points.

    `draws` are [draws, points], one a line, by pool. Returns [draws], and by pool.
    """
    pools = {pool: geometric([geometric(line, axis=1) for line in lines]) for pool, lines in draws.items()}
    return geometric(list(pools.values())), pools
