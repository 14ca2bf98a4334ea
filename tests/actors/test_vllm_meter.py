"""The busy time of vLLM and its shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.vllm_meter import BusyMeter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_is_shared_by_tokens() -> None:
    clock = Clock()
    meter = BusyMeter(clock)
    clock.now = 100.0
    meter.begin()
    meter.begin()
    meter.processed(40)
    clock.now = 103.0
    # Both had written 10, and the prompt of one was 20 tokens long.
    assert meter.end(30) == pytest.approx(2.25)
    assert meter.end(10) == pytest.approx(0.75)
    clock.now = 200.0
    meter.begin()
    clock.now = 201.0
    meter.processed(5)
    assert meter.end(5) == pytest.approx(1.0)


def test_tokens_reported_late_do_not_change_what_all_pay() -> None:
    clock = Clock()
    meter = BusyMeter(clock)
    meter.begin()
    meter.begin()
    meter.processed(10)
    clock.now = 2.0
    first = meter.end(12)
    meter.processed(4)
    clock.now = 3.0
    assert first + meter.end(2) == pytest.approx(3.0)


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.0, 2.0), st.booleans()), min_size=1, max_size=12))
def test_shares_add_up_to_the_time_there_was(work: list[tuple[int, float, bool]]) -> None:
    """Sequences that begin one after the other and end in that order; some are cancelled."""
    clock = Clock()
    meter = BusyMeter(clock)
    for _ in work:
        meter.begin()
    taken = []
    for tokens, seconds, cancelled in work:
        clock.now += seconds
        meter.processed(tokens)
        if cancelled:
            meter.drop()
        else:
            taken.append(meter.end(tokens))
    assert all(share >= 0.0 for share in taken)
    assert sum(taken) <= clock.now + 1e-9
    if not any(cancelled for _, _, cancelled in work):
        assert sum(taken) == pytest.approx(clock.now)
