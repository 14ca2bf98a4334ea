"""The vLLM policy engine: one request of vLLM for each seed, streamed in as it comes; vLLM does the batching.

Prompts are token ids as `tokens` makes them, so that counts made in the driver hold, and texts are decoded by it too:
an answer reads as it would from the embedded engine. With prefix caching the seeds of a request share its prompt, which
is counted once, less what the cache held before it (blocks that are not full are run for each seed and not counted).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer, no_room, stop_end
from apportion.actors.top_logprobs import stats_of
from apportion.actors.vllm_files import describing_folder
from apportion.actors.vllm_launch import launch
from apportion.actors.vllm_running import Running, together
from apportion.costs import attended
from apportion.errors import BatchError, EngineError
from apportion.types import Completion, Finish, Generate, Generated, Usage

SEED_BITS = 2**63 - 1
# Seeds are int64 in vLLM; larger or negative ones are folded into it, as the embedded engine does.


@dataclass(frozen=True, slots=True)
class Sequence:
    """One completion, the prompt tokens that vLLM found in its cache for it, and its share of the busy time."""

    completion: Completion
    cached: int
    busy_seconds: float


class VllmEngine:
    """An Engine (see `protocols`) over one `AsyncLLM`."""

    def __init__(self, running: Running, tokenizer: ChatTokenizer, vocabulary: int) -> None:
        self._running = running
        self._name = running.spec.name
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._logprobs = min(running.own.logprobs, vocabulary) if running.own.logprobs else None

    async def generate(self, request: Generate) -> Generated:
        """Completions for one request. Cancelled, or where one fails, all of it is taken out of vLLM."""
        context = self._running.context
        turns = self._tokenizer.encode_prompt(request.messages)
        prompt = turns + self._tokenizer.encode(request.prefix)
        if request.sampling.max_tokens < 1 or not prompt or len(turns) >= context:
            raise EngineError(
                f"model {self._name!r} was asked for {request.sampling.max_tokens} tokens after a conversation of "
                f"{len(turns)}; both must be at least 1 and the context holds {context}: shorten the prompt"
            )
        limit = min(request.sampling.max_tokens, context - len(prompt))
        if limit < 1:
            return no_room(request)
        sequences = await together(self._sequence(request, prompt, limit, seed) for seed in request.seeds)
        return _reply(sequences, len(prompt))

    async def _sequence(self, request: Generate, prompt: list[int], limit: int, seed: int) -> Sequence:
        """One completion."""
        from vllm.inputs import tokens_input

        running = self._running
        result = await running.last(
            lambda name: running.llm.generate(tokens_input(prompt), self._params(request, limit, seed), name)
        )
        written = list(result.outputs[0].token_ids)
        cached = int(result.num_cached_tokens or 0)
        seconds = running.meter.end(len(prompt) - cached + len(written))
        return Sequence(self._completion(request, prompt, written, result.outputs[0]), cached, seconds)

    def _params(self, request: Generate, limit: int, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=limit,
            seed=seed & SEED_BITS,
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            # Only stop strings need the text while it is written.
            detokenize=bool(sampling.stop),
            logprobs=self._logprobs,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _completion(self, request: Generate, prompt: list[int], written: list[int], output: Any) -> Completion:
        reason, stopped_by = output.finish_reason, output.stop_reason
        if reason not in ("stop", "length"):
            raise BatchError(f"vLLM ended a request to model {self._name!r} with {reason!r}, before it was complete")
        ended = reason == "stop" and not isinstance(stopped_by, str)
        text = self._tokenizer.decode(written[:-1] if ended else written, prompt)
        finish = Finish.END if ended else Finish.LENGTH
        cut = stop_end(text, request.sampling.stop)
        if cut is not None:
            text, finish = text[:cut], Finish.STOP
        stats = None
        if output.logprobs is not None:
            stats = stats_of(output.logprobs.logprobs, len(written), self._vocabulary)
        return Completion(text, len(written), finish, stats)

    async def close(self) -> None:
        """Stop vLLM's processes."""
        await asyncio.to_thread(self._running.close)


def _reply(sequences: list[Sequence], prompt: int) -> Generated:
    """All completions, in the order of their seeds, and what they cost."""
    if not sequences:
        return Generated((), Usage())
    cached = min(sequence.cached for sequence in sequences)
    written = [sequence.completion.tokens for sequence in sequences]
    reach = attended(cached, prompt - cached) + sum(attended(prompt, tokens) for tokens in written)
    busy = sum(sequence.busy_seconds for sequence in sequences)
    usage = Usage(prompt - cached, sum(written), int(reach), cached, busy)
    return Generated(tuple(sequence.completion for sequence in sequences), usage)


def build_engine(spec: ModelSpec) -> VllmEngine:
    """Start vLLM on a policy model; ModelError where it does not start, ConfigError for wrong engine_args."""
    folder = describing_folder(spec)
    logprobs = spec.engine_args.get("logprobs")
    running = launch(spec, folder, {"max_logprobs": int(logprobs)} if isinstance(logprobs, int) else {})
    try:
        tokenizer = ChatTokenizer(folder, running.own.chat_template)
        return VllmEngine(running, tokenizer, int(running.llm.model_config.get_vocab_size()))
    except BaseException:
        running.close()
        raise
