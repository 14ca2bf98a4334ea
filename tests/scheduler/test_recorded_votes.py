"""Price against uniform voting on recorded answers of real models: no less accurate at half the samples."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated import Played, World, arm, play, problem

from apportion.scheduler.allocations import build_allocation
from apportion.types import Candidate, Draft, Finish

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("APPORTION_DATA", REPOSITORY.parent / "shared" / "data"))


class Recorded(World):
    """Deals recorded answers in a random order; the right ones are all called "right"."""

    def __init__(self, pool: str, name: str, prompts: int, seed: int) -> None:
        path = DATA / "pools" / pool / "candidates.parquet"
        if not path.is_file():
            pytest.skip(f"no recorded pool at {path}; set APPORTION_DATA to the folder that holds pools/")
        table = pq.read_table(path, filters=[("arm", "=", name)]).to_pydict()
        self.answers: dict[str, list[str | None]] = {}
        for prompt, answer, correct in zip(table["prompt_id"], table["answer"], table["correct"], strict=True):
            self.answers.setdefault(prompt, []).append("right" if correct else answer)
        rng = np.random.default_rng(seed)
        chosen = sorted(self.answers)[:prompts]
        self.dealt = [list(rng.permutation(np.array(self.answers[prompt], dtype=object))) for prompt in chosen]
        self.passing = np.zeros(len(chosen))
        self.drawn = [0] * len(chosen)

    def draw(self, prompt, n, name="vote", start=None):
        begin = self.drawn[prompt]
        self.drawn[prompt] += n
        found = self.dealt[prompt][begin : begin + n]
        draft = Draft("", (), 1, Finish.END)
        return [Candidate(str(prompt), begin + at, name, 0, draft, answer) for at, answer in enumerate(found)]

    def uniform(self, n: int) -> float:
        """Accuracy of n votes each."""
        for prompt in range(len(self.dealt)):
            self.drawn[prompt] = 0
        groups = [self.draw(prompt, n) for prompt in range(len(self.dealt))]
        return float(Played(groups, 0.0, np.zeros(0), []).right().mean())


@pytest.mark.parametrize(
    ("pool", "name", "budget", "match"),
    [("addsub", "codex-002", 3.0, 6), ("last-letters", "gpt-3.5-turbo", 3.5, 7)],
)
def test_price_reaches_what_uniform_voting_needs_twice_the_samples_for(pool, name, budget, match):
    reached, needed = [], []
    for seed in range(2):
        world = Recorded(pool, name, 395, seed)
        needed.append(world.uniform(match))
        world.drawn = [0] * len(world.dealt)
        prompts = len(world.dealt)
        policy = build_allocation("price", {}, problem(prompts, budget * prompts, arm(amounts=(1, 2, 4, 8))), 1)
        played = play(policy, world, budget * prompts)
        assert played.spent <= budget * prompts
        reached.append(played.right().mean())
    assert np.mean(reached) >= np.mean(needed) - 0.004
