"""What labelled pools say of amounts: the accuracy each arm reaches, by how a probe came out and by pass rate.

Two tables, both of recorded prompts' mean curves (`apportion.difficulty.curves`):
- by *bin* of difficulty, as in Snell et al. 2024 (arXiv 2408.03314), section 3.2: five quantile bins of what a few
  samples of one arm, the probe, show: their mean score, or without scores the leading answer's share; and, as an oracle
  knows it, of that arm's own pass@1, in quantile bins and in the bands of `apportion.difficulty.bins`;
- by *pass rate* of the arm itself, at knots between which it is interpolated.

Plain numbers, so that a fitted policy can hold it as JSON; no number is nan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.bins import (
    ABSOLUTE,
    BANDS,
    BINS,
    QUANTILE,
    band_edges,
    oracle_difficulty,
    places,
    quantile_edges,
)
from apportion.difficulty.curves import curves_of
from apportion.difficulty.pools import Deck, Pool

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]

KNOTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Pass rates: closer at the ends, where votes are decided or hopeless."""
SIZES = (1, 2, 4, 8)
"""Probes a bin is made for; a probe of another size uses the next smaller one."""
PROBES = 16
"""Random probes of each prompt: a prompt's bin is a chance, and this many tell it."""
ORDERS = 64
"""Random orders of each prompt's votes: means over a bin need fewer than a prompt's own curve."""
PROBING = 4
"""The cheapest arms (of equals the best) have tables for every arm; a probe of any other arm tells of that arm alone.
A probe is made with a cheap arm, and tables for all pairs would grow with the square of the arms."""
PSEUDO_PROMPTS = 1.0
"""A bin or knot leans on what is expected of it without prompts as on this many."""
DIGITS = 4
"""Decimals of a table: more than pools can tell."""
EDGE_DIGITS = 9
"""Decimals of an edge: confidences may lie very near to 0 or 1."""

COVERAGE = "coverage"
REWARD, SCORE, SHARE = "reward", "score", "share"
"""What a probe shows: how many candidates were right, their mean score, or the leading answer's share."""
RATE = "rate"
"""What no probe shows: the pass@1 of the arm, over all that was recorded."""


@dataclass(frozen=True, slots=True)
class ArmTable:
    """One arm: its amounts, its pass rate, its costs a candidate (None where unknown), and its curves at the knots.

    `knots` is [KNOTS][amounts], by what chooses: a selector's name, or "coverage".
    """

    amounts: tuple[int, ...]
    pass_rate: float
    tokens: float | None
    dollars: float | None
    knots: Mapping[str, Rows]


@dataclass(frozen=True, slots=True)
class ProbeTable:
    """What a probe of `size` samples of `arm` tells. `value` is [bins][amounts], by what chooses and by arm.

    `shares` are the bins' shares of the prompts, `edges` lie between bins of the kind `bins` (see `bins.places`). Where
    it shows `RATE` there was no probe: its size is 0.
    """

    arm: str
    size: int
    shows: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    value: Mapping[str, Mapping[str, Rows]]
    bins: str = QUANTILE

    def bin(self, seen: float) -> int:
        """The bin of what a probe showed."""
        return int(places(seen, self.edges, self.bins))


@dataclass(frozen=True, slots=True)
class Table:
    """See the module."""

    arms: Mapping[str, ArmTable]
    probes: tuple[ProbeTable, ...]

    def probe(self, arm: str, size: int, shows: str) -> ProbeTable | None:
        """The table for a probe: of its size, or of the next smaller one that there is."""
        fits = [one for one in self.probes if one.arm == arm and one.shows == shows and one.size <= size]
        return max(fits, key=lambda one: one.size, default=None)

    def oracle(self, arm: str, bins: str) -> ProbeTable | None:
        """The table by the arm's own pass@1, in bins of a kind; None where a fit of an older version has none."""
        return next((one for one in self.probes if (one.arm, one.shows, one.bins) == (arm, RATE, bins)), None)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Table:
        """What `dataclasses.asdict` made. Raises KeyError, TypeError or ValueError where it is damaged."""
        arms = {
            str(name): ArmTable(
                tuple(map(int, arm["amounts"])),
                float(arm["pass_rate"]),
                None if arm["tokens"] is None else float(arm["tokens"]),
                None if arm["dollars"] is None else float(arm["dollars"]),
                {str(kind): _rows(rows, len(KNOTS), len(arm["amounts"])) for kind, rows in arm["knots"].items()},
            )
            for name, arm in raw["arms"].items()
        }
        return cls(arms, tuple(_probe_from(one, arms) for one in raw["probes"]))


def fit_table(pool: Pool) -> Table:
    """The table of a labelled pool, all its arms."""
    curves = {name: _curves(deck) for name, deck in pool.decks.items()}
    arms = {name: _arm_table(deck, curves[name]) for name, deck in pool.decks.items()}
    known = all(deck.flops is not None for deck in pool.decks.values())
    price = {
        name: (_flops(pool.decks[name]) if known else 0.0, arm.tokens or 0.0, arm.dollars or 0.0, -arm.pass_rate)
        for name, arm in arms.items()
    }
    cheapest = sorted(arms, key=lambda name: price[name])[:PROBING]
    probes: list[ProbeTable] = []
    for at, (name, deck) in enumerate(pool.decks.items()):
        told = curves if name in cheapest else {name: curves[name]}
        for size in SIZES:
            if size <= int(deck.sizes.max(initial=0)):
                rng = np.random.default_rng([size, at])
                probes += _probe_tables(deck, size, told, rng)
        if len(deck.answer):
            probes += _oracle_tables(deck, told)
    return Table(arms, tuple(probes))


def _flops(deck: Deck) -> float:
    """What the least purchase of an arm costs on average; of a search, the whole of it."""
    # That module holds tables.
    from apportion.difficulty.fitted import search_size

    return 0.0 if deck.flops is None or not len(deck.flops) else float(deck.flops.mean()) * search_size(deck.arm)


def amounts_to(most: int) -> tuple[int, ...]:
    """The powers of two up to `most`, and `most`."""
    return tuple(sorted({*(1 << at for at in range(most.bit_length())), most})) if most else ()


def _curves(deck: Deck) -> dict[str, Floats]:
    """Mean curves by what chooses, [prompts, amounts]."""
    amounts = amounts_to(int(deck.sizes.max(initial=0)))
    selects = ("majority", "max_score", "weighted") if deck.scored else ("majority",)
    found = {select: curves_of(deck, amounts, "accuracy", select, ORDERS) for select in selects}
    found[COVERAGE] = curves_of(deck, amounts, COVERAGE, "majority")
    return found


def _arm_table(deck: Deck, curves: Mapping[str, Floats]) -> ArmTable:
    amounts = amounts_to(int(deck.sizes.max(initial=0)))
    sizes = np.maximum(deck.sizes, 1)
    rate = np.bincount(deck.owner, weights=deck.correct.astype(np.float64), minlength=len(sizes)) / sizes
    knots = np.array(KNOTS)
    # Each prompt counts at the two knots around its pass rate, by nearness.
    weights = np.stack([np.interp(rate, knots, np.eye(len(knots))[at]) for at in range(len(knots))], axis=1)
    weights[deck.sizes == 0] = 0.0
    table = {}
    for kind, curve in curves.items():
        # Without prompts, more candidates do to a vote nothing, and to coverage what chance does.
        steps = np.array(amounts)[None]
        expected = 1.0 - (1.0 - knots[:, None]) ** steps if kind == COVERAGE else knots[:, None] + 0.0 * steps
        table[kind] = _mean(weights, curve, expected)
    passed = float(rate[deck.sizes > 0].mean()) if deck.sizes.any() else 0.0
    return ArmTable(amounts, passed, _known(deck.tokens), _known(deck.dollars), table)


def _probe_tables(
    deck: Deck, size: int, told: Mapping[str, Mapping[str, Floats]], rng: np.random.Generator
) -> list[ProbeTable]:
    """What a probe of `size` tells: by the votes, by rewards, and where there are any by scores."""
    drawn = _draw(deck, size, rng)
    full = deck.sizes >= size
    found = []
    for shows in (SHARE, REWARD, SCORE) if deck.scored else (SHARE, REWARD):
        seen = _seen(deck, drawn, shows)
        edges = quantile_edges(seen[full])
        place = places(seen, edges)
        weights = np.stack([(place == at).mean(axis=1) for at in range(BINS)], axis=1) * full[:, None]
        value = _told(weights, full, told, only_coverage=shows == REWARD)
        shares = weights.sum(axis=0) / weights.sum()
        found.append(ProbeTable(deck.arm, size, shows, _short(edges, EDGE_DIGITS), _short(shares), value))
    return found


def _oracle_tables(deck: Deck, told: Mapping[str, Mapping[str, Floats]]) -> list[ProbeTable]:
    """The tables by the arm's own pass@1: quantile bins and absolute bands."""
    rate = oracle_difficulty(deck)
    known = np.isfinite(rate)
    found = []
    for kind, edges in ((QUANTILE, quantile_edges(rate[known])), (ABSOLUTE, band_edges())):
        weights = np.eye(len(edges) + 1)[places(np.nan_to_num(rate), edges, kind)] * known[:, None]
        shares = weights.sum(axis=0) / weights.sum()
        value = _told(weights, known, told, only_coverage=False)
        found.append(ProbeTable(deck.arm, 0, RATE, _short(edges, EDGE_DIGITS), _short(shares), value, kind))
    return found


def _told(
    weights: Floats, full: NDArray[np.bool_], told: Mapping[str, Mapping[str, Floats]], only_coverage: bool
) -> dict[str, dict[str, Rows]]:
    """The bins' mean curves, by what chooses and by arm; `weights` are the prompts' shares in the bins."""
    value: dict[str, dict[str, Rows]] = {}
    for arm, curves in told.items():
        for kind, curve in curves.items():
            if kind == COVERAGE or not only_coverage:
                average = _mean(np.ones((len(curve), 1)) * full[:, None], curve, np.zeros((1, curve.shape[1])))
                value.setdefault(kind, {})[arm] = _mean(weights, curve, np.array(average))
    return value


def _draw(deck: Deck, size: int, rng: np.random.Generator) -> Ints:
    """Random probes, [prompts, PROBES, size], as rows of the deck; of prompts with too few candidates, anything."""
    widest = int(deck.sizes.max(initial=0))
    keys = rng.random((len(deck.sizes), PROBES, widest))
    keys[np.broadcast_to((np.arange(widest)[None] >= deck.sizes[:, None])[:, None], keys.shape)] = 2.0
    first = np.argsort(keys, axis=2)[:, :, :size]
    return np.asarray(np.minimum(deck.begin[:-1, None, None] + first, len(deck.answer) - 1))


def _seen(deck: Deck, drawn: Ints, shows: str) -> Floats:
    """What each probe shows, [prompts, PROBES]."""
    if shows == REWARD:
        return np.asarray(deck.correct[drawn].mean(axis=2))
    if shows == SCORE:
        average = float(np.nanmean(deck.score))
        return np.asarray(np.nan_to_num(deck.score, nan=average)[drawn].mean(axis=2))
    answers = deck.answer[drawn]
    same = (answers[..., :, None] == answers[..., None, :]) & (answers[..., None] >= 0)
    return np.asarray(same.sum(axis=3).max(axis=2) / drawn.shape[2])


def _mean(weights: Floats, curve: Floats, expected: Floats) -> Rows:
    """Weighted means of curves, [groups][amounts], leaning on what is expected; nan counts nowhere."""
    known = np.isfinite(curve)
    total = weights.T @ np.nan_to_num(curve) + PSEUDO_PROMPTS * expected
    return tuple(map(_short, total / (weights.T @ known + PSEUDO_PROMPTS)))


def _short(row: Sequence[float] | Floats, digits: int = DIGITS) -> tuple[float, ...]:
    return tuple(round(float(one), digits) for one in row)


def _known(values: Floats) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _rows(raw: Any, rows: int, columns: int) -> Rows:
    values = np.array(raw, dtype=np.float64)
    if values.shape != (rows, columns) or not np.isfinite(values).all():
        raise ValueError(f"a table has shape {values.shape}; it must be {(rows, columns)}, all of it known")
    return tuple(map(tuple, values.tolist()))


def _probe_from(raw: Mapping[str, Any], arms: Mapping[str, ArmTable]) -> ProbeTable:
    kind = str(raw.get("bins", QUANTILE))
    count = {QUANTILE: BINS, ABSOLUTE: len(BANDS)}[kind]
    value = {
        str(one): {str(arm): _rows(rows, count, len(arms[arm].amounts)) for arm, rows in by.items()}
        for one, by in raw["value"].items()
    }
    edges, shares = tuple(map(float, raw["edges"])), tuple(map(float, raw["shares"]))
    if len(edges) != count - 1 or len(shares) != count or list(edges) != sorted(edges):
        raise ValueError(
            f"a probe has {len(edges)} edges and {len(shares)} shares; of {kind} bins it must have {count - 1}, "
            f"ascending, and {count}"
        )
    return ProbeTable(str(raw["arm"]), int(raw["size"]), str(raw["shows"]), edges, shares, value, kind)
