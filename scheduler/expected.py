"""Expected costs of purchases, predicted from the strategies' workloads and corrected by what purchases really cost.

Vectorised over prompts. Lengths are learned per prompt, shrunk to the job's mean; the rest of the error (prefix
caches, early ends, slow hours) is one factor an arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.costs import ModelProfile, Unit
from apportion.policies.arm import Arm
from apportion.policies.strategy import Lengths, Workload
from apportion.scheduler.allocation import Floats
from apportion.scheduler.meter import Meter
from apportion.types import Candidate

FIRST_GUESS_TOKENS = 256.0
"""Length of a completion before any was seen; the first replies replace it."""
FIRST_GUESS_STEPS = 6.0
"""Steps of a response before any was seen."""
LENGTH_SHRINKAGE = 4.0
"""A prompt's own mean length counts as much as the job's once it has this many candidates."""
CORRECTION_WEIGHT = 8.0
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
    """A CostModel. `prompt_tokens` maps each model to its tokens of every prompt, [prompts]."""

    def __init__(
        self, arms: Sequence[Arm], meter: Meter, unit: Unit, prompt_tokens: Mapping[str, NDArray[np.float64]]
    ) -> None:
        self._arms = {arm.name: arm for arm in arms}
        self._meter = meter
        self._unit = unit
        self._prompt_tokens = prompt_tokens
        prompts = len(next(iter(prompt_tokens.values())))
        self._length_sum = np.zeros(prompts)
        self._length_count = np.zeros(prompts)
        self._total_tokens = self._total_steps = self._total_count = 0.0
        self._corrections = {arm.name: _Correction() for arm in arms}

    def predict(self, prompts: NDArray[np.int64], arm: str, n: int) -> Floats:
        """Expected cost in the budget's unit of one purchase for each of `prompts`, [prompts]."""
        return self._raw(prompts, self._arms[arm], n) * self._corrections[arm].factor

    def learn(self, prompt: int, arm: str, n: int, candidates: Sequence[Candidate], cost: float) -> None:
        """Correct the expectations by one finished purchase."""
        for candidate in candidates:
            self._length_sum[prompt] += candidate.draft.tokens
            self._length_count[prompt] += 1.0
            self._total_tokens += candidate.draft.tokens
            self._total_steps += len(candidate.draft.steps)
            self._total_count += 1.0
        correction = self._corrections[arm]
        correction.predicted += float(self._raw(np.array([prompt]), self._arms[arm], n)[0])
        correction.actual += cost
        correction.purchases += 1

    def _raw(self, prompts: NDArray[np.int64], arm: Arm, n: int) -> Floats:
        mean = self._total_tokens / self._total_count if self._total_count else FIRST_GUESS_TOKENS
        mean = min(mean, float(arm.sampling.max_tokens))
        steps = self._total_steps / self._total_count if self._total_count else FIRST_GUESS_STEPS
        own = (self._length_sum[prompts] + LENGTH_SHRINKAGE * mean) / (self._length_count[prompts] + LENGTH_SHRINKAGE)
        lengths = Lengths(
            prompt_tokens=self._prompt_tokens[arm.policy][prompts],
            completion_tokens=own,
            steps=np.maximum(1.0, steps * own / max(mean, 1.0)),
        )
        work = arm.strategy.workload(n, lengths, arm.verifier is not None)
        policy = self._meter.profiles[arm.policy]
        verifier = self._meter.profiles[arm.verifier] if arm.verifier is not None else None
        return np.broadcast_to(self._amount(work, policy, verifier), prompts.shape).astype(np.float64)

    def _amount(self, work: Workload, policy: ModelProfile, verifier: ModelProfile | None) -> Floats:
        """A workload in the budget's unit."""
        tokens = work.prompt_tokens + work.completion_tokens
        if self._unit is Unit.SAMPLES:
            return np.asarray(work.samples, dtype=np.float64)
        if self._unit is Unit.TOKENS:
            return np.asarray(tokens + work.verifier_tokens, dtype=np.float64)
        if self._unit is Unit.FLOPS:
            flops = np.asarray(policy.flops(tokens, work.policy_attended), dtype=np.float64)
            return flops + (verifier.flops(work.verifier_tokens, work.verifier_attended) if verifier else 0.0)
        seconds = np.asarray(tokens * self._meter.seconds_per_token(policy.name), dtype=np.float64)
        checked = work.verifier_tokens * self._meter.seconds_per_token(verifier.name) if verifier else 0.0
        if self._unit is Unit.GPU_SECONDS:
            return seconds * policy.gpus + (checked * verifier.gpus if verifier else 0.0)
        by_token = work.prompt_tokens * policy.dollars_per_million_input
        by_token = (by_token + work.completion_tokens * policy.dollars_per_million_output) / 1e6
        dollars = seconds * policy.dollars_per_hour / 3600.0 + by_token
        if verifier is not None:
            dollars = dollars + checked * verifier.dollars_per_hour / 3600.0
            dollars = dollars + work.verifier_tokens * verifier.dollars_per_million_input / 1e6
        return dollars
