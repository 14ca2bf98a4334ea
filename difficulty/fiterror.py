"""How well a fitted policy predicted prompts it was not fitted on: part of its file, and the table `fit` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LeadingError:
    """Predictions, after so many candidates, that the answer most of them give is right.

    `brier` is the mean squared error, `log_loss` the mean negative log likelihood in nats; the constant guess is the
    share of right leading answers on the prompts that were fitted on.
    """

    after: int
    prompts: int
    brier: float
    brier_constant: float
    log_loss: float
    log_loss_constant: float


@dataclass(frozen=True, slots=True)
class ArmError:
    """Of one arm. `rank_correlation` (Spearman) is of pass@1 as the text predicts it with what it was; None where the
    text says nothing, or pass@1 does not vary. `leading` lacks amounts that too few prompts have."""

    rank_correlation: float | None
    leading: tuple[LeadingError, ...]


@dataclass(frozen=True, slots=True)
class FitError:
    """Two-fold over prompts for each arm. The log likelihoods of a prompt's hits are five-fold, of the reference arm,
    with the text and without it; None where there are no texts."""

    log_likelihood_prior: float | None = None
    log_likelihood_text: float | None = None
    arms: Mapping[str, ArmError] = field(default_factory=dict)

    @staticmethod
    def parse(raw: Mapping[str, Any]) -> FitError:
        """What `dataclasses.asdict` made. Raises KeyError, TypeError or ValueError for anything else."""
        arms = {
            str(name): ArmError(
                None if one["rank_correlation"] is None else float(one["rank_correlation"]),
                tuple(LeadingError(**row) for row in one["leading"]),
            )
            for name, one in raw["arms"].items()
        }
        prior, text = raw["log_likelihood_prior"], raw["log_likelihood_text"]
        return FitError(None if prior is None else float(prior), None if text is None else float(text), arms)
