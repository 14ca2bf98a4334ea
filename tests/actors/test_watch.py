"""When a replica is late: beside others that are not, never because all are, and never before its time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from actor_world import conversation
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.watch import LATE, SOONEST_S, Pace, Usual, length_of, reach_of
from apportion.types import Completion, Embed, Finish, Generate, Generated, Sampling, Score, Scored, Usage

ages = st.floats(0.0, 1e4)
reaches = st.integers(1, 10**5)
paces = st.lists(st.builds(Pace, ages, reaches, ages), max_size=8)


def limit(others: Sequence[Pace], timeout_s: float, reach: int = 1) -> float:
    """The limit of a replica beside the others."""
    return Usual(dict(enumerate(others, start=1)), timeout_s).limit(0, reach)


@pytest.mark.parametrize(
    ("others", "timeout_s", "expected"),
    [
        #  longest, oldest
        ([], 1800, 1800),  # nobody to compare with
        ([(0, 500)], 1800, 1800),  # somebody who never answered says nothing
        ([(4, 1)], 1800, SOONEST_S),
        ([(20, 1)], 1800, LATE * 20),
        ([(20, 1), (20, 2), (900, 3)], 1800, LATE * 20),  # one that lags does not excuse another
        ([(20, 200), (20, 300), (20, 250)], 10_000, LATE * 250),  # all are held up
        ([(20, 1)], 50, 50),
    ],
)
def test_limit(others: list[tuple[float, float]], timeout_s: float, expected: float) -> None:
    assert limit([Pace(longest, 1, oldest) for longest, oldest in others], timeout_s) == expected


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (50, LATE * 20),
        (500, LATE * 20),  # the others wrote up to 500 tokens, and took up to 20 s
        (5000, LATE * 200),
        (500_000, 1800),
    ],
)
def test_a_request_that_may_be_longer_than_those_of_the_others_has_longer(reach: int, expected: float) -> None:
    assert limit([Pace(20, 500, 1)], 1800, reach) == expected


@given(paces, st.floats(1.0, 1e5), reaches)
def test_nothing_is_late_before_its_time_and_everything_is_after_the_timeout(
    others: list[Pace], timeout_s: float, reach: int
) -> None:
    found = limit(others, timeout_s, reach)
    assert min(SOONEST_S, timeout_s) <= found <= timeout_s


@given(paces, reaches, reaches)
def test_a_longer_request_never_has_less_time(others: list[Pace], one: int, other: int) -> None:
    shorter, longer = (limit(others, 1e9, reach) for reach in sorted((one, other)))
    assert shorter <= longer


@given(paces, reaches)
def test_a_replica_is_judged_by_the_others_alone(every: list[Pace], reach: int) -> None:
    usual = Usual(dict(enumerate(every)), 1e9)
    for own in range(len(every)):
        others = {index: pace for index, pace in enumerate(every) if index != own}
        assert usual.limit(own, reach) == Usual(others, 1e9).limit(own, reach)


@given(st.floats(0.0, 1e4), st.lists(st.floats(0.1, 100.0), min_size=1, max_size=8))
def test_a_stall_of_all_is_no_fault_of_one(stalled_s: float, usual: list[float]) -> None:
    # All replicas are busy and silent since the same moment: none is late beside the others.
    for own in range(len(usual)):
        others = [Pace(longest, 1, stalled_s) for other, longest in enumerate(usual) if other != own]
        assert stalled_s <= limit(others, 1e6)


def test_lengths_are_tokens_in_a_row_or_characters_read() -> None:
    asked = Generate("policy", conversation("x"), tuple(range(10)), Sampling(max_tokens=100))
    reply = Generated(tuple(Completion("y", 7 + seed, Finish.END) for seed in range(10)), Usage())
    assert (reach_of(asked, 10), length_of(asked, 100, reply, 10)) == (100, 16)
    assert (reach_of(asked, 4), length_of(asked, 300, reply, 4)) == (300, 48), "three batches, one after the other"
    read = Score("prm", conversation("xx"), (("a", "bc"), ("d",)))
    assert (reach_of(read, 4), length_of(read, 6, Scored(((0.5, 0.5), (0.5,)), Usage()), 4)) == (6, 6)
    assert reach_of(Embed("policy", conversation("xyz")), 4) == 1
