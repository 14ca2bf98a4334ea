"""Pools of a cheap arm that knows the easy prompts and an expensive one that knows all: what is to be found."""

from __future__ import annotations

import numpy as np
from pool_world import make_pool

from apportion.difficulty.pools import Pool

COST = {"cheap": 1.0, "dear": 8.0}


def candidates(rates, count, rng, kinds=6):
    """Right at each prompt's rate; wrong answers rarely agree."""
    return {
        f"p{at}": [("right", True) if rng.random() < rate else (f"w{rng.integers(kinds)}", False) for _ in range(count)]
        for at, rate in enumerate(rates)
    }


def cascade_pool(prompts: int = 80, count: int = 8, seed: int = 0, extra: bool = False) -> Pool:
    """The cheap arm is right on the first two thirds and guesses on the rest; `extra`: one that knows nothing."""
    rng = np.random.default_rng(seed)
    easy = np.arange(prompts) % 3 < 2
    decks = {
        "cheap": candidates(np.where(easy, 0.95, 0.15), count, rng),
        "dear": candidates(np.full(prompts, 0.95), count, rng),
    }
    if extra:
        decks["useless"] = candidates(np.full(prompts, 0.02), count, rng)
    return make_pool(decks)
