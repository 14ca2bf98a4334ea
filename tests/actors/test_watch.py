"""When a replica is late: beside others that are not, never because all are, and never before its time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.watch import LATE, SOONEST_S, Pace, limit

ages = st.floats(0.0, 1e4)
paces = st.lists(st.builds(Pace, ages, ages), max_size=8)


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
    assert limit([Pace(*other) for other in others], timeout_s) == expected


@given(paces, st.floats(1.0, 1e5))
def test_nothing_is_late_before_its_time_and_everything_is_after_the_timeout(
    others: list[Pace], timeout_s: float
) -> None:
    found = limit(others, timeout_s)
    assert min(SOONEST_S, timeout_s) <= found <= timeout_s


@given(st.floats(0.0, 1e4), st.lists(st.floats(0.1, 100.0), min_size=1, max_size=8))
def test_a_stall_of_all_is_no_fault_of_one(stalled_s: float, usual: list[float]) -> None:
    # All replicas are busy and silent since the same moment: none is late beside the others.
    for own in range(len(usual)):
        others = [Pace(longest, stalled_s) for other, longest in enumerate(usual) if other != own]
        assert stalled_s <= limit(others, 1e6)
