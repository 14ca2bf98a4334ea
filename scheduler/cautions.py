"""What a job's user should know of its references and its fitted policy before trusting what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from apportion.difficulty.fitted import FEW_PROMPTS, FittedPolicy
from apportion.difficulty.linear import FEWEST_PROMPTS
from apportion.difficulty.marks import among
from apportion.difficulty.pools import Pool
from apportion.policies.answers import AnswerType
from apportion.policies.answers.number import NumberAnswer
from apportion.policies.answers.text import ChoiceAnswer
from apportion.policies.arm import Arm
from apportion.scheduler.assemble import Prepared
from apportion.scheduler.terminal import several

READ_BY_VALUE = {"number": NumberAnswer, "choice": ChoiceAnswer}
"""Kinds that compare what they read. The others compare what they cannot read as text: any reference will do."""
SHOWN_CHARACTERS = 60


def job_cautions(prepared: Prepared) -> tuple[str, ...]:
    """The cautions of a prepared job."""
    spec, prompts = prepared.spec, prepared.dataset.prompts
    found = [*_unreadable([prompt.reference for prompt in prompts if prompt.reference is not None], spec.answer)]
    if prepared.fitted is not None and spec.fitted is not None:
        source = Path(spec.fitted).name
        found += cautions(prepared.fitted, source, [prompt.text for prompt in prompts])
        found += _mistaken(prepared.fitted, source, spec.arms)
    return tuple(found)


def _unreadable(references: Sequence[str], answers: AnswerType) -> Iterator[str]:
    """References that no answer can equal, because the job's answer type reads nothing in them."""
    kind = next((name for name, kind in READ_BY_VALUE.items() if isinstance(answers, kind)), None)
    if kind is None:
        return
    # A pattern is for responses: a reference may state its answer bare, which only comparing shows.
    bad = [one for one in references if answers.extract(one) is None and not answers.same(one, one + " ")]
    if bad:
        yield (
            f"{len(bad):,} of {several(len(references), 'reference')} {'holds' if len(references) == 1 else 'hold'} "
            f"nothing that answer.kind={kind} can read, for example {bad[0][:SHOWN_CHARACTERS]!r}: every answer to "
            "their prompts counts as wrong; see answer.kind and dataset.reference"
        )


def cautions(fitted: FittedPolicy, source: str, texts: Sequence[str]) -> tuple[str, ...]:
    """What to say of a policy from `source` to who uses it on prompts with these texts."""
    found = [] if few(fitted) is None else [f"{source} {few(fitted)}"]
    same = among(texts, fitted.marks)
    if same:
        found.append(
            f"{same:,} of {several(len(texts), 'prompt')} {'is' if same == 1 else 'are'} among those that {source} was "
            "fitted on: what is reached on them is no measure of what it reaches on others; leave them out, or fit on "
            "other prompts"
        )
    return tuple(found)


def _mistaken(fitted: FittedPolicy, source: str, arms: Sequence[Arm]) -> Iterator[str]:
    """Arms of the job that the policy takes for one and the same."""
    for name, some in fitted.shared(arms).items():
        yield (
            f"arms {', '.join(some)} are one arm, {name}, to {source}, which cannot tell them apart: what each is "
            "worth is learned as the job runs; record them under their own names with apportion calibrate"
        )


def untaught(fitted: FittedPolicy) -> str | None:
    """What to say of a policy whose pools have hidden states of which it learned nothing."""
    states = fitted.fitted_on.get("states")
    if states is None or fitted.hidden is not None:
        return None
    if states < FEWEST_PROMPTS:
        why = f"at least {FEWEST_PROMPTS} are needed; record more with apportion calibrate"
    else:
        why = "they did not help to tell prompts apart; record more prompts, or use difficulty.features=text"
    return f"learned nothing from the hidden states of {several(states, 'prompt')}: {why}"


def few(fitted: FittedPolicy) -> str | None:
    """What to say of a policy that was fitted on hardly any prompts."""
    if not 0 < fitted.prompts < FEW_PROMPTS:
        return None
    return (
        f"was fitted on {several(fitted.prompts, 'prompt')}: with fewer than {FEW_PROMPTS} it tells chance from "
        "difficulty badly, and forecasts are wide; record more with apportion calibrate"
    )


def never_right(fitted: FittedPolicy) -> str | None:
    """What to say of a policy some of whose arms have no right candidate."""
    arms = [f"{name} ({arm.candidates:,})" for name, arm in fitted.arms.items() if arm.pass_rate == 0.0]
    if not arms:
        return None
    return (
        f"was fitted on no right candidate of {', '.join(arms)}: pass@1 is 0. Where that cannot be, answer.kind or "
        "dataset.reference was wrong when the pool was recorded: record it again; else leave the arm out with --arms"
    )


def unanswered(pool: Pool) -> str | None:
    """What to say of a pool some of whose right candidates have no answer, where an answer is to be chosen."""
    right = sum(int(deck.correct.sum()) for deck in pool.decks.values())
    lost = sum(int((deck.correct & (deck.answer < 0)).sum()) for deck in pool.decks.values())
    if lost == 0:
        return None
    return (
        f"{lost:,} of {several(right, 'right candidate')} of pool {pool.name} {'has' if lost == 1 else 'have'} no "
        "answer, and only an answer can be chosen and be right: play with --objective coverage, which asks for one "
        "right candidate a prompt, or give the pool its answers"
    )
