"""The driver-side view of a Hugging Face folder: config.json, the safetensors headers and the tokenizer.

No weights are read and no torch is imported, so a driver without an accelerator can count tokens and FLOPs.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from apportion.actors.architectures import architectures_of, check_writes, who_runs
from apportion.actors.parameters import active_parameters, first_of
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.costs import ModelProfile
from apportion.errors import ConfigError, ModelError
from apportion.types import Messages

PROMPTS_REMEMBERED = 16384
# A prompt's length is asked again for each of its requests; this covers the prompts in flight.

SCORE_HEAD = "score.2.weight"
# The last layer of a process reward model's head.

INDEX = "model.safetensors.index.json"

Config = Mapping[str, Any]


def read_config(folder: Path, name: str) -> Config:
    """config.json of a model folder (its text part, for models with several), or ModelError."""
    if not folder.is_dir():
        raise ModelError(
            f"models.{name}.model: there is no folder {str(folder)!r}; give a local model folder or a lab: name"
        )
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(
            f"models.{name}.model: {folder} has no config.json, so it is no Hugging Face model folder; "
            "point `model` at the folder that holds config.json and *.safetensors"
        )
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ModelError(
            f"models.{name}.model: {file} is not valid JSON ({error}); download the model again"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"models.{name}.model: {file} holds no JSON object; download the model again")
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


def missing_shards(folder: Path) -> list[str]:
    """The weight files that a folder's index names and that are not there, as after a download that was cut short."""
    index = folder / INDEX
    if not index.is_file():
        return []
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is no index of weights ({error!r}); download the model again") from error
    return sorted(name for name in named if not (folder / name).is_file())


def weight_files(folder: Path, name: str) -> list[Path]:
    """The safetensors files of a model folder, or ModelError; other formats are not read."""
    files, missing = sorted(folder.glob("*.safetensors")), missing_shards(folder)
    if files and missing:
        raise ModelError(
            f"models.{name}.model: {folder} has no {missing[0]} ({len(missing)} files of its index are not there); "
            "download the rest of the model"
        )
    if not files:
        raise ModelError(
            f"models.{name}.model: {folder} has no *.safetensors, the only weights that are read (never pickle); "
            "download or convert the model's safetensors"
        )
    return files


def tensor_sizes(file: Path) -> Iterator[tuple[str, int]]:
    """Name and number of elements of every tensor in a safetensors file, from its header alone."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for tensor, entry in header.items():
            if tensor != "__metadata__":
                yield tensor, math.prod(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file} is no safetensors file ({error}); download the model again") from error


def check_role(spec: ModelSpec) -> None:
    """ModelError for a model of the embedded engine whose folder, where it is here, is not one for its role.

    The embedded scorer runs the layout of Qwen2ForProcessRewardModel (`apportion.actors.prm`).
    """
    folder = Path(spec.path)
    if not folder.is_dir():
        return
    config = read_config(folder, spec.name)
    check_writes(spec, config)
    if spec.role is not Role.SCORER:
        return
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name for file in files for name, _ in tensor_sizes(file)}
    if config.get("model_type") != "qwen2" or (files and SCORE_HEAD not in tensors):
        found = architectures_of(config, spec.engine_args)
        named = f"; {', '.join(found)} is {who_runs(found)}" if found else ""
        raise ModelError(
            f"models.{spec.name}: {folder} is no process reward model (model_type {config.get('model_type')!r}, "
            f"{SCORE_HEAD} needed){named}; the embedded scorer scores steps and runs the Qwen2ForProcessRewardModel "
            "layout: give such a folder, for example lab:prm, or run an outcome reward model with engine: vllm"
        )


def _needed(config: Config, folder: Path, *names: str) -> int:
    found = first_of(config, *names)
    if found is None:
        raise ModelError(f"{folder}/config.json has no {names[0]}, which is needed to count FLOPs; add it")
    return found


def attention_window(config: Config) -> int | None:
    """The sliding window of a model some of whose layers attend to no more than that, else None."""
    window = first_of(config, "sliding_window")
    kinds = config.get("layer_types")
    slides = "sliding_attention" in kinds if isinstance(kinds, list) else config.get("use_sliding_window", True)
    return window if slides else None


def context_length(config: Config, spec: ModelSpec) -> int:
    """Tokens a sequence may hold: what the model was made for, or less where `max_model_len` says so; ConfigError where
    that is no number of tokens.

    The embedded engine attends to everything before a token, so it stays within a sliding window.
    """
    limits = [_needed(config, Path(spec.path), "max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")]
    most = spec.engine_args.get("max_model_len")
    if most is not None:
        if not isinstance(most, int) or isinstance(most, bool) or most < 2:
            raise ConfigError(
                f"models.{spec.name}.engine_args.max_model_len is {most!r}; it must be an integer of at least 2, for a "
                "token to read and one to write; leave it out for all that the model was made for"
            )
        limits.append(most)
    if spec.engine == "embedded" and (window := attention_window(config)) is not None:
        limits.append(window)
    return min(limits)


class FolderDescriber:
    """A Describer (see `protocols`) of a model folder. The tokenizer is loaded when first needed.

    `folder` is where its files are, the spec's path unless given; `tensors` are those of weights that are elsewhere.
    """

    def __init__(
        self, spec: ModelSpec, folder: Path | None = None, tensors: Iterable[tuple[str, int]] | None = None
    ) -> None:
        self._spec = spec
        self._folder = folder or Path(spec.path)
        config = read_config(self._folder, spec.name)
        check_writes(spec, config)
        if tensors is None:
            tensors = (entry for file in weight_files(self._folder, spec.name) for entry in tensor_sizes(file))
        if not any((self._folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            raise ModelError(
                f"models.{spec.name}.model: {self._folder} has no tokenizer; copy the model's tokenizer.json into it"
            )
        heads = _needed(config, self._folder, "num_attention_heads", "n_head")
        width = _needed(config, self._folder, "hidden_size", "n_embd", "d_model")
        head_width = first_of(config, "head_dim") or width // heads
        self._profile = ModelProfile(
            name=spec.name,
            active_parameters=active_parameters(config, tensors, spec.role),
            layers=_needed(config, self._folder, "num_hidden_layers", "n_layer"),
            attention_width=heads * head_width,
            context=context_length(config, spec),
            gpus=spec.gpus or 1.0,
            dollars_per_hour=spec.dollars_per_hour,
            dollars_per_million_input=spec.dollars_per_million_input,
            dollars_per_million_output=spec.dollars_per_million_output,
        )
        self._count_prompt = lru_cache(PROMPTS_REMEMBERED)(lambda messages: len(self._tokens.encode_prompt(messages)))

    @cached_property
    def _tokens(self) -> ChatTokenizer:
        return ChatTokenizer(self._folder, self._spec.engine_args.get("chat_template"))

    def profile(self) -> ModelProfile:
        """What must be known to count its work."""
        return self._profile

    def count_prompt(self, messages: Messages) -> int:
        """Tokens of a conversation as the engine renders it."""
        return self._count_prompt(messages)

    def count_text(self, text: str) -> int:
        """Tokens of a piece of assistant text."""
        return len(self._tokens.encode(text))


def describe(spec: ModelSpec) -> FolderDescriber:
    """The driver-side view of a model folder, or ModelError where it is none."""
    return FolderDescriber(spec)
