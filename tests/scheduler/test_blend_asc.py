"""Blend-ASC: the least decided vote buys next, and the whole total is spent."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from simulated import World, play, problem

from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.blend_asc import DECAY, Blend, doubts
from apportion.types import Candidate, Draft, Finish

DRAFT = Draft("", (), 1, Finish.END)


def order(*votes: str, spent: float = 0.0) -> str:
    """Prompts that have seen these votes, most urgent first, by position."""
    rule = Blend(len(votes))
    rule.progress(spent)
    for prompt, text in enumerate(votes):
        rule.take(prompt, [Candidate("", at, "vote", 0, DRAFT, one) for at, one in enumerate(text)])
    ranked = sorted(range(len(votes)), key=lambda prompt: -rule.urgency(prompt, len(votes[prompt])))
    return " ".join(map(str, ranked))


@pytest.mark.parametrize(
    ("votes", "spent", "ranked"),
    [
        (("aa", "", "ab"), 0.0, "1 2 0"),  # everyone gets one sample first
        (("a", "ab", "aab", "aa"), 0.0, "1 2 0 3"),
        (("aabb", "ab"), 0.0, "1 0"),  # as undecided: the one with fewer samples
        (("aaaa", "aaab" * 4), 0.0, "0 1"),  # 3.1% against 2.5% that the first is not ahead
        (("aaaa", "aaab" * 4), 1.0, "1 0"),  # late, how well a tie explains it: 0.31 against 0.47
        (("a" * 12, "a" * 9 + "bbb"), 1.0, "1 0"),
    ],
)
def test_the_least_decided_goes_first(votes, spent, ranked):
    assert order(*votes, spent=spent) == ranked


@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_both_measures_are_what_they_are_called(first, second):
    first, second = max(first, second), min(first, second)
    total = first + second
    early, late = doubts(first, second)
    # P(Beta(a + 1, b + 1) < 1/2) is the chance of more than a heads in a + b + 1 throws.
    tail = sum(comb(total + 1, k) for k in range(first + 1, total + 2)) / 2 ** (total + 1)
    assert early == pytest.approx(log(tail), abs=1e-6)
    assert late == pytest.approx(min(0.0, log((total + 1) * comb(total, first)) - total * log(2.0)), abs=1e-6)


@given(first=st.integers(0, 2000), second=st.integers(0, 2000), before=st.integers(0, 19))
@example(first=11, second=1063, before=0)
def test_urgencies_fall_as_the_budget_is_spent_so_that_no_queued_one_is_too_low(first, second, before):
    first, second = max(first, second), min(first, second)
    early, late = doubts(first, second)
    assert early + (before + 1) / 20 * (late - DECAY - early) <= early + before / 20 * (late - DECAY - early)


def test_it_spends_everything_and_most_of_it_on_the_split():
    passing = np.array([1.0] * 8 + [0.5] * 8)
    world = World.of(passing, kinds=1)
    played = play(build_allocation("blend_asc", {}, problem(16, 160.0), 2), world, 160.0)
    assert played.spent == 160.0
    assert played.costs[8:].mean() > 3 * played.costs[:8].mean()
    assert played.costs.min() >= 1.0
