"""What a job's user should know of its fitted policy before trusting what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from apportion.difficulty.fitted import FEW_PROMPTS, FittedPolicy
from apportion.difficulty.linear import FEWEST_PROMPTS
from apportion.difficulty.marks import among
from apportion.policies.arm import Arm
from apportion.scheduler.assemble import Prepared


def job_cautions(prepared: Prepared) -> tuple[str, ...]:
    """The cautions of a prepared job."""
    texts = [prompt.text for prompt in prepared.dataset.prompts]
    if prepared.fitted is None or prepared.spec.fitted is None:
        return ()
    source = Path(prepared.spec.fitted).name
    return (*cautions(prepared.fitted, source, texts), *_mistaken(prepared.fitted, source, prepared.spec.arms))


def cautions(fitted: FittedPolicy, source: str, texts: Sequence[str]) -> tuple[str, ...]:
    """What to say of a policy from `source` to who uses it on prompts with these texts."""
    found = [] if few(fitted) is None else [f"{source} {few(fitted)}"]
    same = among(texts, fitted.marks)
    if same:
        found.append(
            f"{same:,} of {len(texts):,} prompts are among those that {source} was fitted on: what is reached on them "
            "is no measure of what it reaches on others; leave them out, or fit on other prompts"
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
    return f"learned nothing from the hidden states of {states} prompts: {why}"


def few(fitted: FittedPolicy) -> str | None:
    """What to say of a policy that was fitted on hardly any prompts."""
    if not 0 < fitted.prompts < FEW_PROMPTS:
        return None
    return (
        f"was fitted on {fitted.prompts} prompts: with fewer than {FEW_PROMPTS} it tells chance from difficulty badly, "
        "and forecasts are wide; record more with apportion calibrate"
    )
