"""Cascade: a cheap model first, and a dear one where the cheap one does not agree with itself.

Yue et al. 2023 (arXiv 2310.03094, "Large Language Model Cascades with Mixture of Thoughts Representations for
Cost-Efficient Reasoning"): the weak model answers several times, and where the most frequent answer has too small a
share of them, the strong model's answer is taken. FrugalGPT (Chen et al. 2023, arXiv 2305.05176) decides by a trained
scorer and AutoMix (Aggarwal et al. 2023, arXiv 2310.12963) by the weak model's own verification; agreement needs
neither, and is what `majority` goes by.

Of use where purchases are not chosen one by one: with the allocations `uniform` and `binned`, or as one step of a
pipeline. `price` and others that choose among arms make a cascade of two best-of-n arms by themselves, and set what
counts as agreement by its price.

Choices:
- Agreement is over all responses of the arm, those of earlier purchases too, by `Draft.weight`; one without an answer
  agrees with nothing. Where the task has no reader of answers, its last step is a response's answer.
- The dear model's responses stand in the place of the cheap one's, as in the paper, since a few would be outvoted by
  the many whose disagreement called for them. There are `large` of them, each n / `large` times; a copy votes, and as
  evidence a response weighs 1 in all its copies.
- Only what comes back is scored, where the arm has a verifier.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies.best_of_n import draft_of, sampled, scored_drafts
from apportion.policies.settings import one_or_more
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate, sampled_workload, second_of
from apportion.types import Draft, Generate

ESCALATED = 0.5
"""The share of purchases expected to ask the dear model, before any was made: it depends on how hard the prompts are,
and what purchases really cost replaces it."""

SECOND = 1
"""Ends the path of a seed of the dear model; that of the cheap one ends with the sample."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """n samples of the policy; where the top answer has a share below `threshold`, `large` of the second instead."""

    name: ClassVar[str] = "cascade"
    needs_verifier: ClassVar[bool] = False
    needs_second: ClassVar[bool] = True

    threshold: float = 0.6
    large: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(
                f"cascade.threshold is {self.threshold:g}; it must be above 0 and at most 1: the least share of the "
                "answers that the most frequent one must have"
            )
        why = "how often the second model answers where the policy does not agree with itself"
        one_or_more("cascade.large", self.large, why)

    def plan(self, task: Task) -> Plan:
        """n drafts; the policy's where it agrees, and where cut off before the second model has answered."""
        drafts = yield from sampled(task)
        if drafts and agreement(task, (*task.earlier, *drafts)) < self.threshold:
            others = tuple(task.seed(task.drawn + sample, SECOND) for sample in range(self.large))
            try:
                better = yield from generate(Generate(second_of(task), task.messages, others, task.sampling))
            except CutOff:
                return drafts
            drafts = repeated([draft_of(completion, task) for completion in better.completions], task.n)
        return (yield from scored_drafts(task, drafts))

    def check(self, n: int) -> str | None:
        least = (math.floor(1.0 / self.threshold) // self.large + 1) * self.large
        if n < self.large:
            return f"n is {n}, and large is {self.large}: a purchase of n holds no more; use n: {least} or more"
        if n % self.large:
            above = max(least, math.ceil(n / self.large) * self.large)
            return (
                f"n is {n}, which {self.large} responses of the second model cannot fill equally; use n: {above} or "
                f"another multiple of {self.large}"
            )
        if n * self.threshold > 1.0:
            return None
        return (
            f"n is {n}, where the most frequent answer always has a share of {self.threshold:g} or more; "
            f"use n: {least} or more, or a higher threshold"
        )

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Best-of-n's, and the second model's in the share of purchases that are expected to ask it."""
        prompt, completion = lengths.prompt_tokens, lengths.completion_tokens
        returned = (1.0 - ESCALATED) * n + ESCALATED * self.large
        reach = attended(prompt, completion)
        return replace(
            sampled_workload(n, lengths, verified),
            verifier_tokens=(prompt + returned * completion) * verified,
            verifier_attended=(attended(0.0, prompt) + returned * reach) * verified,
            samples=n + ESCALATED * self.large + 0.0 * prompt,
            second_prompt_tokens=ESCALATED * prompt,
            second_completion_tokens=ESCALATED * self.large * completion,
            second_attended=ESCALATED * (attended(0.0, prompt) + self.large * reach),
            unshared_prompt_tokens=n * prompt,
        )


def agreement(task: Task, drafts: Sequence[Draft]) -> float:
    """The share of the most frequent answer in [0, 1], by weight; 0 where no answer can be read."""
    shares: dict[str, float] = defaultdict(float)
    for draft in drafts:
        answer = _last_step(draft) if task.read is None else task.read(draft.text)
        if answer is not None:
            shares[answer] += draft.weight
    return max(shares.values(), default=0.0) / math.fsum(draft.weight for draft in drafts)


def repeated(drafts: Sequence[Draft], n: int) -> tuple[Draft, ...]:
    """n drafts, in turn; the copies of one weigh 1 together."""
    copies = [len(range(at, n, len(drafts))) for at in range(len(drafts))]
    weighed = [replace(draft, weight=1.0 / count) for draft, count in zip(drafts, copies, strict=True)]
    return tuple(weighed[at % len(drafts)] for at in range(n))


def _last_step(draft: Draft) -> str | None:
    return draft.steps[-1] if draft.steps else None
