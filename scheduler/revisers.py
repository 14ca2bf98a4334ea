"""Whether the models that are to read earlier attempts can: found out from their describers, before anything is spent.

A chat template may leave out what the assistant said before, or refuse it, and a context may have no room for it. Then
every attempt would be a first one: a reviser that does not revise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.actors.protocols import Describer
from apportion.errors import ConfigError, EngineError
from apportion.policies.arm import Arm
from apportion.policies.strategy import extends_conversation
from apportion.types import Message, Messages, Prompt

SHORT, LONG = "1", "1 2 3 4 5 6 7 8"
"""Attempts of which any tokenizer makes more tokens of the second, where they are read at all."""


def check_revisers(
    arms: Sequence[Arm],
    describers: Mapping[str, Describer],
    prompts: Sequence[Prompt],
    prompt_tokens: Mapping[str, NDArray[np.float64]],
) -> None:
    """ConfigError for an arm whose strategy says earlier attempts to a model that cannot read them.

    `prompt_tokens` are [prompts] for each model.
    """
    for arm in arms:
        if prompts and extends_conversation(arm.strategy):
            shortest = prompts[int(prompt_tokens[arm.policy].argmin())]
            _check(arm, describers[arm.policy], shortest.messages)


def _check(arm: Arm, describer: Describer, shortest: Messages) -> None:
    key, name = f"arms.{arm.name}", arm.strategy.name
    try:
        short, long = (describer.count_prompt(_talk(arm, shortest, said)) for said in (SHORT, LONG))
    except EngineError as error:
        raise ConfigError(
            f"{key}.policy: {name} says earlier attempts to {arm.policy!r}, which cannot take them: {error}; "
            "or use best_of_n"
        ) from error
    if short == long:
        raise ConfigError(
            f"{key}.policy: the chat template of {arm.policy!r} leaves out what the assistant said before, so that "
            f"{name} would revise nothing; set engine_args.chat_template, choose another model, or use best_of_n"
        )
    context = describer.profile().context
    left = context - short
    if left <= arm.sampling.max_tokens:
        raise ConfigError(
            f"{key}.max_tokens is {arm.sampling.max_tokens}, which leaves no room for an earlier attempt: the context "
            f"of {arm.policy!r} holds {context} tokens, of which the shortest prompt and the turns of an attempt take "
            f"{short}; {_fix(left // 2)}"
        )


def _fix(half: int) -> str:
    return f"use at most {half}" if half > 0 else "shorten the prompts, or use best_of_n"


def _talk(arm: Arm, messages: Messages, said: str) -> Messages:
    instruction = getattr(arm.strategy, "instruction", SHORT)
    return (*messages, Message("assistant", said), Message("user", instruction))
