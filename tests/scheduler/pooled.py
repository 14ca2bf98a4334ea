"""Small made-up pools of every kind, dealt as a job's candidates: what the tests of allocation policies share."""

from __future__ import annotations

import numpy as np

from apportion.difficulty.objectives import Objective
from apportion.difficulty.pools import Deck, Pool
from apportion.policies.arm import Arm
from apportion.policies.best_of_n import BestOfN
from apportion.scheduler.allocation import Problem
from apportion.types import Candidate, Draft, Finish, Sampling

KINDS = ("voting", "weighted", "checkable", "confidence")
WORDS = ("easy", "plain", "odd", "hard", "impossible")


class Lengths:
    """A cost model: so much a sample of an arm, by prompt, [prompts]."""

    def __init__(self, each):
        self.each = each

    def predict(self, prompts, arm, n):
        return self.each[arm][prompts] * n

    def predict_one(self, prompt, arm, n):
        return float(self.each[arm][prompt]) * n

    def known(self, arm):
        return True


def pool(kind: str, prompts: int = 24, size: int = 16, seed: int = 0) -> Pool:
    """Two arms, the second better and four times dearer; texts tell the pass rate roughly."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    rates = rng.beta(1.2, 0.8, prompts)
    size = 1 if kind == "confidence" else size
    decks = {}
    for name, lift, tokens in (("small", 0.0, 10.0), ("large", 1.0, 40.0)):
        rate = 1.0 / (1.0 + np.exp(-(np.log(rates / (1.0 - rates)) + lift)))
        correct = rng.random((prompts, size)) < rate[:, None]
        answer = np.where(correct, 0, 1 + rng.geometric(0.5, (prompts, size)))
        answer[rng.random((prompts, size)) < 0.05] = -1
        correct &= answer >= 0
        score = 1.0 / (1.0 + np.exp(-rng.normal(np.where(correct, 1.0, -1.0), 1.2)))
        score = {"checkable": correct * 1.0, "voting": score * np.nan}.get(kind, score)
        begin = np.arange(prompts + 1, dtype=np.int64) * size
        each = np.repeat(tokens * rng.uniform(0.5, 1.5, prompts), size) * rng.uniform(0.8, 1.2, prompts * size)
        nothing = np.full(prompts * size, np.nan)
        decks[name] = Deck(name, begin, answer.ravel(), correct.ravel(), np.rint(each), score.ravel(), nothing)
    texts = [f"{WORDS[min(4, int(5 * (1 - rate)))]} question {at}" for at, rate in enumerate(rates)]
    answers = [["right", *(f"w{k}" for k in range(1, 64))] for _ in range(prompts)]
    return Pool(kind, [f"q{at}" for at in range(prompts)], texts, answers, decks)


def select(kind: str) -> str:
    return {"voting": "majority", "weighted": "weighted"}.get(kind, "max_score")


def objective(kind: str) -> str:
    return "coverage" if kind == "checkable" else "accuracy"


def job(made: Pool, kind: str, budget: float, unit: str = "samples"):
    """The problem of a pool, and how its candidates are dealt (in their recorded order)."""
    arms = tuple(
        Arm(name, BestOfN(), name, None, select(kind), "last", (1, 2, 4, 8), Sampling()) for name in made.decks
    )
    each = {}
    for name, deck in made.decks.items():
        one = np.ones(len(deck.tokens)) if unit == "samples" else deck.tokens
        each[name] = np.bincount(deck.owner, weights=one, minlength=len(made.ids)) / deck.sizes
    limits = np.stack([deck.sizes for deck in made.decks.values()], axis=1)
    problem = Problem(made.texts, arms, Lengths(each), budget, Objective(objective(kind)), 0, limits, recorded=True)

    def deal(prompt, arm, drawn, n):
        deck = made.decks[arm]
        rows = range(int(deck.begin[prompt]) + drawn, int(deck.begin[prompt]) + drawn + n)
        found = [
            Candidate(
                made.ids[prompt],
                drawn + at,
                arm,
                0,
                Draft("", (), int(deck.tokens[row]), Finish.END),
                None if deck.answer[row] < 0 else f"a{deck.answer[row]}",
                None if np.isnan(deck.score[row]) else float(deck.score[row]),
            )
            for at, row in enumerate(rows)
        ]
        return found, float(each[arm][prompt]) * n

    return problem, deal
