"""Reward-guided speculative decoding: a small model drafts each step, and a reward model says whether it will do.

Liao et al. 2025 (arXiv 2501.19324, "Reward-Guided Speculative Decoding for Efficient LLM Reasoning"): the draft model
writes a step, a process reward model scores it, and at `threshold` (0.7 in the paper) or more it is kept; else the
target model writes the step. Unlike speculative decoding it does not keep to the target's distribution: it prefers what
the reward model likes, and can pass the target model. It works with any two models that continue text, where
`spec_reason` needs a large one that can judge.

Choices beyond those of `apportion.policies.speculation`:
- The score of a step is the one at its end, with all steps before it read; a draft without text has none and is
  rejected. Steps that the target wrote are not judged, but are scored with the response they are in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies.beams import Beam, Scores, score_beams
from apportion.policies.settings import one_or_more
from apportion.policies.speculation import BOUND, REJECTED, Asking, check_chains, speculate, speculated_workload
from apportion.policies.strategy import Lengths, Plan, Task, Workload


@dataclass(frozen=True, slots=True)
class RewardGuided:
    """n chains whose steps are kept where the verifier gives `threshold` or more, and else written by the second model.

    `draft_tokens` bounds a drafted step.
    """

    name: ClassVar[str] = "rsd"
    needs_verifier: ClassVar[bool] = True
    needs_second: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True
    independent: ClassVar[bool] = True

    threshold: float = 0.7
    draft_tokens: int = 512

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0.0 < self.threshold <= 1.0):
            raise ConfigError(
                f"rsd.threshold is {self.threshold:g}; it must be above 0 and at most 1, the least score that keeps a "
                "step: 0 would keep all, which is best_of_n by the small model"
            )
        one_or_more("rsd.draft_tokens", self.draft_tokens, BOUND)

    def plan(self, task: Task) -> Plan:
        """n drafts with their step scores; where cut off, chains as they stand, with finish LENGTH or unscored."""
        scores: Scores = {}

        def judge(before: Sequence[Beam], drafted: Sequence[Beam], seeds: Sequence[int]) -> Asking:
            yield from score_beams(task, drafted, scores)
            pairs = zip(before, drafted, strict=True)
            return [new.steps != old.steps and self._keeps(scores.get(new.steps, ())) for old, new in pairs]

        return speculate(task, self.draft_tokens, judge, scores)

    def check(self, n: int) -> str | None:
        return check_chains(self.name, n)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """That of the chains; the verifier reads rejected drafts too."""
        work = speculated_workload(n, lengths, verified)
        reach = REJECTED * n * attended(lengths.prompt_tokens, lengths.completion_tokens)
        return replace(
            work,
            verifier_tokens=work.verifier_tokens + REJECTED * n * lengths.completion_tokens * verified,
            verifier_attended=work.verifier_attended + reach * verified,
        )

    def _keeps(self, scores: Sequence[float]) -> bool:
        return bool(scores) and scores[-1] >= self.threshold
