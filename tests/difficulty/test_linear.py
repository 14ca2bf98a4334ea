"""The linear prior: what it learns of columns that tell, of noise, and of prompts with very many candidates."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.difficulty.grid import PASS, POINTS
from apportion.difficulty.linear import LinearFit, fit_linear

FLAT = np.full(POINTS, 1.0 / POINTS)


def fitted(prompts: int, tried: int, told: bool, seed: int = 0) -> LinearFit:
    rng = np.random.default_rng(seed)
    rates = rng.choice(PASS, prompts)
    columns = rng.normal(size=(prompts, 8))
    if told:
        columns[:, 0] += 4.0 * rates
    return fit_linear(columns, rng.binomial(tried, rates).astype(float), np.full(prompts, float(tried)), FLAT)


@pytest.mark.parametrize("tried", [16, 2048])
def test_columns_that_tell_are_learned_whatever_the_candidates(tried: int) -> None:
    """Two thousand candidates of one prompt are less likely than any float says."""
    found = fitted(200, tried, told=True)
    assert found.model is not None
    assert np.isfinite([found.with_it, found.without]).all()
    assert found.with_it > found.without


def test_noise_is_seldom_taken_and_never_said_to_be_worth_much() -> None:
    """The best of many settings gains something by luck alone."""
    found = [fitted(100, 16, told=False, seed=seed) for seed in range(20)]
    taken = [one for one in found if one.model is not None]
    assert len(taken) <= 3
    assert all(one.with_it - one.without < 0.05 for one in taken)
    assert all(one.with_it == one.without for one in found if one.model is None)
