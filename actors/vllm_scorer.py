"""The vLLM scorer: reward models of every format in `score_formats`, one pooling request for each response.

A step's score depends on what comes before it only, so scores are remembered by that text, and vLLM's prefix cache
keeps its keys and values: a beam search that scores its beams after each step pays for the new step. vLLM answers with
the logits of the positions it ran, not of those it found in its cache; hence all positions are asked for (pooling ALL,
where vLLM's STEP would take the missing ones for others), and the places of scores are picked out here.

Invariants: a response is never run while another one that shares a score it needs is under way, so that what vLLM finds
in its cache has scores that are remembered. Where they were forgotten all the same, it is run again without the cache.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from apportion.actors.score_format import tokenizer_of
from apportion.actors.score_formats import Marked, ScoreFormat
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer
from apportion.actors.vllm_describe import format_of
from apportion.actors.vllm_files import describing_folder
from apportion.actors.vllm_launch import launch
from apportion.actors.vllm_running import Running, together
from apportion.costs import attended
from apportion.errors import BatchError, EngineError
from apportion.types import Score, Scored, Usage

REMEMBERED = 2**18
# Scores: some 30 MB; more than the steps whose keys and values any cache holds.


@dataclass(frozen=True, slots=True)
class Read:
    """The scores of one response; how many of its tokens were run and how many needed not be."""

    scores: tuple[float, ...]
    run: int
    cached: int
    busy_seconds: float


@dataclass(slots=True)
class Memory:
    """Scores by a digest of the tokens up to their place; those least recently used go first."""

    capacity: int = REMEMBERED
    scores: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def find(self, key: bytes) -> float | None:
        """A score, or None."""
        if key in self.scores:
            self.scores.move_to_end(key)
        return self.scores.get(key)

    def keep(self, key: bytes, score: float) -> None:
        """Remember a score."""
        self.scores[key] = score
        while len(self.scores) > self.capacity:
            self.scores.popitem(last=False)


def keys_of(marked: Marked) -> list[bytes]:
    """A digest of the tokens up to each place, that one included."""
    digest, begun, keys = hashlib.blake2b(digest_size=16), 0, []
    for place in marked.places:
        digest.update(array("q", marked.tokens[begun : place + 1]).tobytes())
        keys.append(digest.digest())
        begun = place + 1
    return keys


class VllmScorer:
    """A Scorer (see `protocols`) over one `AsyncLLM`."""

    def __init__(self, running: Running, form: ScoreFormat, tokenizer: ChatTokenizer) -> None:
        self._running = running
        self._name = running.spec.name
        self._form = form
        self._tokenizer = tokenizer
        self._memory = Memory()
        self._under_way: dict[bytes, asyncio.Future[None]] = {}

    async def score(self, request: Score) -> Scored:
        """One score a step (of an outcome model: one a response); none for a response beyond the context."""
        context = self._running.context
        if not any(request.responses):
            return Scored(tuple(() for _ in request.responses), Usage())
        prompt = self._form.prompt(self._tokenizer, request.messages)
        if len(prompt) >= context:
            raise EngineError(
                f"scorer {self._name!r} was asked about a conversation of {len(prompt)} tokens and its context holds "
                f"{context}; shorten the prompt"
            )
        marked = [
            self._form.mark(self._tokenizer, request.messages, steps) if steps else None for steps in request.responses
        ]
        reads = iter(
            await together(self._response(one) for one in marked if one is not None and len(one.tokens) <= context)
        )
        found = [next(reads) if one is not None and len(one.tokens) <= context else None for one in marked]
        return _reply(found)

    async def _response(self, marked: Marked) -> Read:
        """The scores of one response, from memory as far as they are there."""
        keys = keys_of(marked)
        while other := next((self._under_way[key] for key in keys if key in self._under_way), None):
            await asyncio.wait([other])
        known = [self._memory.find(key) for key in keys]
        missing = [index for index, score in enumerate(known) if score is None]
        if not missing:
            return Read(tuple(score for score in known if score is not None), 0, len(marked.tokens), 0.0)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.update((keys[index], done) for index in missing)
        try:
            rows, busy = await self._run(marked, from_cache=True)
            if marked.places[missing[0]] < len(marked.tokens) - len(rows):
                rows, again = await self._run(marked, from_cache=False)
                busy += again
            begun = len(marked.tokens) - len(rows)
            for index in missing:
                score = self._form.read(rows[marked.places[index] - begun].tolist())
                known[index] = score
                self._memory.keep(keys[index], score)
        finally:
            for index in missing:
                del self._under_way[keys[index]]
            done.set_result(None)
        return Read(tuple(score for score in known if score is not None), len(rows), begun, busy)

    async def _run(self, marked: Marked, from_cache: bool) -> tuple[Any, float]:
        """The logits [positions run, labels] of the last tokens of a response, and its share of the busy time."""
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        running = self._running
        params = PoolingParams(task="token_classify", use_activation=False, skip_reading_prefix_cache=not from_cache)
        result = await running.last(lambda name: running.llm.encode(tokens_input(list(marked.tokens)), params, name))
        rows = result.outputs.data
        if rows.ndim != 2 or not len(rows):
            running.meter.drop()
            raise BatchError(f"vLLM ended a request to scorer {self._name!r} before it was complete")
        return rows, running.meter.end(len(rows))

    async def close(self) -> None:
        """Stop vLLM's processes."""
        await asyncio.to_thread(self._running.close)


def _reply(reads: list[Read | None]) -> Scored:
    """The scores of all responses, and what they cost."""
    scores = tuple(read.scores if read is not None else () for read in reads)
    there = [read for read in reads if read is not None]
    usage = Usage(
        prompt_tokens=sum(read.run for read in there),
        attended=int(sum(attended(read.cached, read.run) for read in there)),
        cached_tokens=sum(read.cached for read in there),
        busy_seconds=sum(read.busy_seconds for read in there),
    )
    return Scored(scores, usage)


def build_scorer(spec: ModelSpec) -> VllmScorer:
    """Start vLLM on a reward model; ModelError where it does not start, ConfigError for wrong engine_args."""
    folder = describing_folder(spec)
    form = format_of(spec, folder)
    tokenizer = tokenizer_of(spec, form, folder)
    running = launch(spec, folder, {"runner": "pooling", **form.engine_args(tokenizer)})
    return VllmScorer(running, form, tokenizer)
