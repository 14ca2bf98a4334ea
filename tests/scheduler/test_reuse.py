"""What engines do once and keep is paid once in a replay: reading a prompt, and verifying equal responses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apportion.costs import Unit
from apportion.difficulty.pools import Pool, Reuse, read_pool
from apportion.scheduler.contest import Contest, Entry, Terms
from apportion.scheduler.frontier import replay

PROMPT, VERIFY, ALONE = 5e6, 2e6, 3e6
LIKE = [[0, 0, 1, 0], [0, 1, 2, 3]]
"""Four responses to each of two prompts: three of the first's are the same."""


def pool_at(folder: Path) -> Pool:
    rows = [
        {
            "prompt_id": f"q{prompt}",
            "arm": "vote",
            "index": at,
            "answer": str(like),
            "correct": like == 0,
            "tokens": 10,
            "score": 0.5,
            "cost_flops": ALONE,
            "prompt_flops": PROMPT,
            "verify_flops": VERIFY,
            "like": like,
        }
        for prompt, likes in enumerate(LIKE)
        for at, like in enumerate(likes)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "candidates.parquet")
    return read_pool(folder)


def test_a_prompt_is_read_once_and_equal_responses_are_verified_once(tmp_path: Path) -> None:
    found = replay(pool_at(tmp_path), ["vote"], "uniform", [1e9], repeats=2, unit=Unit.FLOPS)
    whole = PROMPT + 4 * ALONE
    assert found.costs[0].tolist() == [whole - 2 * VERIFY, whole]


def test_whatever_the_order_one_response_costs_its_prompt_and_itself(tmp_path: Path) -> None:
    contest = Contest(pool_at(tmp_path), ["vote"], Unit.FLOPS, Terms(repeats=4))
    entry = Entry(("vote",), "uniform", Unit.FLOPS, (PROMPT + ALONE,))
    for repeat in range(4):
        _, cost = contest.repeat(entry, repeat)
        assert cost[0].tolist() == [PROMPT + ALONE] * 2


def test_other_units_and_pools_without_it_know_no_reuse(tmp_path: Path) -> None:
    pool = pool_at(tmp_path)
    assert replay(pool, ["vote"], "uniform", [1e9], repeats=1, unit=Unit.TOKENS).costs[0].tolist() == [40.0, 40.0]
    plain = replace(pool, decks={"vote": replace(pool.decks["vote"], reuse=None)})
    assert replay(plain, ["vote"], "uniform", [1e9], repeats=1, unit=Unit.FLOPS).costs[0].tolist() == [4 * ALONE] * 2


def test_a_part_of_a_pool_keeps_what_is_its_own(tmp_path: Path) -> None:
    deck = pool_at(tmp_path).part(np.array([1])).decks["vote"]
    assert isinstance(deck.reuse, Reuse)
    assert deck.reuse.like.tolist() == LIKE[1]
    assert deck.reuse.prompt.tolist() == [PROMPT]


def test_what_a_prompt_spent_is_known_by_arm(tmp_path: Path) -> None:
    contest = Contest(pool_at(tmp_path), ["vote"], Unit.FLOPS, Terms(repeats=1))
    entry = Entry(("vote",), "uniform", Unit.FLOPS, (PROMPT + ALONE, 1e9))
    _, cost = contest.repeat(entry, 0)
    assert contest.shares(entry, 0).sum(axis=2).tolist() == cost.tolist()
