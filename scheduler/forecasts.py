"""How sure a forecast is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.trial import Trial
from apportion.scheduler.allocation import Forecast
from apportion.scheduler.outlook import Outlook

Floats = NDArray[np.float64]

NINETY = 1.645
"""Standard deviations on either side that hold 90% of a normal distribution."""
PRIOR_DEVIATION = 0.2
"""How far the mean pass rate of an unknown dataset may be from what is assumed before a sample is drawn."""
LABEL_FREE_DEVIATION = 0.06
"""What agreement alone cannot tell: whether a dataset's favourite answers are its right ones."""
TRAINED_DEVIATION = 0.02
"""What is left of it, and of the rehearsal's noise, where the beliefs were fitted on labels and no scores vote."""


def interval(outlook: Outlook, value: Floats, budget: float, spent: float) -> Forecast:
    """Mean value with a 90% interval: chance over the prompts and those fitted on, what is not known of the dataset."""
    value = np.clip(value, 0.0, 1.0)
    mean = float(value.mean())
    chance = float((value * (1.0 - value)).sum()) / len(value) ** 2
    seen = int((outlook.purchases > 0).sum())
    trained = outlook.difficulty.start.trained
    unknown = 0.0 if trained else PRIOR_DEVIATION**2 / (1.0 + seen)
    scored = outlook.difficulty.scored or any(arm.scored for arm in outlook.problem.arms)
    shared = LABEL_FREE_DEVIATION if scored or not trained else TRAINED_DEVIATION
    fit = fit_variance(mean, outlook.difficulty.start.prompts)
    deviation = float(np.sqrt(chance + unknown + fit + shared**2 * min(1.0, 4.0 * mean * (1.0 - mean))))
    return Forecast(budget, spent, mean, *around(mean, deviation))


def spread_of(mean: float, prompts: int, trial: Trial | None, seen: int) -> tuple[float, float]:
    """A 90% interval around the mean objective of `prompts` prompts.

    Chance over these prompts, and over those of the trial that the mean is from; without a trial, what is not known of
    the dataset.
    """
    if trial is not None:
        fit = fit_variance(mean, trial.prompts)
        variance = fit * trial.prompts / prompts + fit
    else:
        variance = max(0.0, mean * (1.0 - mean)) / prompts + PRIOR_DEVIATION**2 / (1.0 + seen) + LABEL_FREE_DEVIATION**2
    return around(mean, float(np.sqrt(variance)))


def promised(trials: Sequence[Trial], budget: float, prompts: int) -> Forecast:
    """The best that any of several courses promises for a budget before anything is bought."""
    each = max(0.0, budget) / max(1, prompts)
    best = max(trials, key=lambda one: one.worth(each))
    value, spent = best.at(each), min(each, float(best.cost.max(initial=0.0)))
    return Forecast(budget, spent * prompts, value, *spread_of(value, prompts, best, 0))


def never_less(reach: NDArray[np.floating]) -> Floats:
    """What each price reaches, [..., prices], where a cheaper one reaches no less: beyond noise it does not."""
    return np.maximum.accumulate(reach[..., ::-1], axis=-1)[..., ::-1].astype(np.float64)


def fit_variance(mean: float, prompts: int) -> float:
    """Variance of a mean objective that was measured on so many labelled prompts; 0 where there were none.

    As if one prompt more had come out right and one wrong (Agresti and Coull 1998): a mean near 0 or 1 is no surer
    than its prompts are many.
    """
    if not prompts:
        return 0.0
    share = (min(max(mean, 0.0), 1.0) * prompts + 1.0) / (prompts + 2.0)
    return share * (1.0 - share) / prompts


def around(mean: float, deviation: float) -> tuple[float, float]:
    """The 90% interval of a mean objective that is known to a standard deviation, inside [0, 1]."""
    return max(0.0, mean - NINETY * deviation), min(1.0, mean + NINETY * deviation)
