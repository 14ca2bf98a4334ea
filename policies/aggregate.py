"""One number from the scores of a response's steps.

`last` is what Snell et al. 2024 (arXiv 2408.03314) found best for process reward models trained on Monte-Carlo labels;
`min` and `product` suit models trained on the correctness of single steps (Lightman et al. 2023, arXiv 2305.20050).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from apportion.errors import ConfigError, nearest

Aggregate = Callable[[Sequence[float]], float]

LEAST = 1e-7
"""Scores are taken to be this far from 0 and 1, where a logit has no value."""


def _last(scores: Sequence[float]) -> float:
    return scores[-1]


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


AGGREGATES: dict[str, Aggregate] = {"last": _last, "mean": _mean, "min": min, "product": math.prod}


def aggregate(name: str) -> Aggregate:
    """The aggregate of that name: a function from at least one score in [0, 1] to one. Raises ConfigError."""
    if name not in AGGREGATES:
        raise ConfigError(f"aggregate {name!r} is unknown: {nearest(name, AGGREGATES)}")
    return AGGREGATES[name]


def score_of(step_scores: Sequence[float] | None, name: str) -> float | None:
    """The score of a response, or None where it was not scored or has no steps."""
    return float(aggregate(name)(step_scores)) if step_scores else None


def logit(score: float) -> float:
    """The log odds of a score in [0, 1]."""
    inside = min(max(score, LEAST), 1.0 - LEAST)
    return math.log(inside / (1.0 - inside))
