"""What a model's weights can do, told by the architecture that its config.json names.

A loader gives a model whose head is not among its weights a random one, and what that writes or scores is paid for.
Architectures of no known name are let through: whoever loads them finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from apportion.actors.spec import ModelSpec, Role
from apportion.errors import ModelError

WRITING = ("*ForCausalLM", "*LMHeadModel", "*ForConditionalGeneration")
STEP_SCORING = ("*ForProcessRewardModel", "*ForPrmModel")
SCORING = (*STEP_SCORING, "*ForSequenceClassification", "*ForTokenClassification", "*RewardModel")
NEITHER = ("*ForMaskedLM", "*ForQuestionAnswering", "*ForMultipleChoice")

Config = Mapping[str, Any]


def architectures_of(config: Config, engine_args: Config) -> tuple[str, ...]:
    """The architectures of config.json, or those that vLLM's `hf_overrides` put in their place.

    None where `engine_args` make another model of it: a class of the user's own, or a classifier of a language model.
    """
    overrides = engine_args.get("hf_overrides") or {}
    if "model_class_overrides" in engine_args or not isinstance(overrides, Mapping):
        return ()
    if "classifier_from_token" in overrides:
        return ()
    return tuple(map(str, overrides.get("architectures") or config.get("architectures") or ()))


def all_are(architectures: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether each is one of these; False where there are none."""
    return bool(architectures) and all(any(fnmatchcase(one, mark) for mark in patterns) for one in architectures)


def who_runs(architectures: Sequence[str]) -> str:
    """What an architecture is, and the role that runs it, to follow its name."""
    if all_are(architectures, WRITING):
        return "a language model: `role: policy` runs it"
    if all_are(architectures, STEP_SCORING):
        return "a process reward model: `role: scorer` runs it"
    if all_are(architectures, SCORING):
        return "a classifier or reward model: `role: scorer` runs it, with engine: vllm"
    return "of no role here"


def check_writes(spec: ModelSpec, config: Config) -> None:
    """ModelError for a policy whose config.json says that it cannot write."""
    found = architectures_of(config, spec.engine_args)
    if spec.role is Role.POLICY and all_are(found, (*SCORING, *NEITHER)):
        raise ModelError(
            f"models.{spec.name}: {spec.path} has the architecture {', '.join(found)}, {who_runs(found)}; a policy "
            "writes, and its head would be a random one: give a causal language model, as lab:small or one of an "
            "architecture ...ForCausalLM"
        )
