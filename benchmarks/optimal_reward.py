"""Reward-awareness (Liu et al.): what the fitted policy spends on voting and on search with a good and a weak verifier.

Both verifiers have one layout and cost the same a token, and `price` has the same kinds of arms with each: a vote
weighted by the verifier, a beam search that it guides, and a plain majority that does without. Nothing tells the policy
which verifier is weak but the labelled half of the prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optimal_pool import MAJORITY, VOTE, WEAK, Floats, Strategies
from recorded import Stand, spread, thinned
from rich.table import Table

from apportion.costs import Unit
from apportion.difficulty.fitted import is_search
from apportion.difficulty.pools import Deck, Pool
from apportion.scheduler.contest import Contest, Entry, Terms, goal_of

SEARCHES = ("beam@4", "beam@16")
KINDS = ("majority", "weighted vote", "search")
VERIFIERS = {"prm": "", "weak-prm": WEAK}
BUDGETS = 6
LEAST, MOST = 3e8, 6e9
"""FLOPs a prompt: about one sample with its prompt read, to well beyond what a vote needs to settle."""


@dataclass(frozen=True, slots=True)
class Spending:
    """With one verifier: shares of what is spent by kind of arm, [budgets, kinds], accuracy and cost, [budgets]."""

    verifier: str
    auc: float
    pass_rate: float
    shares: Floats
    accuracy: Floats
    cost: Floats


def arms_of(prefix: str) -> tuple[str, ...]:
    """The arms that a verifier's policy may buy from."""
    return (MAJORITY, f"{prefix}{VOTE}", *(f"{prefix}{name}" for name in SEARCHES))


def recorded(found: Strategies) -> bool:
    """Whether the weak verifier's arms are in the pool."""
    return all(name in found.pool.decks for name in arms_of(WEAK))


def spending(stand: Stand, found: Strategies) -> list[Spending]:
    """What `price` spends with each verifier, on the same prompts and as many samples."""
    return [_with(stand, found.pool, verifier, prefix) for verifier, prefix in VERIFIERS.items()]


def _with(stand: Stand, pool: Pool, verifier: str, prefix: str) -> Spending:
    names, vote = arms_of(prefix), f"{prefix}{VOTE}"
    most = min(int(pool.decks[f"{one}{VOTE}"].sizes.max()) for one in VERIFIERS.values())
    decks = {name: pool.decks[name] for name in names} | {vote: thinned(pool.decks[vote], most)}
    chosen = replace(pool, decks=decks)
    budgets = spread(LEAST, MOST, BUDGETS)
    repeats = stand.repeats_of(chosen)
    entry = Entry(names, "price", Unit.FLOPS, budgets)
    kind = np.array([_kind(name) for name in names])
    spent, value, cost = np.zeros((len(budgets), len(KINDS))), np.zeros(len(budgets)), np.zeros(len(budgets))
    for seed in range(repeats):
        # Other halves each time, as in `over_splits`.
        contest = Contest(chosen, names, Unit.FLOPS, Terms(1, seed, cross=True, goal=goal_of("accuracy")))
        by_arm = contest.shares(entry, 0).sum(axis=1)
        spent += np.stack([by_arm[:, kind == one].sum(axis=1) for one in range(len(KINDS))], axis=1)
        reached, paid = contest.repeat(entry, 0)
        value, cost = value + reached.mean(axis=1) / repeats, cost + paid.mean(axis=1) / repeats
    shares = spent / np.maximum(spent.sum(axis=1, keepdims=True), 1e-12)
    deck = pool.decks[vote]
    return Spending(verifier, auc_within(deck), float(deck.correct.mean()), shares, value, cost)


def _kind(name: str) -> int:
    return 2 if is_search(name) else 0 if name == MAJORITY else 1


def auc_within(deck: Deck) -> float:
    """How often a right candidate scores above a wrong one of the same prompt, mean over prompts that have both."""
    found = []
    for prompt in range(len(deck.sizes)):
        rows = slice(int(deck.begin[prompt]), int(deck.begin[prompt + 1]))
        right = deck.correct[rows]
        if right.any() and not right.all():
            above = deck.score[rows][right][:, None] - deck.score[rows][~right][None]
            found.append(float(((above > 0) + 0.5 * (above == 0)).mean()))
    return float(np.mean(found)) if found else float("nan")


def as_json(played: list[Spending]) -> dict[str, Any]:
    """What each verifier's policy spent, as JSON."""
    return {
        one.verifier: {
            "auc_within_prompts": one.auc,
            "pass_rate": one.pass_rate,
            "flops": one.cost.tolist(),
            "accuracy": one.accuracy.tolist(),
            **{f"share_{kind}": one.shares[:, at].tolist() for at, kind in enumerate(KINDS)},
        }
        for one in played
    }


def table_of(played: list[Spending]) -> Table:
    """Shares of the budget by kind of arm, with each verifier."""
    table = Table(title="Shares of what price spends, by verifier")
    for heading in ("verifier", "AUC within prompts", "GFLOPs a prompt", *KINDS, "accuracy"):
        table.add_column(heading, justify="left" if heading == "verifier" else "right")
    for one in played:
        for at in range(len(one.cost)):
            table.add_row(
                one.verifier if at == 0 else "",
                f"{one.auc:.2f}" if at == 0 else "",
                f"{one.cost[at] / 1e9:.2f}",
                *(f"{share:.0%}" for share in one.shares[at]),
                f"{100 * one.accuracy[at]:.1f}",
            )
        table.add_section()
    return table
