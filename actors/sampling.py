"""Drawing tokens: reproducible by seed, whatever else is in the batch.

Noise is counter-based: token `k` of a completion uses one number that is a function of (seed, k) alone, and is drawn by
inverting the cumulative distribution in vocabulary order. So a row's tokens do not depend on the rows beside it, and
torch's global generator is not used.
"""

from __future__ import annotations

import math

import torch

GOLDEN = -0x61C8864680B583EB
MIX_1 = -0x40A7B892E31B1A47
MIX_2 = -0x6B2FB644ECCEEE15
# splitmix64 (Steele, Lea and Flood 2014), its 64-bit constants as signed integers: torch multiplies modulo 2^64.

GREEDY_BELOW = 1e-5
# Lower temperatures would overflow the division, and differ from the most likely token by nothing.


def _shift(values: torch.Tensor, bits: int) -> torch.Tensor:
    # torch's >> keeps the sign; splitmix64 needs zeros shifted in.
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: torch.Tensor) -> torch.Tensor:
    values = (values ^ _shift(values, 30)) * MIX_1
    values = (values ^ _shift(values, 27)) * MIX_2
    return values ^ _shift(values, 31)


def uniform(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One float64 in [0, 1) for each (seed, position); both int64 of the same shape."""
    mixed = _mix(_mix(seeds) + (positions + 1) * GOLDEN)
    return _shift(mixed, 11).double() * 2.0**-53


def nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """`probabilities` [rows, vocabulary] with all but the smallest set of mass `top_p` [rows] set to 0.

    Rows whose top_p is 1 are returned as they are. Nucleus sampling: Holtzman et al. 2020 (arXiv 1904.09751).
    """
    ordered, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    before = torch.cumsum(ordered, dim=-1) - ordered
    outside = (before >= top_p[:, None]) & (top_p[:, None] < 1.0)
    outside[:, 0] = False
    return probabilities.masked_fill(outside.new_zeros(outside.shape).scatter(1, order, outside), 0.0)


def invert(probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The token at which the cumulative mass of each row [rows, vocabulary] passes `noise` [rows] of its whole."""
    mass = torch.cumsum(probabilities.double(), dim=-1)
    target = noise[:, None] * mass[:, -1:]
    found = torch.searchsorted(mass, target, right=True)[:, 0]
    return found.clamp_max(probabilities.shape[-1] - 1)


def draw(
    logits: torch.Tensor,
    noise: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor,
    heated: bool,
    cut: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token a row and measure the distributions it was drawn from.

    `logits` float32 [rows, vocabulary]; `noise`, `temperature`, `top_p` [rows]. `heated` False promises that all
    temperatures are 1, `cut` False that all top_p are. Returns tokens int64 [rows] and statistics float32 [rows, 3] at
    temperature 1 over the whole vocabulary: log-probability of the token, entropy, self-certainty (all in nats).
    """
    log_probabilities = torch.log_softmax(logits, dim=-1)
    probabilities = log_probabilities.exp()
    shaped = probabilities
    if heated:
        shaped = torch.softmax(logits / temperature.clamp_min(GREEDY_BELOW)[:, None], dim=-1)
    if cut:
        shaped = nucleus(shaped, top_p)
    tokens = invert(shaped, noise)
    if heated:
        tokens = torch.where(temperature < GREEDY_BELOW, logits.argmax(dim=-1), tokens)
    drawn = log_probabilities.gather(1, tokens[:, None])[:, 0]
    entropy = -(probabilities * log_probabilities).sum(dim=-1)
    certainty = -log_probabilities.mean(dim=-1) - math.log(logits.shape[-1])
    return tokens, torch.stack((drawn, entropy, certainty), dim=1)
