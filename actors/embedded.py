"""The embedded engine: any causal model of transformers, run in this process, its own batching and decode loop.

For CPUs, small models and tests. It needs a folder with safetensors weights, a
tokenizer and a chat template; nothing is downloaded and no code of the folder is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from apportion.actors.attention import GROUPED
from apportion.actors.batching import Batcher
from apportion.actors.decoding import Decoder
from apportion.actors.describe import context_length, read_config, weight_files
from apportion.actors.jobs import Job, Look
from apportion.actors.prefixes import PrefixCache
from apportion.actors.replies import Waiter
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.stops import StopTable
from apportion.actors.tokens import ChatTokenizer, no_room
from apportion.errors import ConfigError, EngineError, ModelError
from apportion.policies.settings import build
from apportion.types import Embed, Embedded, Generate, Generated

ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})
# Other kinds of layers carry a running state, which cannot be shared between samples or dropped by row.

SHOWN_WEIGHTS = 3
# Of those that a folder lacks, named in an error.


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """What `engine_args` may hold."""

    max_model_len: int | None = None
    device: str | None = None
    """`cpu`, `cuda` or `cuda:0`; by default CUDA where there is one"""
    dtype: str | None = None
    """`float32`, `bfloat16` or `float16`; by default float32 on a CPU and the folder's own type on CUDA"""
    chat_template: str | None = None
    prefix_cache_mb: int = 256
    """keys and values kept of prompts and steps that may be continued; 0 keeps none, and then a request costs the
    same whatever ran before it"""

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """Read `engine_args`; unknown keys and values raise ConfigError."""
        where = f"models.{spec.name}.engine_args"
        settings = build(cls, spec.engine_args, where)
        if settings.dtype not in (None, "float32", "bfloat16", "float16"):
            raise ConfigError(f"{where}.dtype: {settings.dtype!r} is not one of float32, bfloat16, float16")
        if settings.prefix_cache_mb < 0:
            raise ConfigError(f"{where}.prefix_cache_mb is {settings.prefix_cache_mb}; it must be 0, for none, or more")
        try:
            torch.device(settings.device or "cpu")
        except RuntimeError as error:
            raise ConfigError(f"{where}.device is {settings.device!r}; it must be cpu, cuda or cuda:N") from error
        return settings

    def place(self) -> tuple[torch.device, Any]:
        """Device and dtype (or "auto") to load weights to."""
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.dtype is not None:
            return device, getattr(torch, self.dtype)
        return device, torch.float32 if device.type == "cpu" else "auto"


class EmbeddedEngine:
    """An Engine (see `protocols`) over one Batcher."""

    def __init__(self, name: str, tokenizer: ChatTokenizer, batcher: Batcher, context: int) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._context = context

    async def generate(self, request: Generate) -> Generated:
        """Completions for one request, batched with whatever else runs."""
        turns = self._tokenizer.encode_prompt(request.messages)
        prompt = turns + self._tokenizer.encode(request.prefix)
        if request.sampling.max_tokens < 1 or not prompt or len(turns) >= self._context:
            raise EngineError(
                f"model {self._name!r} was asked for {request.sampling.max_tokens} tokens after a conversation of "
                f"{len(turns)}; both must be at least 1 and the context holds {self._context}: shorten the prompt"
            )
        limit = min(request.sampling.max_tokens, self._context - len(prompt))
        if limit < 1:
            return no_room(request)
        job = Job(request, prompt, limit, Waiter.here())
        if not request.seeds:
            return job.reply()
        self._batcher.submit(job)
        try:
            return await job.waiter.future
        except asyncio.CancelledError:
            self._batcher.abandon(job)
            raise

    async def embed(self, request: Embed) -> Embedded:
        """The hidden state at the end of a conversation, read together with the others that are asked for."""
        prompt = self._tokenizer.encode_prompt(request.messages)
        if not 0 < len(prompt) < self._context:
            raise EngineError(
                f"model {self._name!r} was asked for the hidden state of a conversation of {len(prompt)} tokens, which "
                f"must be at least 1 and leave room in a context of {self._context}: shorten the prompt"
            )
        look = Look(prompt, Waiter.here())
        self._batcher.submit(look)
        try:
            return await look.waiter.future
        except asyncio.CancelledError:
            self._batcher.abandon(look)
            raise

    @property
    def live(self) -> int:
        """Sequences that run now."""
        return self._batcher.live

    async def close(self) -> None:
        """Stop the worker thread and let go of the model."""
        await asyncio.to_thread(self._batcher.close)


def load_model(spec: ModelSpec, settings: EmbeddedSettings) -> tuple[Any, bool]:
    """The model, ready to run, and whether its masks are added to scores rather than boolean."""
    folder = Path(spec.path)
    config = read_config(folder, spec.name)
    weight_files(folder, spec.name)
    kinds = set(config.get("layer_types") or ()) - ATTENTION_LAYERS
    if kinds:
        raise ModelError(
            f"models.{spec.name}: {folder} has layers of the kind {', '.join(sorted(kinds))}, which keep a running "
            "state; the embedded engine runs attention only: choose another model"
        )
    transformers_logging.disable_progress_bar()
    device, dtype = settings.place()
    # Capped scores and attention sinks exist only in a model's own plain attention.
    plain = config.get("attn_logit_softcapping") is not None or "gpt_oss" in str(config.get("model_type"))
    attempts = ["eager"] if plain else [GROUPED, "eager"]
    for attention in attempts:
        try:
            model, loading = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except ValueError:
            if attention == attempts[-1]:
                raise
            continue
        _check_whole(spec, model, loading["missing_keys"])
        return model.to(device).eval(), attention == "eager"
    raise ModelError(f"models.{spec.name}: {folder} supports no attention that the embedded engine has; choose another")


def _check_whole(spec: ModelSpec, model: Any, missing: Iterable[str]) -> None:
    """ModelError where the folder lacks weights, which transformers has made up; an embedder runs no output head."""
    head = model.get_output_embeddings()
    unused = {name for name, module in model.named_modules() if spec.role is Role.EMBEDDER and module is head}
    lacking = sorted(name for name in missing if name.rpartition(".")[0] not in unused)
    if lacking:
        raise ModelError(
            f"models.{spec.name}: the weights in {spec.path} lack {', '.join(lacking[:SHOWN_WEIGHTS])} "
            f"({len(lacking)} in all) of {type(model).__name__}: give the folder of a whole causal language model"
        )


def end_tokens(model: Any, tokenizer: ChatTokenizer) -> Sequence[int]:
    """The tokens that end a turn: the generation config's, else the config's, else the tokenizer's."""
    for found in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_id):
        if found is not None:
            return [int(found)] if isinstance(found, int) else [int(token) for token in found]
    return []


def threads_of(spec: ModelSpec) -> int:
    """Threads a replica computes with."""
    return max(1, int(spec.cpus))


def build_engine(spec: ModelSpec) -> EmbeddedEngine:
    """Load a policy model; ModelError where the folder is not one, ConfigError for wrong engine_args."""
    settings = EmbeddedSettings.of(spec)
    context = context_length(read_config(Path(spec.path), spec.name), spec)
    tokenizer = ChatTokenizer(Path(spec.path), settings.chat_template)
    model, additive = load_model(spec, settings)
    ends = end_tokens(model, tokenizer)
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    stops = StopTable(tokenizer, vocabulary, ends, model.device)
    prefixes = PrefixCache(settings.prefix_cache_mb * 2**20)
    batcher = Batcher(Decoder(model, additive), tokenizer, stops, ends, prefixes, spec.max_batch, threads_of(spec))
    return EmbeddedEngine(spec.name, tokenizer, batcher, context)
