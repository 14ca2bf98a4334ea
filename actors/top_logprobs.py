"""Log-probability statistics of a completion from the most likely tokens that an engine reports at each
position.

What is not reported is taken as spread evenly over the rest of the vocabulary: of all distributions that agree with
what was seen, the one with the most entropy and the least self-certainty. Where the whole vocabulary is reported, the
statistics are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.types import LogprobStats

LEAST_REST = 1e-7
# The rest is 1 minus a sum of float32 probabilities: below their rounding it is noise, and its logarithm would rule.


def stats_of(logprobs: Sequence[float], positions: int, vocabulary: int) -> LogprobStats | None:
    """The statistics of `positions` tokens, None for none.

    `logprobs` holds for each position that of the drawn token, then those of the most likely ones, largest first:
    flat, [positions * (1 + reported)], at temperature 1, in nats.
    """
    if not positions or len(logprobs) % positions or len(logprobs) < 2 * positions:
        return None
    table = np.asarray(logprobs, dtype=np.float64).reshape(positions, -1)
    drawn, top = table[:, 0], table[:, 1:]
    reported = min(top.shape[1], vocabulary)
    # -inf is a token that cannot be drawn.
    top = np.maximum(top[:, :reported], np.finfo(np.float32).min)
    probability = np.exp(top)
    entropy = -(probability * top).sum(axis=1)
    certainty = top.sum(axis=1)
    unseen = vocabulary - reported
    if unseen:
        most = unseen * probability[:, -1]
        rest = np.minimum(np.maximum(1.0 - probability.sum(axis=1), LEAST_REST), np.maximum(most, LEAST_REST))
        spread = np.log(rest / unseen)
        entropy -= rest * spread
        certainty += unseen * spread
    certainty = -certainty / vocabulary - np.log(vocabulary)
    return LogprobStats(
        float(drawn.mean()), float(max(0.0, entropy.mean())), float(max(0.0, certainty.mean())), unseen == 0
    )
