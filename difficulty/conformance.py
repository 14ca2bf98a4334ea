"""What every difficulty estimator must keep; run it on your own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.difficulty.estimator import Start
from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.grid import POINTS
from apportion.difficulty.registry import Estimator
from apportion.policies.arm import Arm


def check_estimator(
    estimator: Estimator, arms: Sequence[Arm], texts: Sequence[str], fitted: FittedPolicy | None = None
) -> Start:
    """Raise AssertionError where an estimator breaks a rule; returns what it gave.

    The prior is a distribution, lifts are finite and relative to the first arm, a text's factor is a positive weight
    for each point of the grid, and a prompt's own factor depends on its text alone, not on the prompts beside it.
    """
    start = estimator(arms, texts, fitted)
    assert start.prior.shape[0] == POINTS, f"the prior has {start.prior.shape[0]} points, the grid {POINTS}"
    assert (start.prior >= 0.0).all(), "the prior has negative weights"
    assert np.isclose(start.prior.sum(), 1.0), f"the prior sums to {start.prior.sum()}"
    assert start.lifts.shape == start.deviations.shape == (len(arms),), "one lift and one deviation an arm"
    assert np.isfinite(start.lifts).all(), "a lift is not finite"
    assert (start.deviations >= 0.0).all(), "a deviation is negative"
    again = estimator(arms, texts, fitted)
    assert np.array_equal(again.prior, start.prior), "the same arms and texts gave another prior"
    if start.text is not None:
        assert start.text.shape == (len(texts), POINTS), f"text has shape {start.text.shape}"
        assert (start.text > 0.0).all(), "a text rules a pass rate out"
        back = estimator(arms, list(reversed(texts)), fitted).text
        assert back is not None, "texts in another order have no prior"
        assert np.allclose(back[::-1], start.text), "a prompt's prior depends on the prompts beside it"
    return start
