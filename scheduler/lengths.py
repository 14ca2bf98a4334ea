"""How long responses are expected to be: a mean for each policy model, times how long each prompt's answers run.

A prompt's answers are r times as long as a model's mean, whichever model writes them; r starts at 1 and follows the
prompt's own candidates. A model's mean is over prompts, not candidates: prompts that are given many candidates are
the hard ones, whose answers are long, and the mean is what a prompt not yet seen is expected to need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FIRST_GUESS_TOKENS = 256.0
"""Length of a completion before any was seen; the first replies replace it."""
FIRST_GUESS_STEPS = 6.0
"""Steps of a response before any was seen."""
LENGTH_SHRINKAGE = 4.0
"""A prompt's own lengths count as much as the model's mean once it has this many candidates."""
GUESS_WEIGHT = 32.0
"""A length that was measured elsewhere counts as this many prompts: it is better than a few, and soon outvoted."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ResponseLengths:
    """Lengths in tokens of the responses of several models. `first_guess` has the known mean lengths of some."""

    def __init__(self, prompts: int, models: Sequence[str], first_guess: Mapping[str, float]) -> None:
        self._at = {model: at for at, model in enumerate(models)}
        self._tokens = np.zeros((prompts, len(models)))
        self._count = np.zeros((prompts, len(models)))
        self._guess = [first_guess.get(model) for model in models]
        self._means_sum = [0.0] * len(models)
        self._prompts = [0] * len(models)
        self._all_tokens = [0.0] * len(models)
        self._all_steps = [0.0] * len(models)
        self._means = [1.0] * len(models)
        self.version = 0
        """changes whenever an expectation may have"""
        self._unseen: list[int] = []
        self._guess_unseen()

    def learn(self, prompt: int, model: str, tokens: Sequence[int], steps: int) -> None:
        """Take in the responses of one purchase: their lengths, and their steps in all."""
        if not tokens:
            return
        at, total = self._at[model], float(sum(tokens))
        before, count = float(self._tokens[prompt, at]), float(self._count[prompt, at])
        self._tokens[prompt, at] = before + total
        self._count[prompt, at] = count + len(tokens)
        self._means_sum[at] += (before + total) / (count + len(tokens)) - (before / count if count else 0.0)
        self._prompts[at] += count == 0.0
        self._all_tokens[at] += total
        self._all_steps[at] += steps
        self._means[at] = self._mean(at)
        self.version += 1
        if self._unseen:
            self._guess_unseen()

    def mean(self, model: str) -> float:
        """What a prompt not yet seen is expected to need of a model."""
        return self._means[self._at[model]]

    def steps_per_token(self, model: str) -> float:
        """Steps of a response for each of its tokens."""
        at = self._at[model]
        if self._all_tokens[at] > 0.0:
            return self._all_steps[at] / self._all_tokens[at]
        if sum(self._all_tokens) > 0.0:
            return sum(self._all_steps) / sum(self._all_tokens)
        return FIRST_GUESS_STEPS / max(self._means[at], 1.0)

    def ratios(self, prompts: Ints) -> Floats:
        """How much longer than a model's mean each prompt's answers are expected to be, [prompts]."""
        means = np.array(self._means)
        own = self._tokens[prompts] @ (1.0 / means) + LENGTH_SHRINKAGE
        return np.asarray(own / (self._count[prompts].sum(axis=1) + LENGTH_SHRINKAGE))

    def ratio(self, prompt: int) -> float:
        """`ratios` of one prompt."""
        tokens: list[float] = self._tokens[prompt].tolist()
        count: list[float] = self._count[prompt].tolist()
        own = LENGTH_SHRINKAGE
        for total, mean in zip(tokens, self._means, strict=True):
            own += total / mean
        return own / (sum(count) + LENGTH_SHRINKAGE)

    def _mean(self, at: int) -> float:
        """The mean of a model that something is known of."""
        guess = self._guess[at]
        weight = 0.0 if guess is None else GUESS_WEIGHT
        return max(1.0, (self._means_sum[at] + weight * (guess or 0.0)) / (self._prompts[at] + weight))

    def _guess_unseen(self) -> None:
        """Models that nothing is known of are expected to write as the others do."""
        self._unseen = [at for at, guess in enumerate(self._guess) if guess is None and not self._prompts[at]]
        known = [at for at in range(len(self._guess)) if at not in self._unseen]
        for at in known:
            self._means[at] = self._mean(at)
        overall = sum(self._means[at] for at in known) / len(known) if known else FIRST_GUESS_TOKENS
        for at in self._unseen:
            self._means[at] = overall
