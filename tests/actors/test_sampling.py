"""Drawing tokens: the noise is splitmix64, the distribution is the one asked for, and rows do not mix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.sampling import draw, invert, nucleus, uniform

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_noise_is_splitmix64(seed: int, position: int) -> None:
    expected = splitmix64((splitmix64(seed) + (position + 1) * 0x9E3779B97F4A7C15) & MASK) >> 11
    assert float(uniform(torch.tensor([seed]), torch.tensor([position]))[0]) == expected * 2.0**-53


def test_noise_is_uniform_over_seeds_and_over_positions() -> None:
    many = torch.arange(20_000)
    for noise in (uniform(many, torch.zeros_like(many)), uniform(torch.zeros_like(many), many)):
        counts = torch.histc(noise.float(), 50, 0, 1)
        chi_squared = float(((counts - 400) ** 2 / 400).sum())
        assert chi_squared < 85  # the 99.9th percentile of 49 degrees of freedom


def test_draws_follow_the_tempered_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    rows, temperature = 40_000, 0.7
    noise = uniform(torch.arange(rows), torch.zeros(rows, dtype=torch.long))
    tokens, _ = draw(
        logits.expand(rows, -1), noise, torch.full((rows,), temperature), torch.ones(rows), heated=True, cut=False
    )
    expected = torch.softmax(logits / temperature, 0)
    assert torch.bincount(tokens, minlength=5) / rows == pytest.approx(expected, abs=0.01)


@given(
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=12),
    st.floats(0.05, 0.999),
)
def test_nucleus_is_the_smallest_set_with_enough_mass(weights: list[float], top_p: float) -> None:
    probabilities = torch.tensor([weights])
    probabilities /= probabilities.sum()
    kept = nucleus(probabilities, torch.tensor([top_p]))[0]
    chosen = kept[kept > 0]
    assert float(chosen.sum()) >= top_p - 1e-5
    assert float(chosen.sum() - chosen.min()) < top_p + 1e-5
    dropped = probabilities[0][kept == 0]
    if len(dropped):
        assert float(dropped.max()) <= float(chosen.min())


def test_nucleus_leaves_other_rows_alone() -> None:
    probabilities = torch.softmax(torch.randn(2, 30, generator=torch.Generator().manual_seed(1)), -1)
    cut = nucleus(probabilities, torch.tensor([0.5, 1.0]))
    assert (cut[0] == 0).any()
    assert torch.equal(cut[1], probabilities[1])


def test_tokens_without_probability_are_never_drawn() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]] * 4)
    noise = torch.tensor([0.0, 0.5, 0.25, 1.0 - 2.0**-53], dtype=torch.double)
    assert invert(probabilities, noise).tolist() == [1, 3, 1, 3]


def test_rows_do_not_depend_on_each_other() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(16, 50, generator=generator)
    noise = torch.rand(16, generator=generator, dtype=torch.double)
    temperature = torch.tensor([0.0, 0.5, 1.0, 1.5] * 4)
    top_p = torch.tensor([1.0, 0.9, 1.0, 0.3] * 4)
    tokens, statistics = draw(logits, noise, temperature, top_p, heated=True, cut=True)
    for row in range(16):
        one = slice(row, row + 1)
        alone, measured = draw(logits[one], noise[one], temperature[one], top_p[one], heated=True, cut=True)
        assert alone[0] == tokens[row]
        assert torch.allclose(measured[0], statistics[row], atol=1e-5)
    assert tokens[::4].tolist() == logits[::4].argmax(-1).tolist()


def test_statistics_are_at_temperature_one_over_the_whole_vocabulary() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    noise = torch.tensor([0.1, 0.1], dtype=torch.double)
    _, statistics = draw(logits, noise, torch.tensor([0.2, 0.2]), torch.ones(2), heated=True, cut=False)
    even, sure = statistics.tolist()
    assert even == pytest.approx([-math.log(4), math.log(4), 0.0], abs=1e-5)
    # -(1/V) sum_j log(V p_j) = -log 4 + (3 x 100) / 4
    assert sure == pytest.approx([0.0, 0.0, 75.0 - math.log(4)], abs=1e-4)
