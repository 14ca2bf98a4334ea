"""SpecReason: a small model drafts each step, and a large one says with one digit whether it will do.

Pan et al. 2025 (arXiv 2504.07891, "SpecReason: Fast and Accurate Inference-Time Compute via Speculative Reasoning"):
the small model drafts a step (at most 512 tokens), the large model gives it 0 to 9 in one token, and at 7 or more it is
kept; else the large model writes the step itself. A large model reads much faster than it writes, so judging is cheap,
and small mistakes that do not change where a solution leads are let through.

Choices beyond those of `apportion.policies.speculation`:
- A step is asked about in a conversation of its own, `question`, whose beginning is that of the question before, so
  that an engine that keeps beginnings reads only what is new. The authors ask within the large model's own response.
- The digit is drawn at temperature 0. An answer without one keeps nothing, nor does a question that the large model's
  context does not hold: it writes the step.
- A verifier, where the arm has one, scores the finished responses and decides nothing on the way; `rsd` lets it judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies.asking import ask, check_template, problem_of, template_tokens
from apportion.policies.beams import Beam
from apportion.policies.settings import one_or_more
from apportion.policies.speculation import BOUND, Asking, check_chains, speculate, speculated_workload
from apportion.policies.strategy import Lengths, Plan, Task, Workload, generate_all, second_of
from apportion.types import Generate, Messages, Sampling

QUESTION = """Here are a problem, the solution so far, and a proposal for its next step.

Problem:
{problem}

Solution so far:
{so_far}

Proposed next step:
{step}

How good is this step, from 0 (wrong, or of no use) to 9 (certainly right)? Answer with one digit and nothing else."""

NOTHING_YET = "(nothing yet)"


@dataclass(frozen=True, slots=True)
class SpecReason:
    """n chains whose steps are kept where the second model gives `threshold` or more, and else written by it.

    `draft_tokens` bounds a drafted step and `score_tokens` the answer that holds the digit: more than 1 for models that
    begin with a space or a word. In `question`, `{problem}`, `{so_far}` and `{step}` are replaced, or `{before}` and
    `{step}`: the problem, a newline and the steps so far, or the problem alone.
    """

    name: ClassVar[str] = "spec_reason"
    needs_verifier: ClassVar[bool] = False
    needs_second: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    by_step: ClassVar[bool] = True
    independent: ClassVar[bool] = True

    threshold: int = 7
    draft_tokens: int = 512
    score_tokens: int = 1
    question: str = QUESTION

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= 9:
            raise ConfigError(
                f"spec_reason.threshold is {self.threshold}; it must be 1 to 9, the least digit that keeps a step: "
                "0 would keep all, which is best_of_n by the small model"
            )
        one_or_more("spec_reason.score_tokens", self.score_tokens)
        one_or_more("spec_reason.draft_tokens", self.draft_tokens, BOUND)
        before = ("before",) if "{before}" in self.question else ("problem", "so_far")
        check_template("spec_reason.question", self.question, (*before, "step"))

    def plan(self, task: Task) -> Plan:
        """n drafts; where cut off, chains as they stand, those that have not ended with finish LENGTH."""

        def judge(before: Sequence[Beam], drafted: Sequence[Beam], seeds: Sequence[int]) -> Asking:
            return self._judge(task, before, drafted, seeds)

        return speculate(task, self.draft_tokens, judge, {})

    def check(self, n: int) -> str | None:
        return check_chains(self.name, n)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """That of the chains, and a question for each step, of which engines keep the beginning.

        Each step is read twice, as the proposal and as part of what there is, and the end of the template each time.
        """
        work = speculated_workload(n, lengths, verified)
        prompt, completion, asked = lengths.prompt_tokens, lengths.completion_tokens, n * lengths.steps
        head = tail = template_tokens(self.question) / 2.0
        again = 2.0 * n * completion + asked * tail
        place = prompt + head + completion / 2.0
        return replace(
            work,
            samples=work.samples + asked,
            second_prompt_tokens=work.second_prompt_tokens + prompt + head + again,
            second_completion_tokens=work.second_completion_tokens + asked * self.score_tokens,
            second_attended=work.second_attended
            + attended(0.0, prompt + head)
            + (again + asked * self.score_tokens) * place,
        )

    def keeps(self, answer: str) -> bool:
        """Whether the first digit in an answer is high enough; an answer without one keeps nothing."""
        digit = re.search(r"[0-9]", answer)
        return digit is not None and int(digit[0]) >= self.threshold

    def _judge(self, task: Task, before: Sequence[Beam], drafted: Sequence[Beam], seeds: Sequence[int]) -> Asking:
        questions: dict[Messages, int] = {}
        own = [self._question(task, old, new) for old, new in zip(before, drafted, strict=True)]
        for question, seed in zip(own, seeds, strict=True):
            questions.setdefault(question, seed)
        sampling = Sampling(0.0, 1.0, self.score_tokens)
        asked = [Generate(second_of(task), question, (seed,), sampling) for question, seed in questions.items()]
        asked = [request for request in asked if task.second_reads(request.messages)]
        replies = (yield from generate_all(tuple(asked))) if asked else ()
        verdicts = dict.fromkeys(questions, False)
        for request, reply in zip(asked, replies, strict=True):
            verdicts[request.messages] = self.keeps(reply.completions[0].text)
        return [verdicts[question] for question in own]

    def _question(self, task: Task, before: Beam, drafted: Beam) -> Messages:
        step = drafted.text[len(before.text) :].strip()
        problem, so_far = problem_of(task.messages), before.text.strip()
        parts = {"problem": problem, "so_far": so_far or NOTHING_YET, "step": step}
        return ask(self.question, **parts, before=f"{problem}\n{so_far}" if so_far else problem)
