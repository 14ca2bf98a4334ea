"""What the responses of a job came to: whether they have answers, whether they ended by themselves, which are right.

A job may spend its whole budget on responses of which none can be read; what is counted here says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from apportion.scheduler.results import Committed
from apportion.scheduler.terminal import several
from apportion.types import Finish

MOST = 0.5
"""More than this share of responses that cannot be read, or that were cut, is a mistake in the config, not chance."""
SHOWN_CHARACTERS = 60
"""Of the end of a response, where its answer should stand."""


class Responses:
    """Counts the candidates of prompts as they are committed."""

    def __init__(self) -> None:
        self._by_arm: Counter[str] = Counter()
        self._cut: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()
        self._one_step: Counter[str] = Counter()
        self._unread = 0
        self._ending: str | None = None
        self._right = self._wrong = 0
        self._scored = self._covered = 0

    def add(self, committed: Committed, correct: Sequence[bool | None]) -> None:
        """One prompt's candidates; `correct` is of each."""
        for candidate in committed.candidates:
            self._by_arm[candidate.arm] += 1
            self._cut[candidate.arm] += candidate.draft.finish is Finish.LENGTH
            self._unscored[candidate.arm] += candidate.draft.step_scores == () and bool(candidate.draft.steps)
            self._one_step[candidate.arm] += len(candidate.draft.steps) == 1
            if candidate.answer is None:
                self._unread += 1
                self._ending = candidate.draft.text.rstrip()[-SHOWN_CHARACTERS:]
        self._right += sum(one is True for one in correct)
        self._wrong += sum(one is False for one in correct)
        if committed.result.correct is not None:
            self._scored += 1
            self._covered += any(one is True for one in correct)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json. `unread` have no answer that the job's answer type reads, the last of which ends with
        `unread_ending`; `by_length` ended where max_tokens or the context did, `cut_arms` are those whose most did;
        `unscored` were given to a verifier or a judge and have no score, `unscored_arms` are those whose most have, and
        `one_step_arms` those whose most hold no step separator."""
        return {
            "total": self._by_arm.total(),
            "unread": self._unread,
            "unread_ending": self._ending,
            "by_length": self._cut.total(),
            "cut_arms": self._most(self._cut),
            "unscored": self._unscored.total(),
            "unscored_arms": self._most(self._unscored),
            "one_step_arms": self._most(self._one_step),
        }

    def _most(self, counts: Counter[str]) -> list[str]:
        return sorted(arm for arm, count in counts.items() if count > MOST * self._by_arm[arm])

    def coverage(self) -> dict[str, Any] | None:
        """What was reached of the objective `coverage`, by references; None where no prompt has one.

        Its fields are those of an objective that counts candidates (see `summary.build_summary`); `accept` is None,
        as a candidate counts where it is right, and `scored` are the prompts with a reference.
        """
        if not self._scored:
            return None
        return {
            "name": "coverage",
            "k": 1,
            "accept": None,
            "reached": self._covered / self._scored,
            "whole": self._covered,
            "accepted": self._right,
            "rejected": self._wrong,
            "repeated": 0,
            "scored": self._scored,
        }


def response_cautions(responses: Mapping[str, Any], kind: str, by_step: Collection[str] = ()) -> Iterator[str]:
    """What to say of responses (see `Responses.as_dict`) whose answers are of a kind; arms `by_step` choose steps."""
    total, unread, cut = responses["total"], responses["unread"], responses["by_length"]
    if unread > MOST * total:
        none, most = f"none of {several(total, 'response')} has an", f"{unread:,} of {total:,} responses have no"
        yield (
            f"{none if unread == total else most} answer that answer.kind={kind} can read; the last one ends "
            f"{responses['unread_ending']!r}; see answer.kind, answer.pattern and answer.fallback"
        )
    if cut > MOST * total:
        arms = ", ".join(f"arms.{arm}" for arm in responses["cut_arms"])
        yield (
            f"{cut:,} of {several(total, 'response')} {'was' if cut == 1 else 'were'} cut off by their length before "
            f"they ended: raise max_tokens of {arms}, or the context of its model where that is what they ran out of"
        )
    if unscored := responses["unscored_arms"]:
        arms = ", ".join(f"arms.{arm}" for arm in unscored)
        yield (
            f"most responses of {arms} have no score, so that choosing by scores is hardly more than counting votes: "
            "the verifier's context does not hold them, or what a judge says of them holds no verdict; see "
            "max_model_len of the verifier, or question, says_yes, says_no and verdict_tokens"
        )
    if whole := [arm for arm in responses["one_step_arms"] if arm in by_step]:
        arms = ", ".join(f"arms.{arm}" for arm in whole)
        yield (
            f"most responses of {arms} are one step, so that there was hardly a step to choose: their step_separator "
            "does not stand in them; set it to what the model writes between two steps, or use best_of_n"
        )
