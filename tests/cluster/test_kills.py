"""A job on a cluster whose parts are killed at random moments: nothing lost, nothing twice, all of it charged.

benchmarks/failures.py does each of these ten times, and says what it cost in time.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from failures import measure
from workers import Workers

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

PROMPTS = 12
EARLIEST, LATEST = 5, 40
"""Events between which the kill comes: the job of so many prompts has more than twice as many."""


@pytest.mark.parametrize("kind", ["engine", "scorer", "node", "driver"])
def test_a_kill_costs_time_and_a_little_budget(kind: str, workers: Workers, tmp_path: Path) -> None:
    order = random.Random(kind)
    moments = [order.randrange(EARLIEST, LATEST)]
    outcome = measure(kind, workers, tmp_path / kind, PROMPTS, moments, order)
    assert outcome.kills == 1
    assert outcome.answered == PROMPTS
    assert outcome.faults == ()
    assert (outcome.lost_share > 0) is (outcome.resent > 0)
    if kind == "driver":
        assert outcome.resent > 0, "something is always under way"
