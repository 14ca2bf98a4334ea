"""Prices of a playbook's grid: what is spent at them brackets what there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.scheduler.price_grid import PriceGrid

PRICES = np.geomspace(1e-3, 1e3, 25)


@given(seed=st.integers(0, 999), share=st.floats(0.02, 0.98), power=st.sampled_from([0.5, 1.0]))
def test_spending_exceeds_what_there_is_at_the_first_price_and_is_within_it_at_the_second(
    seed: int, share: float, power: float
) -> None:
    rng = np.random.default_rng(seed)
    spend = np.sort(rng.exponential(size=(40, 25)), axis=1)[:, ::-1].copy()
    spend[:, -1] = 0.0
    ratio = rng.lognormal(size=40)
    grid = PriceGrid(PRICES, power, float(ratio.mean()))
    available = share * float(spend[:, 0] @ ratio)
    low, high = grid.prices_for(ratio, spend, available)
    assert 0.0 < low < high
    assert grid.spending(spend, low, ratio) >= available >= grid.spending(spend, high, ratio)


def test_where_there_is_enough_for_all_the_price_is_nothing() -> None:
    spend, ratio = np.array([[3.0] * 24 + [0.0]]), np.array([2.0])
    assert PriceGrid(PRICES, 1.0, 1.0).prices_for(ratio, spend, 6.0) == (0.0, 0.0)


@given(ratio=st.floats(0.01, 100.0), power=st.sampled_from([0.5, 1.0]), typical=st.floats(0.1, 10.0))
def test_what_eases_one_prompts_cost_eases_those_of_many(ratio: float, power: float, typical: float) -> None:
    grid = PriceGrid(PRICES, power, typical)
    assert grid.eased(1.0 / ratio) == pytest.approx(1.0 / float(grid.felt(np.array([ratio]))[0]))
