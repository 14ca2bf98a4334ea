"""Routing: a prompt stays at home until home is overloaded, and a lost replica moves only its own prompts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.routing import choose, home, load_of
from apportion.types import Generate, Message, Sampling, Score

MESSAGES = (Message("user", "x"),)

loads = st.dictionaries(st.integers(0, 30), st.integers(0, 500), min_size=1, max_size=8)


@given(st.integers(0, 10**9), loads, st.integers(0, 100))
def test_home_unless_overloaded(affinity: int, loads: dict[int, int], slack: int) -> None:
    chosen = choose(affinity, loads, slack)
    own = home(affinity, loads)
    if loads[own] - min(loads.values()) <= slack:
        assert chosen == own
    else:
        assert loads[chosen] == min(loads.values())


@given(st.integers(0, 10**9), st.sets(st.integers(0, 30), min_size=2, max_size=8), st.integers(0, 7))
def test_losing_a_replica_moves_only_its_prompts(affinity: int, replicas: set[int], which: int) -> None:
    before = dict.fromkeys(replicas, 0)
    lost = sorted(replicas)[which % len(replicas)]
    after = {replica: 0 for replica in replicas if replica != lost}
    if home(affinity, before) != lost:
        assert home(affinity, after) == home(affinity, before)


def test_prompts_spread_over_replicas() -> None:
    counts = Counter(home(affinity, dict.fromkeys(range(4), 0)) for affinity in range(4000))
    assert min(counts.values()) > 850


def test_load_counts_sequences() -> None:
    assert load_of(Generate("m", MESSAGES, (1, 2, 3), Sampling())) == 3
    assert load_of(Score("m", MESSAGES, (("a", "b"), ("c",)))) == 2
    assert load_of(Score("m", MESSAGES, ())) == 1
