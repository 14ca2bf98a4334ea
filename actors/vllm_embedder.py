"""The vLLM embedder: the hidden state of a language model at the end of a prompt, by vLLM's pooling runner.

The same weights as a policy's tell the same states as the embedded engine does, up to the rounding of the model's type:
a policy file that was fitted on one's serves the other. vLLM cannot pool and write in one engine, so the embedder is a
model of its own; its passes are over before the first purchase, and a small one may tell for a large one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer
from apportion.actors.vllm_files import describing_folder
from apportion.actors.vllm_launch import launch
from apportion.actors.vllm_running import Running
from apportion.costs import attended
from apportion.errors import BatchError, EngineError
from apportion.types import Embed, Embedded, Usage

POOLING = {"seq_pooling_type": "LAST", "use_activation": False}
"""The state of the last token as it is: vLLM would scale it to length 1."""


class VllmEmbedder:
    """An Embedder (see `protocols`) over one `AsyncLLM`."""

    def __init__(self, running: Running, tokenizer: ChatTokenizer) -> None:
        self._running = running
        self._name = running.spec.name
        self._tokenizer = tokenizer

    async def embed(self, request: Embed) -> Embedded:
        """The last hidden state at the end of a conversation. What vLLM's cache held of it is not counted as read."""
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        running = self._running
        prompt = self._tokenizer.encode_prompt(request.messages)
        if not 0 < len(prompt) < running.context:
            raise EngineError(
                f"model {self._name!r} was asked for the hidden state of a conversation of {len(prompt)} tokens, which "
                f"must be at least 1 and leave room in a context of {running.context}: shorten the prompt"
            )
        params = PoolingParams(task="embed", use_activation=False)
        result = await running.last(lambda name: running.llm.encode(tokens_input(prompt), params, name))
        state: Any = result.outputs.data
        if state is None or state.ndim != 1:
            running.meter.drop()
            raise BatchError(f"vLLM ended a request to model {self._name!r} before it was complete")
        cached = int(result.num_cached_tokens or 0)
        read = len(prompt) - cached
        usage = Usage(read, 0, int(attended(cached, read)), cached, running.meter.end(read))
        return Embedded(_rounded(state.float().numpy()), usage)

    async def close(self) -> None:
        """Stop vLLM's processes."""
        await asyncio.to_thread(self._running.close)


def _rounded(state: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[float, ...]:
    """As 16-bit floats, those beyond them as the largest."""
    most = float(np.finfo(np.float16).max)
    return tuple(state.clip(-most, most).astype(np.float16).astype(np.float64).tolist())


def build_embedder(spec: ModelSpec) -> VllmEmbedder:
    """Start vLLM on a language model; ModelError where it does not start, ConfigError for wrong engine_args."""
    folder = describing_folder(spec)
    running = launch(spec, folder, {"runner": "pooling", "convert": "embed", "pooler_config": POOLING})
    try:
        return VllmEmbedder(running, ChatTokenizer(folder, running.own.chat_template))
    except BaseException:
        running.close()
        raise
