"""The prior from hidden states: on a real model's, in files, and where they say nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hidden_world import PROMPTS, lab_pool
from scipy.stats import spearmanr

from apportion.difficulty.belief import base_prior
from apportion.difficulty.bins import oracle_difficulty
from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.fitted import load
from apportion.difficulty.grid import PASS
from apportion.difficulty.hidden import HIDDEN, HiddenPrior, HiddenStates, fit_hidden, read_hidden, write_hidden
from apportion.difficulty.together import together
from apportion.errors import DataError

FITTED_ON = 300


def states_of(rng: np.random.Generator, rates: np.ndarray, width: int, told: bool = True) -> HiddenStates:
    """States one direction of which is the pass rate, where they are told it, among noise."""
    vectors = rng.normal(size=(len(rates), width)) * 0.3
    if told:
        vectors += np.outer(rates - 0.5, rng.normal(size=width))
    return HiddenStates("made", "f00", vectors.astype(np.float32))


def drawn(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rates = rng.uniform(0.02, 0.98, prompts)
    tried = np.full(prompts, 16.0)
    return rates, rng.binomial(16, rates).astype(np.float64), tried


def test_a_real_state_tells_more_than_the_mean_of_prompts_it_was_not_fitted_on() -> None:
    pool = lab_pool()
    rate = oracle_difficulty(pool.deck("small"))
    policy = fit_beliefs(pool.part(np.arange(FITTED_ON)), ["lab"])
    assert policy.hidden is not None
    assert policy.hidden.gain > 0.0
    assert pool.hidden is not None
    said = policy.hidden.said(pool.hidden.vectors[FITTED_ON:].astype(np.float64))
    held = rate[FITTED_ON:]
    assert len(held) == PROMPTS - FITTED_ON
    assert np.mean((said - held) ** 2) < 0.95 * np.mean((rate[:FITTED_ON].mean() - held) ** 2)
    assert spearmanr(said, held).statistic > 0.25


def test_it_survives_the_policy_s_file(tmp_path: Path) -> None:
    policy = fit_beliefs(lab_pool(), ["lab"])
    policy.save(tmp_path / "policy.json")
    again = load(tmp_path / "policy.json")
    assert again == policy
    assert again.hidden is not None
    assert (again.hidden.model, len(again.hidden.center)) == ("small", 96)
    raw = json.loads((tmp_path / "policy.json").read_text())
    del raw["hidden"]
    (tmp_path / "older.json").write_text(json.dumps(raw))
    assert load(tmp_path / "older.json").hidden is None


@pytest.mark.parametrize("width", [20, 400])
def test_wide_states_are_reduced_and_the_model_is_still_of_the_states(width: int) -> None:
    rng = np.random.default_rng(width)
    rates, right, tried = drawn(rng, 600)
    states = states_of(rng, rates, width)
    found = fit_hidden(states.part(np.arange(400)), right[:400], tried[:400], base_prior().sum(axis=1))
    assert found is not None
    assert len(found.coefficients) == width
    said = found.said(states.vectors[400:].astype(np.float64))
    assert spearmanr(said, rates[400:]).statistic > 0.9
    assert found.guess(states.vectors[400].tolist()) == pytest.approx(said[0], abs=1e-6)


def test_states_that_say_nothing_are_not_listened_to() -> None:
    rng = np.random.default_rng(1)
    rates, right, tried = drawn(rng, 300)
    assert fit_hidden(states_of(rng, rates, 30, told=False), right, tried, base_prior().sum(axis=1)) is None
    few = states_of(rng, rates, 30)
    assert fit_hidden(few.part(np.arange(20)), right[:20], tried[:20], base_prior().sum(axis=1)) is None
    unknown = replace(few, vectors=np.full_like(few.vectors, np.nan))
    assert fit_hidden(unknown, right, tried, base_prior().sum(axis=1)) is None


def test_what_is_said_multiplies_the_prior_and_an_unknown_state_leaves_it() -> None:
    rng = np.random.default_rng(2)
    rates, right, tried = drawn(rng, 300)
    found = fit_hidden(states_of(rng, rates, 30), right, tried, base_prior().sum(axis=1))
    assert isinstance(found, HiddenPrior)
    weights = found.weigh(np.array([0.1, 0.9, np.nan]))
    assert weights.shape == (3, len(PASS))
    assert np.all(weights > 0)
    prior = base_prior().sum(axis=1)
    means = [(row * prior / (row * prior).sum()) @ PASS for row in weights.astype(np.float64)]
    assert means[0] < means[2] < means[1]
    assert (weights[2] == 1.0).all()


def test_a_pool_s_states_survive_their_file_and_damage_is_named(tmp_path: Path) -> None:
    vectors = np.array([[0.5, -1.25], [np.nan, np.nan], [3.0, 4.0]], dtype=np.float32)
    write_hidden(tmp_path, ["a", "b", "c"], HiddenStates("small", "f00", vectors))
    found = read_hidden(tmp_path, ["c", "b", "a", "d"])
    assert found is not None
    assert (found.model, found.files) == ("small", "f00")
    assert np.array_equal(found.vectors, vectors[[2, 1, 0, 1]], equal_nan=True)
    assert read_hidden(tmp_path / "elsewhere", ["a"]) is None
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt_id": ["a"], "hidden": [[1.0]]}), tmp_path / HIDDEN)
    with pytest.raises(DataError, match="model's name"):
        read_hidden(tmp_path, ["a"])


def test_pools_are_joined_with_their_states_and_two_models_are_refused() -> None:
    pool = lab_pool()
    assert pool.hidden is not None
    one, two = pool.part(np.arange(3)), pool.part(np.arange(2, 5))
    both = together([one, two])
    assert both.hidden is not None
    assert np.array_equal(both.hidden.vectors, pool.hidden.vectors[:5])
    assert two.hidden is not None
    other = replace(two, name="other", hidden=replace(two.hidden, files="f00"))
    with pytest.raises(DataError, match="two models"):
        together([one, other])
    # A pool without states adds prompts whose states are not known.
    mixed = together([one, replace(two, hidden=None)])
    assert mixed.hidden is not None
    assert np.isfinite(mixed.hidden.vectors).all(axis=1).tolist() == [True, True, True, False, False]
