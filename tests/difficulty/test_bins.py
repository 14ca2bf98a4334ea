"""Difficulty as a number, quantile bins and absolute bands."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pool_world import make_pool

from apportion.difficulty.bins import (
    ABSOLUTE,
    BANDS,
    BINS,
    band_chances,
    band_edges,
    band_of,
    oracle_difficulty,
    places,
    predicted_difficulty,
    quantile_edges,
    shown,
)
from apportion.difficulty.grid import PASS, beta_on_grid
from apportion.types import Candidate, Draft, Finish

RATES = st.floats(0.0, 1.0)


def candidate(answer: str | None, score: float | None) -> Candidate:
    return Candidate("q", 0, "vote", 0, Draft("", (), 1, Finish.END), answer, score)


def test_difficulty_of_a_pool_is_the_mean_of_labels_or_of_scores() -> None:
    rows = {"a": [("1", True, 0.9), ("2", False, 0.5)], "b": [("1", False), ("1", False), ("1", True), (None, False)]}
    pool = make_pool({"vote": rows, "other": {"c": [("1", True)]}})
    assert oracle_difficulty(pool.deck("vote"))[:2].tolist() == [0.5, 0.25]
    assert predicted_difficulty(pool.deck("vote"))[0] == pytest.approx(0.7)
    # b has no scores, c no candidates of this arm.
    assert np.isnan(predicted_difficulty(pool.deck("vote"))[1:]).all()
    assert math.isnan(oracle_difficulty(pool.deck("vote"))[2])


def test_a_probe_shows_its_mean_score_and_the_leading_share() -> None:
    found = shown([candidate("4", 0.8), candidate("4", 0.4), candidate("5", None), candidate(None, None)])
    assert (found.score, found.share) == (pytest.approx(0.6), 0.5)
    assert (shown([]).score, shown([]).share) == (None, 0.0)


@given(st.lists(RATES, min_size=BINS, max_size=200, unique=True))
@example([0.0, 0.25, 0.5, 1.0 - 2.0**-53, 1.0])
def test_quantile_bins_hold_everyone_and_equally_many(values: list[float]) -> None:
    found = places(values, quantile_edges(np.array(values)))
    sizes = np.bincount(found, minlength=BINS)
    assert len(sizes) == BINS
    assert sizes.sum() == len(values)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(found[np.argsort(values)]) >= 0).all()


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=60))
def test_prompts_of_equal_difficulty_share_their_bin(values: list[float]) -> None:
    found = places(values, quantile_edges(np.array(values)))
    assert found.min() >= 0
    assert found.max() < BINS
    for value in set(values):
        assert len({place for place, one in zip(found.tolist(), values, strict=True) if one == value}) == 1


@given(RATES)
def test_every_pass_rate_has_one_band(rate: float) -> None:
    inside = [name for name, low, high in BANDS if low <= rate < high or rate == high == 1.0]
    assert [band_of(rate)] == inside


def test_a_band_begins_at_its_lower_edge() -> None:
    rates = [0.0, np.nextafter(0.1, 0), 0.1, np.nextafter(0.5, 0), 0.5, 1.0]
    assert [band_of(rate) for rate in rates] == ["hard", "hard", "medium", "medium", "easy", "easy"]
    assert places(rates, band_edges(), ABSOLUTE).tolist() == [0, 0, 1, 1, 2, 2]


@given(RATES, st.floats(0.5, 40.0), st.floats(-3.0, 3.0))
def test_chances_of_bands_are_the_belief_s_mass(mean: float, strength: float, lift: float) -> None:
    belief = beta_on_grid(np.array([mean]), strength)
    chances = band_chances(belief, lift)
    assert chances.shape == (1, len(BANDS))
    assert chances.sum() == pytest.approx(1.0)
    if lift == 0.0:
        assert chances[0, 0] == pytest.approx(belief[0, PASS < 0.1].sum())
    # A better arm finds no prompt harder.
    assert band_chances(belief, lift + 1.0)[0, 0] <= chances[0, 0] + 1e-12
