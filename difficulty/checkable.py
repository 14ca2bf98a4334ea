"""Prompts whose candidates are accepted or rejected by their score: evidence, belief, and gains of every purchase.

What the allocator needs for `quota`, `pairs` and the coverage of a checkable reward, in the place of answers and votes.
A text counts once: a candidate that repeats one is neither accepted nor rejected, and no evidence of the rate (but for
copies in one purchase, which share the weight of one). What it says is that the arm repeats itself on the prompt, so
that more of it are worth as many as are expected to be new.
Invariant: prompts with equal counts (and equal text priors) have equal beliefs, whatever the order of what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.estimator import Start
from apportion.difficulty.grid import LOGIT, sigmoid
from apportion.difficulty.objectives import Objective, value
from apportion.difficulty.prior import PSEUDO_PROMPTS, TRAINED_PSEUDO_PROMPTS
from apportion.difficulty.rates import fit_rates, posterior
from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.types import Candidate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = Ints | slice

PSEUDO_TEXTS = 2.0
"""How often an arm says something new of a prompt is believed as of its others, with the weight of so many texts."""


class Checkable:
    """The counts of all prompts of a job, and what they say. `start` gives the prior over the first arm's rate."""

    def __init__(self, prompts: int, arms: Sequence[Arm], start: Start, objective: Objective) -> None:
        self.objective = objective
        self.start = start
        self.prior: Floats = start.prior.sum(axis=1)
        self.lifts: Floats = start.lifts.copy()
        self.accepted: Ints = np.zeros((prompts, len(arms)), dtype=np.int64)
        self.rejected: Ints = np.zeros((prompts, len(arms)), dtype=np.int64)
        self.repeated: Ints = np.zeros((prompts, len(arms)), dtype=np.int64)
        self._once: Ints = np.zeros((prompts, len(arms)), dtype=np.int64)
        """texts that were said once"""
        self._new: Floats = np.ones(len(arms))
        """chance that a further candidate of each arm is new, over all prompts, [arms]"""
        # A search's finals share beginnings: as evidence of the rate they weigh less than they count.
        self._yes = np.zeros((prompts, len(arms)))
        self._no = np.zeros((prompts, len(arms)))
        self._amounts = [sorted(set(arm.amounts)) for arm in arms]
        self._tables: list[Floats] = []
        self._make_tables()

    def observe(self, prompt: int, arm: int, candidates: Sequence[Candidate]) -> None:
        """Count the candidates of one purchase; one without a score is rejected."""
        unsaid: dict[str, float] = {}
        for candidate in candidates:
            good, text = is_accepted(candidate, self.objective), candidate.draft.text.strip()
            if candidate.repeats:
                self.repeated[prompt, arm] += 1
            else:
                (self.accepted if good else self.rejected)[prompt, arm] += 1
            left = unsaid.get(text, 0.0) if candidate.repeats else 1.0
            weight = min(candidate.draft.weight, left)
            unsaid[text] = left - weight
            (self._yes if good else self._no)[prompt, arm] += weight
            once = self._once[prompt, arm] + {0: 1, 1: -1}.get(candidate.repeats, 0)
            self._once[prompt, arm] = max(0, once)

    def belief(self, prompts: Rows) -> Floats:
        """What is believed of the first arm's rate, [rows, POINTS]."""
        text = self.start.text
        prior = self.prior if text is None else self.prior * text[prompts].astype(np.float64)
        return posterior(self._yes[prompts], self._no[prompts], self.lifts, prior)

    def rate(self, prompts: Rows, arm: int = 0) -> Floats:
        """Expected share of an arm's candidates that is accepted, [rows]."""
        return np.asarray(self.belief(prompts) @ self.passing(arm))

    def passing(self, arm: int) -> Floats:
        """The arm's rate at each point of the grid, [POINTS]."""
        return sigmoid(LOGIT + self.lifts[arm])

    def counts(self, prompts: Rows) -> tuple[Ints, Ints]:
        """Accepted and rejected candidates of all arms together, each [rows]."""
        return self.accepted[prompts].sum(axis=1), self.rejected[prompts].sum(axis=1)

    def tried(self, prompt: int) -> bool:
        """Whether a prompt has any candidate."""
        return bool(self.accepted[prompt].any() or self.rejected[prompt].any())

    def now(self, prompts: Rows) -> Floats:
        """The objective as it stands, which is known exactly, [rows]."""
        return self.objective.reached(*self.counts(prompts))

    def gain(self, prompts: Rows) -> Floats:
        """Expected gain of every purchase, arms in order and amounts ascending, [rows, options].

        The hull of these against their costs gives the next purchase; a pair, which one candidate of a fresh prompt
        cannot make, is bought whole.
        """
        kinds, group = self._alike(prompts)
        weights, state, now = self.belief(kinds), self.objective.state(*self.counts(kinds)), self.now(kinds)[:, None]
        gains = [np.maximum(value(table, state, weights) - now, 0.0) for table in self._tables]
        return np.concatenate([self._of_new(kinds, arm, gain) for arm, gain in enumerate(gains)], axis=1)[group]

    def drawn(self, prompts: Rows) -> Ints:
        """All candidates of each arm, [rows, arms]."""
        return self.accepted[prompts] + self.rejected[prompts] + self.repeated[prompts]

    def share_new(self, prompts: Rows, arm: int) -> Floats:
        """Expected share of an arm's next candidates whose text is new, where it has any of the prompt, [rows].

        What is not seen yet is as likely as what was seen once (Good 1953, "The Population Frequencies of Species and
        the Estimation of Population Parameters").
        """
        once, more = (counts[:, arm] for counts in self._further(prompts))
        return np.asarray((PSEUDO_TEXTS * self._new[arm] + once) / (PSEUDO_TEXTS + more))

    def _further(self, prompts: Rows) -> tuple[Ints, Ints]:
        """Of the candidates after the first of each arm those said once, and all, [rows, arms]."""
        more = np.maximum(self.drawn(prompts) - 1, 0)
        return np.minimum(self._once[prompts], more), more

    def _of_new(self, prompts: Ints, arm: int, gain: Floats) -> Floats:
        """An arm's gains, [rows, amounts], where of each amount only what is expected to be new counts."""
        share, amounts = self.share_new(prompts, arm)[:, None], np.array(self._amounts[arm])
        if (share >= 1.0).all():
            return gain
        # What an arm says first of a prompt is taken to be new there.
        begun = self.drawn(prompts)[:, [arm]] > 0
        new, known = np.where(begun, amounts * share, 1.0 + (amounts - 1) * share), np.array([0, *amounts])
        gain = np.concatenate([np.zeros((len(gain), 1)), gain], axis=1)
        high = np.minimum(np.searchsorted(known, new, side="right"), len(amounts))
        part = (new - known[high - 1]) / (known[high] - known[high - 1])
        less, more = np.take_along_axis(gain, high - 1, axis=1), np.take_along_axis(gain, high, axis=1)
        return np.asarray(less + part * (more - less))

    def key(self, prompt: int) -> bytes | None:
        """Equal for prompts with equal gains until the next refresh; None where each prompt has its own text prior."""
        if self.start.text is not None:
            return None
        parts = [counts[prompt] for counts in self._seen]
        return b"".join(part.tobytes() for part in parts)

    def _alike(self, prompts: Rows) -> tuple[Ints, Ints]:
        """One prompt of each kind, and the kind of each prompt, [rows]: those with equal counts are worked out once."""
        every = np.arange(len(self.accepted))[prompts]
        if self.start.text is not None:
            return every, np.arange(len(every))
        parts = [counts[every] for counts in self._seen]
        _, first, group = np.unique(np.concatenate(parts, axis=1), axis=0, return_index=True, return_inverse=True)
        return every[first], group.reshape(-1)

    @property
    def _seen(self) -> tuple[Ints | Floats, ...]:
        """All that was seen of the prompts, each [prompts, arms]."""
        return self.accepted, self.rejected, self.repeated, self._once, self._yes, self._no

    def refresh(self) -> None:
        """Learn the prior over rates, the arms' lifts and how often each repeats itself from all counts so far."""
        seen = np.flatnonzero((self.accepted + self.rejected).sum(axis=1) > 0)
        if not len(seen):
            return
        once, more = (counts.sum(axis=0) for counts in self._further(seen))
        self._new = (PSEUDO_TEXTS + once) / (PSEUDO_TEXTS + more)
        start, text = self.start, self.start.text
        self.prior, self.lifts = fit_rates(
            self._yes[seen],
            self._no[seen],
            start.prior.sum(axis=1),
            start.lifts,
            start.deviations,
            None if text is None else text[seen].astype(np.float64),
            TRAINED_PSEUDO_PROMPTS if start.trained else PSEUDO_PROMPTS,
        )
        self._make_tables()

    def part(self, prompts: Ints) -> Checkable:
        """A copy for some prompts, that can be played with."""
        found = object.__new__(Checkable)
        found.objective, found.prior, found.lifts = self.objective, self.prior, self.lifts
        text = self.start.text
        found.start = self.start if text is None else replace(self.start, text=text[prompts])
        found.accepted, found.rejected = self.accepted[prompts].copy(), self.rejected[prompts].copy()
        found.repeated, found._once, found._new = self.repeated[prompts].copy(), self._once[prompts].copy(), self._new
        found._yes, found._no = self._yes[prompts].copy(), self._no[prompts].copy()
        found._amounts, found._tables = self._amounts, self._tables
        return found

    def _make_tables(self) -> None:
        arms = range(len(self._amounts))
        self._tables = [self.objective.table(self._amounts[arm], self.passing(arm)) for arm in arms]


def is_accepted(candidate: Candidate, objective: Objective) -> bool:
    """Whether a candidate's score reaches the objective's threshold; without a score it does not."""
    return candidate.score is not None and candidate.score >= objective.accept


def check_scored(arms: Sequence[Arm], objective: Objective) -> None:
    """Raises ConfigError unless every arm has a verifier, whose scores say what is accepted."""
    unscored = [arm.name for arm in arms if not arm.scored]
    if unscored:
        raise ConfigError(
            f"objective {objective.name!r} counts candidates whose score reaches {objective.accept:g}, and "
            f"arms.{unscored[0]} has no verifier to score them; give it one, or leave the arm out"
        )
