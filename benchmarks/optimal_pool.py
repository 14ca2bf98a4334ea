"""The recorded strategies: their names, what each reaches by itself at which cost, and the prompts' difficulty.

A best-of-N of n samples costs its prompt once, n responses, and the verification of those that differ; its accuracy and
cost are means over all ways to draw n of what was recorded. A search is what was recorded of it, whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from savings import Curve, Floats
from scipy.special import gammaln

from apportion import lab
from apportion.costs import Unit
from apportion.difficulty.bins import ABSOLUTE, BANDS, BINS, QUANTILE, band_edges, places, quantile_edges
from apportion.difficulty.curves import curves_of
from apportion.difficulty.fitted import AT, is_search, search_size
from apportion.difficulty.pools import Deck, Pool, read_pool
from apportion.errors import DataError
from apportion.scheduler.contest import default_select

Ints = NDArray[np.int64]

POOL = "lab:pool/strategies"
VOTE, MAJORITY, GREEDY, LARGE = "vote", "majority", "greedy", "large"
SMALLS_SAMPLES = (VOTE, MAJORITY)
"""Independent samples of the small model: their pass@1 is a prompt's difficulty."""
LARGE_ARMS = (GREEDY, LARGE, "cascade", "rsd", "spec_reason")
CONTROL = "reviser"
"""Best-of-N of the model that writes revisions: first attempts alone, all in parallel, the one end of the ratio that
Snell et al. sweep. It tells what revisions are worth from what their model's training is."""
WEAK = "weak_"
"""How arms that are verified by the weak reward model begin."""
QUICK_PROMPTS = 120


@dataclass(frozen=True, slots=True)
class Strategies:
    """The pool, and each prompt's difficulty: pass@1 of the small model, [prompts]."""

    pool: Pool
    rate: Floats

    @property
    def arms(self) -> tuple[str, ...]:
        """What is chosen from: all arms but those of the weak reward model and the control (see `with_parallel`)."""
        return tuple(name for name in self.pool.decks if name != CONTROL and not name.startswith(WEAK))

    @property
    def small_arms(self) -> tuple[str, ...]:
        """Those that models of the small one's size write, without the large one."""
        return tuple(name for name in self.arms if name.partition(AT)[0] not in LARGE_ARMS)

    @property
    def with_parallel(self) -> tuple[str, ...]:
        """All arms, and the reviser's attempts in parallel, as the whole ratio of Snell et al. has them."""
        return tuple(name for name in self.pool.decks if name in self.arms or name == CONTROL)

    @property
    def samples(self) -> tuple[str, ...]:
        """Those that are drawn independently, the control among them."""
        control = (CONTROL,) if CONTROL in self.pool.decks else ()
        return (*(name for name in self.arms if not is_search(name)), *control)

    @property
    def searches(self) -> dict[str, tuple[int, ...]]:
        """The searches, and the sizes that were recorded of each."""
        found: dict[str, list[int]] = {}
        for name in self.arms:
            if is_search(name):
                found.setdefault(name.rpartition(AT)[0], []).append(search_size(name))
        return {name: tuple(sorted(sizes)) for name, sizes in found.items()}

    def bands(self) -> dict[str, Ints]:
        """Prompts by the bands of Liu et al., the easiest first."""
        at = places(self.rate, band_edges(), ABSOLUTE)
        names = [f"{name} ({low:g} to {high:g})" for name, low, high in BANDS]
        return {names[one]: np.flatnonzero(at == one) for one in reversed(range(len(BANDS)))}

    def quintiles(self) -> dict[str, Ints]:
        """Prompts by the bins of Snell et al., 1 the easiest."""
        at = places(self.rate, quantile_edges(self.rate), QUANTILE)
        return {f"quintile {BINS - one}": np.flatnonzero(at == one) for one in reversed(range(BINS))}

    def groups(self) -> dict[str, Ints]:
        """Prompts by what tables are read by: bands, quintiles, all."""
        return {**self.bands(), **self.quintiles(), "all": np.arange(len(self.rate))}


def strategies(folder: Path | None, quick: bool) -> Strategies:
    """The recorded pool; with `quick` some of its prompts, drawn at random. Raises DataError."""
    pool = read_pool(lab.lab_path(POOL) if folder is None else folder)
    lacking = [name for name in (*SMALLS_SAMPLES, GREEDY, LARGE) if name not in pool.decks]
    if lacking:
        raise DataError(f"pool {pool.name} has no arm {lacking[0]!r}; record it with benchmarks/optimal_record.py")
    if quick and len(pool.ids) > QUICK_PROMPTS:
        pool = pool.part(np.sort(np.random.default_rng(0).permutation(len(pool.ids))[:QUICK_PROMPTS]))
    right = sum(_by_prompt(pool.decks[name], pool.decks[name].correct) for name in SMALLS_SAMPLES)
    there = sum(pool.decks[name].sizes for name in SMALLS_SAMPLES)
    return Strategies(pool, np.asarray(right / np.maximum(there, 1)))


def _by_prompt(deck: Deck, values: NDArray[np.generic]) -> Floats:
    return np.bincount(deck.owner, weights=values.astype(np.float64), minlength=len(deck.sizes))


def sampled(deck: Deck, amounts: tuple[int, ...]) -> Curve:
    """A best-of-N at some amounts, by itself: its arm's own selector, costs in FLOPs."""
    values = curves_of(deck, amounts, "accuracy", default_select(deck)).T
    costs = np.stack([sampled_cost(deck, n) for n in amounts])
    return Curve(values, costs, float(costs[-1].mean()))


def verified_each(deck: Deck, amounts: tuple[int, ...]) -> Curve:
    """`sampled` where every response is verified, equal ones too: what engines that do not look for them charge."""
    each = _by_prompt(deck, deck.cost(Unit.FLOPS)) / deck.sizes
    reading = 0.0 if deck.reuse is None else deck.reuse.prompt
    costs = np.stack([np.asarray(reading + n * each) for n in amounts])
    return Curve(sampled(deck, amounts).values, costs, float(costs[-1].mean()))


def sampled_cost(deck: Deck, n: int) -> Floats:
    """FLOPs of n samples of each prompt, the mean over all ways to draw them, [prompts].

    Of equal responses the first is verified. That a response is among n of N is certain but for C(N - m, n) / C(N, n)
    where m are like it.
    """
    size = deck.sizes
    each = _by_prompt(deck, deck.cost(Unit.FLOPS)) / size
    if deck.reuse is None:
        return np.asarray(n * each)
    alike = np.stack([deck.owner, deck.reuse.like])
    (owner, _), first, many = np.unique(alike, axis=1, return_index=True, return_counts=True)
    absent = np.exp(_log_choose(size[owner] - many, n) - _log_choose(size[owner], n))
    verified = np.bincount(owner, weights=deck.reuse.once[first] * (1.0 - absent), minlength=len(size))
    whole = _by_prompt(deck, deck.reuse.once) / size
    return np.asarray(deck.reuse.prompt + n * (each - whole) + verified)


def _log_choose(size: Ints, n: int) -> Floats:
    """log C(size, n); -inf where n > size."""
    left = np.maximum(size - n, 0)
    return np.where(size >= n, gammaln(size + 1.0) - gammaln(n + 1.0) - gammaln(left + 1.0), -np.inf)


def searched(deck: Deck) -> tuple[Floats, Floats]:
    """What a search reaches and costs on each prompt with all its finals, [prompts] each."""
    sizes = tuple(sorted(set(deck.sizes[deck.sizes > 0].tolist())))
    curve = curves_of(deck, sizes, "accuracy", default_select(deck))
    last = np.searchsorted(np.array(sizes), deck.sizes)
    value = np.where(deck.sizes > 0, curve[np.arange(len(last)), np.minimum(last, len(sizes) - 1)], 0.0)
    return value, _by_prompt(deck, deck.cost(Unit.FLOPS))


def search_curve(found: Strategies, name: str) -> Curve:
    """A search at the sizes that were recorded."""
    points = [searched(found.pool.decks[f"{name}{AT}{size}"]) for size in found.searches[name]]
    costs = np.stack([cost for _, cost in points])
    return Curve(np.stack([value for value, _ in points]), costs, float(costs[-1].mean()))
