"""Simulated datasets, and a small loop that plays a job: what the allocation tests share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from apportion.difficulty.objectives import Objective
from apportion.policies.arm import Arm
from apportion.policies.best_of_n import BestOfN
from apportion.scheduler.allocation import Allocation, Offer, Problem, Rest
from apportion.types import Candidate, Draft, Finish, Sampling

AMOUNTS = (1, 2, 4, 8, 16, 32)


def arm(name: str = "vote", select: str = "majority", policy: str = "small", amounts=AMOUNTS) -> Arm:
    verifier = None if select == "majority" else "prm"
    return Arm(name, BestOfN(), policy, verifier, select, "last", tuple(amounts), Sampling())


@dataclass
class PerSample:
    """Costs exactly known: so much a sample, the same for every prompt, and `once` for an arm's first of a prompt."""

    each: float = 1.0
    once: float = 0.0
    read: set[tuple[int, str]] = field(default_factory=set)

    def predict(self, prompts, arm, n):
        unread = [(int(prompt), arm) not in self.read for prompt in prompts] if self.read else 1.0
        return np.full(len(prompts), self.each * n) + self.once * np.array(unread)

    def predict_one(self, prompt, arm, n):
        return float(self.predict(np.array([prompt]), arm, n)[0])

    def known(self, arm):
        return True


def problem(prompts: int, budget: float, *arms: Arm, objective: str = "accuracy", costs=None, texts=None) -> Problem:
    return Problem(texts or ["?"] * prompts, arms or (arm(),), costs or PerSample(), budget, Objective(objective), 0)


@dataclass
class World:
    """Prompts with a known pass rate and known wrong answers. Answer "right" is right."""

    passing: np.ndarray
    wrong: np.ndarray
    """shares of the wrong answers of each prompt, [prompts, kinds]"""
    scores: bool = False
    seed: int = 0

    def __post_init__(self):
        self.drawn = [0] * len(self.passing)

    @classmethod
    def of(cls, passing, seed=0, tempting=2.0, kinds=12, scores=False):
        """Wrong answers from a Dirichlet: the smaller `tempting`, the more they collide."""
        rng = np.random.default_rng(seed)
        passing = np.asarray(passing, dtype=float)
        return cls(passing, rng.dirichlet(np.full(kinds, tempting / kinds), len(passing)), scores, seed)

    def draw(self, prompt: int, n: int, name: str = "vote", start: int | None = None) -> list[Candidate]:
        """The next n candidates of a prompt: the same whatever was drawn of others."""
        found = []
        for _ in range(n):
            index = self.drawn[prompt]
            self.drawn[prompt] += 1
            rng = np.random.default_rng([self.seed, prompt, index])
            right = rng.random() < self.passing[prompt]
            kind = rng.choice(self.wrong.shape[1], p=self.wrong[prompt])
            score = float(1 / (1 + np.exp(-rng.normal(1.0 if right else -1.0, 1.2)))) if self.scores else None
            answer = "right" if right else f"w{kind}"
            found.append(Candidate(str(prompt), index, name, 0, Draft("", (), 1, Finish.END), answer, score))
        return found


@dataclass
class Played:
    candidates: list[list[Candidate]]
    spent: float
    costs: np.ndarray
    offers: list[tuple[int, Offer]]

    def right(self, weighted: bool = False) -> np.ndarray:
        """Whether each prompt's vote is right; evenly broken ties count by halves."""
        found = np.zeros(len(self.candidates))
        for prompt, group in enumerate(self.candidates):
            votes: dict[str, float] = {}
            for one in group:
                votes[one.answer] = votes.get(one.answer, 0.0) + (one.score if weighted else 1.0)
            votes.pop(None, None)
            best = [a for a in votes if votes[a] == max(votes.values())]
            found[prompt] = ("right" in best) / len(best) if best else 0.0
        return found


def play(policy: Allocation, world: World, budget: float, cost=None, order=None) -> Played:
    """Offer, carry out the best ratio first, observe, and price again: until nothing more is bought."""
    cost = cost or PerSample()
    read: set[tuple[int, str]] = getattr(cost, "read", set())
    read.clear()
    prompts = len(world.passing)
    order = list(range(prompts)) if order is None else order
    candidates: list[list[Candidate]] = [[] for _ in range(prompts)]
    costs, offers, left, since = np.zeros(prompts), [], budget, 0
    open_prompts = list(order)
    policy.reprice(left)
    idle = False
    while open_prompts:
        found = [(prompt, policy.offer(prompt, left)) for prompt in open_prompts]
        open_prompts = [prompt for prompt, offer in found if offer is not Rest.STOP]
        ready = sorted(((-o.ratio, at, p, o) for at, (p, o) in enumerate(found) if isinstance(o, Offer)))
        if not ready and idle:
            break
        idle = not ready
        for _, _, prompt, offer in ready[: max(4, prompts // 8)]:
            if offer.cost > left:
                continue
            group = world.draw(prompt, offer.purchase.n, offer.purchase.arm)
            paid = float(cost.predict(np.array([prompt]), offer.purchase.arm, offer.purchase.n)[0])
            read.add((prompt, offer.purchase.arm))
            policy.observe(prompt, offer.purchase, group, paid)
            candidates[prompt] += group
            costs[prompt] += paid
            left -= paid
            offers.append((prompt, offer))
            since += 1
        if since * 16 >= prompts or idle:
            policy.reprice(left)
            since = 0
        if idle:
            # As a job asks: where nothing sells at a price, once more.
            policy.reprice(left)
    return Played(candidates, budget - left, costs, offers)
