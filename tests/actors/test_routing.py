"""Routing: a prompt stays at home until home is overloaded, and a lost replica moves only its own prompts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.routing import Homes, choose, home, load_of
from apportion.types import Generate, Message, Sampling, Score

MESSAGES = (Message("user", "x"),)

loads = st.dictionaries(st.integers(0, 30), st.integers(0, 500), min_size=1, max_size=8)


@given(st.integers(0, 10**9), loads, st.integers(0, 100))
def test_home_unless_overloaded(affinity: int, loads: dict[int, int], slack: int) -> None:
    own = home(affinity, loads)
    chosen = choose(own, loads, slack)
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


@given(loads, st.integers(0, 100), st.integers(0, 30), st.integers(0, 30))
def test_a_replica_to_be_avoided_is_the_last_resort(loads: dict[int, int], slack: int, own: int, avoid: int) -> None:
    chosen = choose(own, loads, slack, avoid)
    assert chosen in loads
    assert chosen != avoid or set(loads) == {avoid}


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 16)), max_size=300),
    st.integers(1, 64),
)
def test_no_replica_gets_more_than_its_fair_share_and_the_slack(
    replicas: int, requests: list[tuple[int, int]], slack: int
) -> None:
    # However few the prompts that all requests are of: a hot prompt does not make a hot replica.
    loads, homes = dict.fromkeys(range(replicas), 0), Homes()
    for affinity, size in requests:
        loads[choose(homes.of(affinity, tuple(loads)), loads, slack)] += size
    fair = sum(loads.values()) / replicas
    assert max(loads.values()) <= fair + slack + 16


def test_prompts_stay_at_home_as_long_as_the_load_is_even() -> None:
    loads, homes, moved = dict.fromkeys(range(4), 0), Homes(), 0
    for affinity in range(400):
        own = homes.of(affinity, tuple(loads))
        assert own == home(affinity, loads) == homes.of(affinity, tuple(loads))
        chosen = choose(own, loads, 32)
        moved += chosen != own
        loads[chosen] += 1
    assert moved <= 0.05 * 400


def test_prompts_spread_over_replicas() -> None:
    counts = Counter(home(affinity, dict.fromkeys(range(4), 0)) for affinity in range(4000))
    assert min(counts.values()) > 850


def test_load_counts_sequences() -> None:
    assert load_of(Generate("m", MESSAGES, (1, 2, 3), Sampling())) == 3
    assert load_of(Score("m", MESSAGES, (("a", "b"), ("c",)))) == 2
    assert load_of(Score("m", MESSAGES, ())) == 1
