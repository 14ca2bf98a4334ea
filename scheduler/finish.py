"""From drafts to candidates, and from a prompt's candidates to its committed result. Never reads a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apportion.policies.aggregate import score_of
from apportion.policies.answers import AnswerType
from apportion.policies.answers.canonical import canonical
from apportion.policies.arm import Arm, Choice
from apportion.policies.registry import selector
from apportion.policies.selectors import choice_of
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
        first = len(state.candidates)
        return [
            Candidate(
                state.prompt.id,
                first + at,
                arm.name,
                number,
                draft,
                self._answer(state, draft),
                score_of(draft.step_scores, arm.aggregate),
            )
            for at, draft in enumerate(drafts)
        ]

    def _answer(self, state: PromptState, draft: Draft) -> str | None:
        """The answer of a draft, as the first answer of the prompt that equals it was written."""
        answer = self._answers.extract(draft.text)
        if answer is None:
            return None
        if state.canonical is None:
            state.canonical = {}
        known = state.canonical.get(answer)
        if known is None:
            # Equality may be dear to tell (math): each way of writing an answer is compared once.
            known = canonical(answer, list(dict.fromkeys(state.canonical.values())), self._answers)
            state.canonical[answer] = known
        return known

    def commit(self, state: PromptState, difficulty: float, reason: str, answer: str | None = None) -> Commit:
        """The prompt's result, `correct` still open. `answer` is the one chosen already; None asks the selector."""
        choice = Choice(None, 0.0)
        if answer is not None:
            choice = choice_of(state.candidates, answer)
        elif state.candidates:
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
