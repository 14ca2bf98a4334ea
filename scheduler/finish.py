"""From drafts to candidates, and from a prompt's candidates to its committed result. Never reads a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apportion.difficulty.checkable import is_accepted
from apportion.difficulty.objectives import Objective
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

Indices = tuple[int, ...]


class Finisher:
    """Answers are read by the job's answer type and chosen by an arm's selector.

    The selector is that of the arm bought last, and it sees every candidate of the prompt, whichever arm drew it.
    `counted` is the objective where it counts accepted candidates: results then say which they are, each text once.
    """

    def __init__(self, answers: AnswerType, arms: Mapping[str, Arm], counted: Objective | None = None) -> None:
        self._answers = answers
        self._arms = arms
        self._counted = counted

    def candidates(self, state: PromptState, arm: Arm, number: int, drafts: Sequence[Draft]) -> list[Candidate]:
        """New candidates of a prompt, numbered after those it has; equal answers become equal strings. Asked once of
        each purchase: where candidates are counted, those say so whose text the prompt has already."""
        prompt, index, new = state.prompt.id, len(state.candidates), []
        for draft in drafts:
            answer = self.read(state, draft.text)
            score = score_of(draft.step_scores, arm.aggregate)
            repeats = 0 if self._counted is None else state.repeats(draft.text)
            new.append(Candidate(prompt, index, arm.name, number, draft, answer, score, repeats))
            index += 1
        return new

    def read(self, state: PromptState, text: str) -> str | None:
        """The answer in a response to a prompt, as the first answer of the prompt that equals it was written."""
        answer = self._answers.extract(text)
        if answer is None:
            return None
        known = state.canonical
        if known is None:
            known = state.canonical = {}
        return known.get(answer) or self._first(known, answer)

    def _first(self, known: dict[str, str], answer: str) -> str:
        """An answer not yet seen, as the first answer of the prompt that equals it was written.

        Equality may be dear to tell (math): each way of writing an answer is compared once.
        """
        known[answer] = found = canonical(answer, list(dict.fromkeys(known.values())), self._answers)
        return found

    def commit(self, state: PromptState, difficulty: float, reason: str, answer: str | None = None) -> Commit:
        """The prompt's result, `correct` still open. `answer` is the one chosen already; None asks the selector."""
        choice = Choice(None, 0.0)
        if answer is not None:
            choice = choice_of(state.candidates, answer)
        elif state.candidates:
            choice = selector(self._arms[state.purchases[-1].arm].select)(state.candidates)
        response = state.candidates[choice.candidate].draft.text if choice.candidate is not None else None
        accepted, rejected, repeated = self._count(state.candidates)
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
            accepted=accepted,
            rejected=rejected,
            repeated=repeated,
        )
        return Commit(Committed(result, tuple(state.candidates), tuple(state.ended)))

    def _count(self, candidates: Sequence[Candidate]) -> tuple[Indices | None, Indices | None, Indices]:
        """Indices of the candidates that are accepted, and for pairs of those that are not, None where none count; and
        of those that are neither, as their text had been counted."""
        if self._counted is None:
            return None, None, ()
        new = [one for one in candidates if not one.repeats]
        good = [is_accepted(one, self._counted) for one in new]
        accepted, rejected = (
            tuple(one.index for one, fine in zip(new, good, strict=True) if fine is wanted) for wanted in (True, False)
        )
        repeated = tuple(one.index for one in candidates if one.repeats)
        return accepted, rejected if self._counted.name == "pairs" else None, repeated
