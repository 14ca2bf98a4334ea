"""Expected costs of purchases, predicted from the strategies' workloads and corrected by what purchases really cost.

A prompt that an arm has read is not read again: engines keep what they have read, and a later purchase of single
samples costs that much less. Where one does not keep it, the factor below learns so.

Vectorised over prompts; `predict_one` is the same in plain numbers, for the many times one prompt is asked about.
Lengths are learned per prompt and model, or pair of models, that writes (`apportion.scheduler.lengths`); the rest of
the error (prefix caches, early ends, slow hours) is one factor an arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.costs import Amount, ModelProfile, Unit
from apportion.policies.arm import Arm
from apportion.policies.strategy import Lengths, Workload, draws_independently
from apportion.scheduler.allocation import Floats
from apportion.scheduler.lengths import ResponseLengths
from apportion.scheduler.meter import Meter
from apportion.scheduler.reading import fixed_part
from apportion.types import Candidate

BOUNDED = frozenset({Unit.TOKENS, Unit.FLOPS, Unit.SAMPLES})
CORRECTION_WEIGHT = 2.0
"""The correction factor starts at 1 with the weight of this many purchases."""


@dataclass(slots=True)
class _Correction:
    predicted: float = 0.0
    actual: float = 0.0
    purchases: int = 0

    @property
    def factor(self) -> float:
        if self.predicted <= 0.0:
            return 1.0
        prior = CORRECTION_WEIGHT * self.predicted / self.purchases
        return (prior + self.actual) / (prior + self.predicted)


class ExpectedCosts:
    """A CostModel. `prompt_tokens` maps each model to its tokens of every prompt, [prompts].

    `first_guess` maps arms to the mean tokens of a response, where they are known from elsewhere.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        meter: Meter,
        unit: Unit,
        prompt_tokens: Mapping[str, NDArray[np.float64]],
        first_guess: Mapping[str, float] | None = None,
    ) -> None:
        self._arms = {arm.name: arm for arm in arms}
        self._meter = meter
        self._unit = unit
        self._prompt_tokens = prompt_tokens
        prompts = len(next(iter(prompt_tokens.values())))
        # Responses that two models write are as long as neither's.
        self._writers = {arm.name: "+".join(arm.writers) for arm in arms}
        guess = self._told = first_guess or {}
        known = {self._writers[arm.name]: guess[arm.name] for arm in reversed(arms) if arm.name in guess}
        self._lengths = ResponseLengths(prompts, list(dict.fromkeys(self._writers.values())), known)
        self._corrections = {arm.name: _Correction() for arm in arms}
        self._read = {arm.name: np.zeros(prompts, dtype=bool) for arm in arms}
        self._reading: dict[str, Floats] = {}
        self._last: tuple[int, str, int] = (-1, "", -1)
        self._last_lengths = Lengths(0.0, 0.0, 0.0)
        self._last_amounts: dict[int, float] = {}

    def predict(self, prompts: NDArray[np.int64], arm: str, n: int) -> Floats:
        """Expected cost in the budget's unit of one purchase for each of `prompts`, [prompts]."""
        raw, read = self._raw(prompts, self._arms[arm], n), self._read[arm][prompts]
        if read.any():
            raw = raw - np.where(read, self._reading_of(arm)[prompts], 0.0)
        return raw * self._corrections[arm].factor

    def predict_one(self, prompt: int, arm: str, n: int) -> float:
        """`predict` for one prompt."""
        return self._uncorrected(prompt, arm, n) * self._corrections[arm].factor

    def known(self, arm: str) -> bool:
        """Whether it was seen what an arm costs, or how long its responses are was known beforehand."""
        return self._corrections[arm].purchases > 0 or arm in self._told

    def learn(self, prompt: int, arm: str, n: int, candidates: Sequence[Candidate], cost: float) -> None:
        """Correct the expectations by one finished purchase."""
        drafts = [candidate.draft for candidate in candidates]
        tokens, steps = [draft.tokens for draft in drafts], sum(len(draft.steps) for draft in drafts)
        self._lengths.learn(prompt, self._writers[arm], tokens, steps)
        correction = self._corrections[arm]
        correction.predicted += self._uncorrected(prompt, arm, n)
        correction.actual += cost
        correction.purchases += 1
        self._read[arm][prompt] = True

    def _uncorrected(self, prompt: int, arm: str, n: int) -> float:
        raw = self._raw_one(prompt, self._arms[arm], n)
        return raw - self._reading_one(prompt, arm) if self._read[arm][prompt] else raw

    def _reading_one(self, prompt: int, arm: str) -> float:
        """`_reading_of` for one prompt."""
        given = self._arms[arm]
        if self._unit in BOUNDED or not draws_independently(given.strategy):
            return float(self._reading_of(arm)[prompt])
        once, twice = (np.array(self._raw_one(prompt, given, n)) for n in (1, 2))
        return float(fixed_part(once, twice))

    def _reading_of(self, arm: str) -> Floats:
        """What reading each prompt for an arm costs, before corrections, [prompts]; 0 but for single samples.

        It does not depend on how long responses are. Measured units change with every reply.
        """
        known = self._reading.get(arm)
        if known is None:
            given, everyone = self._arms[arm], np.arange(len(self._read[arm]))
            once, twice = (self._raw(everyone, given, n) for n in (1, 2))
            independent = draws_independently(given.strategy)
            known = fixed_part(once, twice) if independent else np.zeros(len(everyone))
            if self._unit in BOUNDED or not independent:
                self._reading[arm] = known
        return known

    def _raw(self, prompts: NDArray[np.int64], arm: Arm, n: int) -> Floats:
        own = self._mean(arm) * self._lengths.ratios(prompts)
        lengths = Lengths(
            prompt_tokens=self._prompt_tokens[arm.policy][prompts],
            completion_tokens=own,
            steps=np.maximum(1.0, self._lengths.steps_per_token(self._writers[arm.name]) * own),
        )
        work = arm.strategy.workload(n, lengths, arm.verifier is not None)
        return np.broadcast_to(np.asarray(self._amount(work, arm), dtype=np.float64), prompts.shape)

    def _raw_one(self, prompt: int, arm: Arm, n: int) -> float:
        asked = (prompt, arm.name, self._lengths.version)
        if asked == self._last:
            # Several amounts of the same arm are asked for in a row, and the same ones again.
            known = self._last_amounts.get(n)
            if known is not None:
                return known
        else:
            own = self._mean(arm) * self._lengths.ratio(prompt)
            steps = max(1.0, self._lengths.steps_per_token(self._writers[arm.name]) * own)
            self._last_lengths = Lengths(float(self._prompt_tokens[arm.policy][prompt]), own, steps)
            self._last = asked
            self._last_amounts.clear()
        work = arm.strategy.workload(n, self._last_lengths, arm.verifier is not None)
        amount = float(self._amount(work, arm))
        if self._unit in BOUNDED:
            # Measured units change with every reply, whatever was learned of lengths.
            self._last_amounts[n] = amount
        return amount

    def _mean(self, arm: Arm) -> float:
        return min(self._lengths.mean(self._writers[arm.name]), float(arm.sampling.max_tokens))

    def _amount(self, work: Workload, arm: Arm) -> Amount:
        """A workload in the budget's unit."""
        if self._unit is Unit.SAMPLES:
            return work.samples
        policy = self._meter.profiles[arm.policy]
        read = work.prompt_tokens
        if policy.prompt_each:
            read = read * work.samples if work.unshared_prompt_tokens is None else work.unshared_prompt_tokens
        amount = self._work(policy, read, work.completion_tokens, work.policy_attended)
        if arm.second is not None:
            second = self._meter.profiles[arm.second]
            wrote = work.second_completion_tokens
            amount = amount + self._work(second, work.second_prompt_tokens, wrote, work.second_attended)
        if arm.verifier is not None:
            verifier = self._meter.profiles[arm.verifier]
            amount = amount + self._work(verifier, work.verifier_tokens, 0.0, work.verifier_attended)
        return amount

    def _work(self, model: ModelProfile, read: Amount, wrote: Amount, reach: Amount) -> Amount:
        """Tokens read and written by one model, in the budget's unit."""
        tokens = read + wrote
        if self._unit is Unit.TOKENS:
            return tokens
        if self._unit is Unit.FLOPS:
            return model.flops(tokens, reach)
        seconds = tokens * self._meter.seconds_per_token(model.name)
        if self._unit is Unit.GPU_SECONDS:
            return seconds * model.gpus
        by_token = read * model.dollars_per_million_input + wrote * model.dollars_per_million_output
        return seconds * model.dollars_per_hour / 3600.0 + by_token / 1e6
