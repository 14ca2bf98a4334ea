"""Statistics from the most likely tokens against those of the whole distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.top_logprobs import stats_of

VOCABULARY = 32


def reported(logits: np.ndarray, top: int) -> tuple[list[float], tuple[float, float, float]]:
    """What vLLM would report of positions [positions, vocabulary], each drawing token 0, and the exact statistics."""
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ordered = -np.sort(-logprobs, axis=1)[:, :top]
    flat = np.concatenate((logprobs[:, :1], ordered), axis=1).ravel()
    entropy = -(np.exp(logprobs) * logprobs).sum(axis=1).mean()
    certainty = (-logprobs.mean(axis=1) - np.log(VOCABULARY)).mean()
    return [float(value) for value in flat], (float(logprobs[:, 0].mean()), float(entropy), float(certainty))


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, VOCABULARY), st.floats(0.1, 3.0))
def test_what_is_not_seen_is_taken_as_even(seed: int, positions: int, top: int, scale: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(positions, VOCABULARY)) * scale
    flat, (mean, entropy, certainty) = reported(logits, top)
    stats = stats_of(flat, positions, VOCABULARY)
    assert stats is not None
    assert stats.exact == (top == VOCABULARY)
    assert stats.mean_logprob == pytest.approx(mean)
    assert stats.mean_entropy >= entropy - 1e-6
    assert stats.self_certainty <= certainty + 1e-6
    if top == VOCABULARY:
        assert stats.mean_entropy == pytest.approx(entropy)
        assert stats.self_certainty == pytest.approx(certainty)


def test_a_certain_token_leaves_finite_statistics() -> None:
    stats = stats_of([0.0, 0.0, -float("inf")], 1, 1000)
    assert stats is not None
    assert (stats.mean_logprob, stats.mean_entropy) == (0.0, pytest.approx(0.0, abs=1e-4))
    assert np.isfinite(stats.self_certainty)
    assert stats_of([], 0, 1000) is None
