"""The driver-side view of a vLLM model: its files in a folder, in the hub's cache, or fetched from the hub.

vLLM itself is not imported, and need not be installed where the driver runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path

from apportion.actors.architectures import check_writes
from apportion.actors.describe import PROMPTS_REMEMBERED, FolderDescriber, missing_shards, read_config
from apportion.actors.score_format import known_format, local_config, tokenizer_of
from apportion.actors.score_formats import ScoreFormat
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.actors.vllm_args import OwnArgs
from apportion.actors.vllm_files import describing_folder, hub_tensors
from apportion.errors import ConfigError


class ScorerDescriber(FolderDescriber):
    """Of a reward model: counts what its format writes."""

    def __init__(
        self, spec: ModelSpec, form: ScoreFormat, folder: Path, tensors: Iterable[tuple[str, int]] | None
    ) -> None:
        super().__init__(spec, folder, tensors)
        self._form = form
        self._count_prompt = lru_cache(PROMPTS_REMEMBERED)(lambda messages: len(form.prompt(self._tokens, messages)))

    @cached_property
    def _tokens(self) -> ChatTokenizer:
        return tokenizer_of(self._spec, self._form, self._folder)

    @cached_property
    def step_tokens(self) -> int:
        """At most how many tokens a step has beside those of its text."""
        return self._form.step_tokens(self._tokens)


def describe(spec: ModelSpec) -> FolderDescriber:
    """The driver-side view of a model; ModelError where it is not there, ConfigError for engine_args that are wrong."""
    OwnArgs.split(spec)
    folder = describing_folder(spec)
    here = Path(spec.path).is_dir() or (any(folder.glob("*.safetensors")) and not missing_shards(folder))
    tensors = None if here else hub_tensors(spec)
    if spec.role is Role.SCORER:
        return ScorerDescriber(spec, format_of(spec, folder), folder, tensors)
    return FolderDescriber(spec, folder, tensors)


def format_of(spec: ModelSpec, folder: Path) -> ScoreFormat:
    """The format of a scorer; ConfigError where it cannot be told."""
    form = known_format(spec.name, spec.engine_args, read_config(folder, spec.name))
    if form is None:
        raise ConfigError(f"models.{spec.name}: no format was found; set models.{spec.name}.engine_args.format")
    return form


def check(spec: ModelSpec) -> None:
    """What the config and a config.json of this machine show to be wrong: ConfigError, or ModelError for a policy that
    cannot write."""
    OwnArgs.split(spec)
    config = local_config(spec.path)
    if spec.role is Role.SCORER:
        known_format(spec.name, spec.engine_args, config)
    elif config is not None:
        check_writes(spec, config)
