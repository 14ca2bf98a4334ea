"""Making equal answers equal strings, so that votes can be counted by string."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.policies.answers import AnswerType


def canonical(answer: str, seen: Sequence[str], answer_type: AnswerType) -> str:
    """The first of `seen` that means the same as `answer`, or `answer` itself.

    `seen` holds distinct answers already made canonical, earliest first. A string that was seen needs no comparison.
    """
    if answer in seen:
        return answer
    return next((earlier for earlier in seen if answer_type.same(earlier, answer)), answer)
