"""Best-of-n: n independent responses, scored once where the arm has a verifier.

Lightman et al. 2023 (arXiv 2305.20050); without a verifier it is self-consistency, Wang et al. 2022 (arXiv 2203.11171).
One Generate per purchase, so that the prompt is read once; then at most one Score of all responses that have steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from apportion.policies.steps import steps_of
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate, sampled_workload, score
from apportion.types import Completion, Draft, Generate, Score


@dataclass(frozen=True, slots=True)
class BestOfN:
    """n independent samples. Without settings: how they are drawn is the arm's sampling."""

    name: ClassVar[str] = "best_of_n"
    needs_verifier: ClassVar[bool] = False
    independent: ClassVar[bool] = True

    def plan(self, task: Task) -> Plan:
        """n drafts in seed order; unscored where the purchase was cut off before the verifier's turn."""
        drafts = yield from sampled(task)
        return (yield from scored_drafts(task, drafts))

    def check(self, n: int) -> str | None:
        return None if n >= 1 else f"n is {n}, and best_of_n draws at least 1 sample; use n: 1 or more"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        return sampled_workload(n, lengths, verified)


def sampled(task: Task) -> Plan:
    """n independent samples of the task's policy in seed order, not scored yet; none where cut off."""
    seeds = tuple(task.seed(task.drawn + sample) for sample in range(task.n))
    try:
        written = yield from generate(Generate(task.policy, task.messages, seeds, task.sampling))
    except CutOff:
        return ()
    return tuple(draft_of(completion, task) for completion in written.completions)


def draft_of(completion: Completion, task: Task) -> Draft:
    """A whole response as a draft, not scored yet."""
    steps = steps_of(completion.text, task.step_separator, task.sampling.stop)
    return Draft(completion.text, steps, completion.tokens, completion.finish, completion.stats)


def scored_drafts(task: Task, drafts: tuple[Draft, ...]) -> Plan:
    """The drafts with the scores of the task's verifier, where it has one and the purchase is not cut off before."""
    # A verifier has nothing to read in an empty response, and the same response twice is read once.
    distinct = tuple(dict.fromkeys(draft.steps for draft in drafts if draft.steps))
    if task.verifier is None or not distinct:
        return drafts
    try:
        scored = yield from score(Score(task.verifier, task.messages, distinct))
    except CutOff:
        return drafts
    scores = dict(zip(distinct, scored.scores, strict=True))
    return tuple(replace(draft, step_scores=scores.get(draft.steps, ())) for draft in drafts)
