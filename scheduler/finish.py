"""From drafts to candidates, and from a prompt's candidates to its committed result. Never reads a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apportion.policies.aggregate import score_of
from apportion.policies.answers import AnswerType
from apportion.policies.answers.canonical import canonical
from apportion.policies.arm import Arm, Choice
from apportion.policies.registry import selector
from apportion.scheduler.events import Commit
from apportion.scheduler.prompt_state import PromptState
from apportion.scheduler.results import Committed, PromptResult
from apportion.types import Candidate, Draft


class Finisher:
    """Answers are read by the job's answer type and chosen by an arm's selector.

    The selector is that of the arm bought last, and it sees every candidate of the prompt, whichever arm drew it.
    """

    def __init__(self, answers: AnswerType, arms: Mapping[str, Arm]) -> None:
        self._answers = answers
        self._arms = arms

    def candidates(self, state: PromptState, arm: Arm, number: int, drafts: Sequence[Draft]) -> list[Candidate]:
        """New candidates of a prompt, numbered after those it has; equal answers become equal strings."""
        seen = list(dict.fromkeys(c.answer for c in state.candidates if c.answer is not None))
        new: list[Candidate] = []
        for draft in drafts:
            answer = self._answers.extract(draft.text)
            if answer is not None:
                answer = canonical(answer, seen, self._answers)
                if answer not in seen:
                    seen.append(answer)
            new.append(
                Candidate(
                    prompt_id=state.prompt.id,
                    index=len(state.candidates) + len(new),
                    arm=arm.name,
                    purchase=number,
                    draft=draft,
                    answer=answer,
                    score=score_of(draft.step_scores, arm.aggregate),
                )
            )
        return new

    def commit(self, state: PromptState, difficulty: float, reason: str) -> Commit:
        """The prompt's result, `correct` still open."""
        choice = Choice(None, 0.0)
        if state.candidates:
            choice = selector(self._arms[state.purchases[-1].arm].select)(state.candidates)
        response = state.candidates[choice.candidate].draft.text if choice.candidate is not None else None
        result = PromptResult(
            prompt_id=state.prompt.id,
            index=state.index,
            answer=choice.answer,
            response=response,
            confidence=choice.confidence,
            difficulty=difficulty,
            spent=state.spent,
            purchases=tuple(state.purchases),
            candidates=len(state.candidates),
            reason=reason,
            error=state.error,
            candidate=None if choice.candidate is None else state.candidates[choice.candidate].index,
        )
        return Commit(Committed(result, tuple(state.candidates), tuple(state.paid)))
