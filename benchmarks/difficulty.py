"""How well difficulty is told, and what telling it costs: by text, hidden state, probe, scores, and together.

    python benchmarks/difficulty.py [--prompts N] [--pools DIR] [--picture docs/difficulty.png]

Fitted on lab:pool/calibration and judged on lab:pool/test, arm `small`, whose hidden states are read here by the
embedded engine; recorded pools with texts (`--pools`, or APPORTION_POOLS) are fitted on one half of the prompts, judged
on the other, and have no hidden states. Prints the rank correlation with true pass@1, the Brier score of single
candidates, the calibration error, the shares of prompts put in the right quintile and in the right band, with 90%
intervals over prompts, and what each estimate costs a prompt. FLOPs are counted as in a job: the prompt once, each
completion, and the verifier's reading of the prompt and of every completion.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from estimates import FIELDS, Costs, Estimate, Truth, estimates, groups, resampled
from recorded import pools_folder
from rich.console import Console
from rich.table import Table

from apportion.actors.fingerprint import files_hash
from apportion.actors.protocols import Embedder
from apportion.actors.registry import build_engine, describe
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import ModelProfile, attended
from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.hidden import HiddenStates
from apportion.difficulty.pools import Deck, Pool, read_pool
from apportion.difficulty.tallies import first
from apportion.lab import lab_path
from apportion.scheduler.plain import dumps
from apportion.types import Embed, Embedded, Message

ARM = "small"
POOLS = ("addsub", "last-letters", "math500", "cruxeval-output")
FEWEST_CANDIDATES = 12
"""After the largest probe there must be enough left to tell what is true."""
DRAWN = ("text", "hidden state", "probe of 4", "mean score of 4", "hidden state and probe of 4, scored")
"""Estimates in the picture of calibration."""

Row = dict[str, Any]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, help="use so many prompts of each lab pool; all unless given")
    parser.add_argument("--pools", type=Path)
    parser.add_argument("--picture", type=Path, help="draw the calibration of the lab's estimates")
    given = parser.parse_args()
    begin = time.perf_counter()
    truth, found = lab(given.prompts)
    rows = {"lab": table_of("lab", truth, found)}
    for name, pool in recorded(pools_folder(given.pools)):
        rows[name] = table_of(name, *halves(pool))
    if given.picture is not None:
        draw(found, truth, given.picture)
    seconds = round(time.perf_counter() - begin, 1)
    print(dumps({"benchmark": "difficulty", "prompts": len(truth.rate), "seconds": seconds, "pools": rows}))


def lab(prompts: int | None) -> tuple[Truth, list[Estimate]]:
    """The lab's estimates: fitted on one pool, judged on the other."""
    pools = {}
    for name in ("calibration", "test"):
        whole = read_pool(lab_path(f"lab:pool/{name}")).only([ARM])
        pools[name] = whole if prompts is None else whole.part(np.arange(prompts))
    small = ModelSpec(ARM, "embedded", Role.POLICY, str(lab_path(f"lab:{ARM}")), engine_args={"prefix_cache_mb": 0})
    prm = ModelSpec("prm", "embedded", Role.SCORER, str(lab_path("lab:prm")))
    replies = {name: asyncio.run(read_states(small, pool.texts)) for name, pool in pools.items()}
    for name, pool in pools.items():
        vectors = np.array([one.vector for one in replies[name]], dtype=np.float32)
        states = HiddenStates(ARM, files_hash(Path(small.path)), vectors)
        pools[name] = replace(pool, hidden=states)
    policy, test = fit_beliefs(pools["calibration"], ["lab"]), pools["test"]
    profiles = [describe(small).profile(), describe(prm).profile()]
    read = np.array([one.usage.prompt_tokens for one in replies["test"]], dtype=np.float64)
    look = float(np.mean(profiles[0].flops(read, attended(0, read))))
    costs = lab_costs(test.deck(ARM), read, profiles[0], profiles[1])
    return Truth.of(test.deck(ARM)), estimates(policy, test, ARM, costs, (look, float(read.mean())))


async def read_states(spec: ModelSpec, texts: Sequence[str]) -> list[Embedded]:
    """The hidden state at the end of each prompt, by the real engine."""
    engine = build_engine(spec)
    assert isinstance(engine, Embedder)
    try:
        return list(await asyncio.gather(*(engine.embed(Embed(spec.name, (Message("user", one),))) for one in texts)))
    finally:
        await engine.close()


def lab_costs(deck: Deck, read: np.ndarray, policy: ModelProfile, verifier: ModelProfile) -> Costs:
    """What a probe costs a prompt on average; `read` are the prompts' tokens, [prompts]."""

    def costs(size: int, scored: bool) -> tuple[float | None, float]:
        some = first(deck.owner, size)
        owner, wrote = deck.owner[some], deck.tokens[some]
        before = read[owner]
        flops = float(np.sum(policy.flops(read, attended(0, read))))
        flops += float(np.sum(policy.flops(wrote, attended(before, wrote))))
        tokens = float(read.sum() + wrote.sum())
        if scored:
            flops += float(np.sum(verifier.flops(read, attended(0, read))))
            flops += float(np.sum(verifier.flops(wrote, attended(before, wrote))))
            tokens *= 2.0
        return flops / len(read), tokens / len(read)

    return costs


def recorded(folder: Path | None) -> list[tuple[str, Pool]]:
    """Recorded pools whose prompts have texts, each with its arm of the most candidates."""
    if folder is None:
        return []
    found = []
    for name in POOLS:
        if not (folder / name / "candidates.parquet").is_file():
            continue
        pool = read_pool(folder / name)
        arm = max(pool.decks, key=lambda one: (int(pool.decks[one].sizes.min()), one))
        if any(pool.texts) and int(pool.decks[arm].sizes.min()) >= FEWEST_CANDIDATES:
            found.append((name, pool.only([arm])))
    return found


def halves(pool: Pool) -> tuple[Truth, list[Estimate]]:
    """Estimates of a pool, each half of the prompts by what the other taught."""
    (arm,) = pool.decks
    order = np.random.default_rng(0).permutation(len(pool.ids))
    parts = [np.sort(half) for half in np.array_split(order, 2)]
    costs = by_length(pool.deck(arm))
    told: dict[str, Estimate] = {}
    rate = np.full(len(pool.ids), np.nan)
    for own, other in (parts, parts[::-1]):
        held = pool.part(own)
        rate[own] = Truth.of(held.deck(arm)).rate
        for one in estimates(fit_beliefs(pool.part(other), [pool.name]), held, arm, costs, (None, 0.0)):
            before = told.get(one.name)
            said = np.full(len(pool.ids), np.nan) if before is None else before.said
            said[own] = one.said
            told[one.name] = replace(one, said=said)
    # A half whose texts tell nothing has no estimate by text.
    return Truth(rate), [one for one in told.values() if np.isfinite(one.said).all()]


def by_length(deck: Deck) -> Costs:
    """Of a pool whose models are not here: no FLOPs, and the tokens of the completions alone."""

    def costs(size: int, scored: bool) -> tuple[float | None, float]:
        return None, float(np.nan_to_num(deck.tokens[first(deck.owner, size)]).sum()) / len(deck.sizes)

    return costs


def table_of(name: str, truth: Truth, found: Sequence[Estimate]) -> list[Row]:
    """Print a pool's estimates; the rows as plain data."""
    table = Table(title=f"{name}: {len(truth.rate)} prompts", title_justify="left")
    table.add_column("estimate")
    for heading in ("rank correlation", "Brier", "calibration error", "right quintile", "right band", "cost"):
        table.add_column(heading, justify="right")
    rows: list[Row] = []
    for one in found:
        value, low, high = resampled(one.said, truth)
        cells = [f"{v:.3f} ({a:.3f} to {b:.3f})" for v, a, b in zip(value, low, high, strict=True)]
        cost = f"{one.tokens:,.0f} tokens" if one.flops is None else f"{one.flops / 1e6:,.0f} MFLOPs"
        table.add_row(one.name, *cells, cost)
        figures = {key: [float(v), float(a), float(b)] for key, v, a, b in zip(FIELDS, value, low, high, strict=True)}
        rows.append({"estimate": one.name, **figures, "flops": one.flops, "tokens": one.tokens})
    Console(width=180).print(table)
    return rows


def draw(found: Sequence[Estimate], truth: Truth, path: Path) -> None:
    """Two panels: what was predicted against what came true, and rank correlation against cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for one in found:
        if one.name in DRAWN:
            _, predicted, true, _ = groups(one.said, truth.rate)
            left.plot(predicted, true, marker="o", markersize=3, label=one.name)
    left.set_xlabel("predicted pass@1, mean of a group of like predictions")
    left.set_ylabel("true pass@1 of the group")
    left.legend(fontsize=8, frameon=False)
    shown = [one for one in found if one.flops is not None and np.ptp(one.said) > 0.0]
    for number, one in enumerate(shown):
        value, low, high = (part[0] for part in resampled(one.said, truth))
        x, mark = (one.flops or 0.0) / 1e6, "os"[number // 10]
        bars = [[value - low], [high - value]]
        right.errorbar(x, value, bars, fmt=mark, color=f"C{number % 10}", label=one.name)
    right.set_xscale("symlog", linthresh=50)
    right.set_xlabel("MFLOPs a prompt")
    right.set_ylabel("rank correlation with true pass@1, 90% interval")
    right.legend(fontsize=7, frameon=False, loc="lower right")
    for panel in (left, right):
        panel.grid(alpha=0.25)
    figure.savefig(path, dpi=150, format="png")


if __name__ == "__main__":
    main()
