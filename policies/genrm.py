"""Best-of-n judged by a second policy: a generative verifier is asked for verdicts on every response.

Zhang et al. 2024 (arXiv 2408.15240, "Generative Verifiers: Reward Modeling as Next-Token Prediction"): a model is asked
whether a solution is correct, reasons, and ends with Yes or No; the score is the share of yes over V such verdicts.
Singhi et al. 2025 (arXiv 2504.01005, "When To Solve, When To Verify") found that at practical budgets more solutions
buy more than more verdicts: S solutions with V verdicts each cost S(1 + lambda V). `verdicts: 1` is the cheap end.

Choices:
- The verifier reads a conversation of its own, one user turn made of `question`: the policy's system message tells how
  to answer, not how to judge.
- A response is judged once however often it was drawn, and never again in a later purchase.
- The last match of `says_yes` or `says_no` is the verdict. One that cannot be read does not count; a response with none
  that can, an empty one, and one that the verifier's context does not hold have no score, and vote with the mean score
  of the others.
- Where cut off before the verdicts, the responses come back without scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from apportion.costs import Amount, attended
from apportion.errors import ConfigError
from apportion.policies.asking import ask, check_template, pattern, problem_of, template_tokens
from apportion.policies.best_of_n import sampled
from apportion.policies.settings import one_or_more
from apportion.policies.strategy import (
    CutOff,
    Lengths,
    Plan,
    Task,
    Workload,
    generate_all,
    sampled_workload,
    second_of,
)
from apportion.types import Draft, Generate, Sampling

QUESTION = """You are a careful grader. Here are a problem and a proposed solution.

Problem:
{problem}

Solution:
{solution}

Is this solution correct? Check it step by step. Then end with one last line, either "Verdict: Yes" or "Verdict: No"."""

SAYS_YES = r"verdict\W*yes\b|^\W*yes\W*$"
SAYS_NO = r"verdict\W*no\b|^\W*no\W*$"
"""After the word `Verdict`, or alone on a line, as models write that do not keep to the form."""

VERDICT = 1
"""Begins the rest of the path of a verdict's seed; that of a response ends with its number."""


@dataclass(frozen=True, slots=True)
class GenRM:
    """n independent samples, each different one judged by `verdicts` samples of the second model.

    `verdict_tokens` bounds one verdict and `verdict_temperature` is how it is drawn. In `question`, `{problem}` and
    `{solution}` are replaced. `says_yes` and `says_no` are regular expressions, in which case does not count.
    """

    name: ClassVar[str] = "genrm"
    needs_verifier: ClassVar[bool] = False
    needs_second: ClassVar[bool] = True
    judges: ClassVar[bool] = True
    independent: ClassVar[bool] = True

    verdicts: int = 4
    verdict_tokens: int = 1024
    verdict_temperature: float = 0.7
    question: str = QUESTION
    says_yes: str = SAYS_YES
    says_no: str = SAYS_NO

    def __post_init__(self) -> None:
        one_or_more("genrm.verdicts", self.verdicts, "use best_of_n to judge nothing")
        one_or_more("genrm.verdict_tokens", self.verdict_tokens)
        if not (math.isfinite(self.verdict_temperature) and self.verdict_temperature >= 0.0):
            raise ConfigError(
                f"genrm.verdict_temperature is {self.verdict_temperature:g}; it must be 0 or more, and finite"
            )
        if self.verdict_temperature == 0.0 and self.verdicts > 1:
            raise ConfigError(
                f"genrm.verdict_temperature is 0, where all {self.verdicts} verdicts on a response are the same; "
                "use verdicts: 1, or a temperature above 0"
            )
        check_template("genrm.question", self.question, ("problem", "solution"))
        pattern("genrm.says_yes", self.says_yes)
        pattern("genrm.says_no", self.says_no)

    def plan(self, task: Task) -> Plan:
        """n drafts in seed order, each with its share of yes; unscored where cut off before the verdicts."""
        drafts = yield from sampled(task)
        scores: dict[str, tuple[float, ...]] = {
            d.text: d.step_scores for d in task.earlier if d.step_scores is not None
        }
        asked = {text: self._ask(task, text, at) for text, at in _first_places(drafts, scores).items()}
        asked = {text: request for text, request in asked.items() if task.second_reads(request.messages)}
        if asked:
            try:
                replies = yield from generate_all(tuple(asked.values()))
            except CutOff:
                return tuple(replace(draft, step_scores=scores.get(draft.text)) for draft in drafts)
            for text, reply in zip(asked, replies, strict=True):
                scores[text] = self.share_of_yes([completion.text for completion in reply.completions])
        return tuple(replace(draft, step_scores=scores.get(draft.text, ())) for draft in drafts)

    def check(self, n: int) -> str | None:
        return None if n >= 1 else f"n is {n}, and genrm draws at least 1 sample; use n: 1 or more"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Best-of-n's, and each response read and judged once by the second model.

        How long a verdict is, is not known before: as long as a response, which it goes through, or its bound.
        """
        question = lengths.prompt_tokens + lengths.completion_tokens + template_tokens(self.question)
        verdict = _least(lengths.completion_tokens, float(self.verdict_tokens))
        judged = n * self.verdicts
        return replace(
            sampled_workload(n, lengths, verified),
            samples=n + judged + 0.0 * question,
            unshared_prompt_tokens=n * lengths.prompt_tokens,
            second_prompt_tokens=n * question,
            second_completion_tokens=judged * verdict,
            second_attended=n * attended(0.0, question) + judged * attended(question, verdict),
        )

    def verdict_of(self, text: str) -> bool | None:
        """Whether the last verdict in a text is yes; None where there is none."""
        yes, no = (
            max((found.end() for found in re.finditer(pattern("", says), text)), default=-1)
            for says in (self.says_yes, self.says_no)
        )
        return None if yes == no else yes > no

    def share_of_yes(self, texts: Sequence[str]) -> tuple[float, ...]:
        """The share of yes among the verdicts that can be read, as a response's only score; none where none can."""
        said = [verdict for text in texts if (verdict := self.verdict_of(text)) is not None]
        return (sum(said) / len(said),) if said else ()

    def _ask(self, task: Task, text: str, sample: int) -> Generate:
        messages = ask(self.question, problem=problem_of(task.messages), solution=text.strip())
        seeds = tuple(task.seed(task.drawn + sample, VERDICT, verdict) for verdict in range(self.verdicts))
        return Generate(second_of(task), messages, seeds, Sampling(self.verdict_temperature, 1.0, self.verdict_tokens))


def _first_places(drafts: Sequence[Draft], known: Mapping[str, object]) -> dict[str, int]:
    """Each text that has still to be judged, and the first sample that wrote it."""
    places: dict[str, int] = {}
    for at, draft in enumerate(drafts):
        if draft.steps and draft.text not in known:
            places.setdefault(draft.text, at)
    return places


def _least(amount: Amount, bound: float) -> Amount:
    return np.minimum(amount, bound) if isinstance(amount, np.ndarray) else min(amount, bound)
