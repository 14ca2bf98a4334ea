"""The difficulty of every prompt of a job: evidence in, beliefs and responses out.

Everything is a pure function of the calls made so far. Beliefs about single prompts follow each observation at once;
what is believed of the dataset (prior, score calibration, lifts, worths) changes only in `refresh`, so that two
prompts with equal evidence always get equal beliefs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import Belief, World, base_prior, believe, expected_pass
from apportion.difficulty.evidence import Evidence, Rows
from apportion.difficulty.learn import DEFAULT_WEIGHTS, fit_calibration, fit_lift, fit_weights
from apportion.difficulty.prior import PSEUDO_PROMPTS, TRAINED_PSEUDO_PROMPTS, fit_prior
from apportion.difficulty.race import Weights
from apportion.difficulty.scores import Calibration
from apportion.policies.arm import Arm
from apportion.policies.strategy import draws_independently
from apportion.types import Candidate

Floats = NDArray[np.float64]

SEARCH_LIFT = 0.0
"""What a search guided by a verifier is expected to add, in logits. None: it depends on a verifier that nobody has
measured yet (Liu et al. 2025 see gains and losses)."""
SEARCH_DEVIATION = 0.1
"""Small, because soft labels cannot tell a search that finds the answer from one that agrees with itself: its finals
share beginnings and were chosen by the scores that then vote for them. Labels can: a fitted policy has the lift."""
MODEL_DEVIATION = 1.5
"""Another policy model may be far better or worse than the first."""
WORTH_PSEUDO = 8.0
"""The assumed worth of a search's candidates counts as this many of them."""
MOST_ROWS = 4096
"""Prompts the dataset's beliefs are fitted on; more would not change them."""
MOST_CELLS = 4_000_000
"""Prompts are fitted on together only as far as their arrays stay within this many numbers."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is believed before any evidence; `text` is the prior of each prompt's text over p, [prompts, POINTS]."""

    prior: Floats
    calibration: Calibration
    lifts: Floats
    deviations: Floats
    """how far each arm's lift may be from `lifts`; 0 fixes it"""
    text: NDArray[np.float32] | None = None
    weights: Weights = DEFAULT_WEIGHTS
    unparsed: float = 0.05
    """probability that a wrong response has no readable answer"""
    verified: bool = False
    """whether `calibration` and `weights` were fitted on labelled candidates"""
    trained: bool = False
    """whether it was fitted on labelled candidates"""
    prompts: int = 0
    """how many labelled prompts it was fitted on; 0 where none, or where that is not known"""


def default_start(arms: Sequence[Arm]) -> Start:
    """Beliefs about arms that nothing is known of: the first is the measure, searches lift a little."""
    first = arms[0]
    lifts, deviations = np.zeros(len(arms)), np.zeros(len(arms))
    for at, arm in enumerate(arms):
        lifts[at] = 0.0 if arm.samples else SEARCH_LIFT
        variance = 0.0 if arm.samples else SEARCH_DEVIATION**2
        if arm.writers != first.writers or arm.sampling != first.sampling:
            variance += MODEL_DEVIATION**2
        deviations[at] = np.sqrt(variance) if at else 0.0
    return Start(base_prior(), Calibration(), lifts - lifts[0], deviations)


class Difficulty:
    """Beliefs about the prompts of one job."""

    def __init__(self, prompts: int, arms: Sequence[Arm], start: Start) -> None:
        self.arms = tuple(arms)
        self.start = start
        self.evidence = Evidence(prompts, len(arms))
        self.world = World(start.lifts.copy(), start.prior, start.calibration, start.unparsed)
        self.weights = start.weights
        self.scored = False
        self.frozen = False
        """whether the beliefs about the dataset are kept as they are"""
        self._candidates = 0
        self._refreshed_at = 0
        self._worth_sum = np.array([_assumed_worth(arm) for arm in arms]) * WORTH_PSEUDO
        self._worth_count = np.full(len(arms), WORTH_PSEUDO)
        self.worth: Floats = self._worth_sum / self._worth_count
        """mean worth of one candidate of each arm as independent evidence, [arms]"""

    def observe(self, prompt: int, arm: int, candidates: Sequence[Candidate]) -> None:
        """Take in the candidates of one purchase."""
        self.evidence.add(prompt, arm, candidates)
        self.scored = self.scored or any(c.score is not None and c.answer is not None for c in candidates)
        if not draws_independently(self.arms[arm].strategy):
            self._worth_sum[arm] += sum(c.draft.weight for c in candidates)
            self._worth_count[arm] += len(candidates)
        self._candidates += len(candidates)

    def belief(self, prompts: NDArray[np.int64] | slice) -> tuple[Rows, Belief]:
        """Evidence and posterior of some prompts."""
        rows = self.evidence.rows(prompts)
        return rows, believe(rows, self.world, self._text(prompts))

    def pass_rate(self, prompt: int, arm: int = 0) -> float:
        """Posterior mean of pass@1 of a prompt under an arm."""
        _, belief = self.belief(slice(prompt, prompt + 1))
        return float(expected_pass(belief, float(self.world.lifts[arm]))[0])

    def stale(self, growth: float) -> bool:
        """Whether the candidates seen have grown by this factor since the last refresh."""
        return not self.frozen and self._candidates > self._refreshed_at * growth

    def refresh(self) -> None:
        """Fit prior, calibration, vote weights and lifts to the evidence so far."""
        seen = np.flatnonzero(self.evidence.total.sum(axis=1) > 0)
        self._refreshed_at = self._candidates
        self.worth = self._worth_sum / self._worth_count
        if not len(seen):
            return
        width = int(self.evidence.used[seen].max(initial=1)) + 1
        most = min(MOST_ROWS, max(64, MOST_CELLS // (width * 64)))
        if len(seen) > most:
            seen = seen[np.linspace(0, len(seen) - 1, most).astype(np.int64)]
        rows, text = self.evidence.rows(seen), self._text(seen)
        pseudo = TRAINED_PSEUDO_PROMPTS if self.start.trained else PSEUDO_PROMPTS
        prior = fit_prior(rows, self.world, text, self.start.prior, pseudo)
        self.world = replace(self.world, prior=prior)
        # What labels taught of the verifier is not unlearned from votes.
        learn_scores = self.scored and not self.start.verified
        if learn_scores:
            fitted = fit_calibration(rows, self.world, text, self.start.calibration)
            self.world = replace(self.world, calibration=fitted)
        belief = believe(rows, self.world, text)
        if learn_scores:
            self.weights = fit_weights(rows, belief)
        lifts = [
            fit_lift(rows, belief, arm, float(self.start.lifts[arm]), float(self.start.deviations[arm]))
            for arm in range(len(self.arms))
        ]
        wrong = float((rows.total.sum(axis=1) - (rows.votes * belief.right[:, :-1]).sum(axis=1)).sum())
        unparsed = (float(rows.unparsed.sum()) + 1.0) / (wrong + 20.0)
        self.world = replace(self.world, lifts=np.array(lifts), unparsed=min(max(unparsed, 0.0), 0.9))

    def part(self, prompts: NDArray[np.int64]) -> Difficulty:
        """A copy for some prompts, whose beliefs about the dataset stay as they are now."""
        text = None if self.start.text is None else self.start.text[prompts]
        found = Difficulty(len(prompts), self.arms, replace(self.start, text=text))
        found.evidence = self.evidence.part(prompts)
        found.world, found.weights, found.worth = self.world, self.weights, self.worth
        found.scored = self.scored
        found.frozen = True
        return found

    def _text(self, prompts: NDArray[np.int64] | slice) -> Floats | None:
        return None if self.start.text is None else self.start.text[prompts].astype(np.float64)


def _assumed_worth(arm: Arm) -> float:
    """One, for independent samples; 1 / width, for the finals of a search that share their beginnings."""
    if draws_independently(arm.strategy):
        return 1.0
    width = getattr(arm.strategy, "width", 2)
    # A width that follows n is taken at the middle of what the arm sells.
    return 1.0 / max(2.0, float(width) if isinstance(width, int) else arm.amounts[len(arm.amounts) // 2] ** 0.5)
