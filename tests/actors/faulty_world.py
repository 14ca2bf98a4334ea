"""Models with one fault each: of what they were asked, or of their replies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from apportion.actors.fake import FakeEngine, FakeScorer
from apportion.costs import attended
from apportion.errors import EngineError
from apportion.types import Embed, Embedded, Generate, Generated, Message, Score, Scored, Usage


@dataclass(frozen=True)
class Fault:
    """How a request is misread or its reply spoiled, given those that run beside it; and the rule that this breaks."""

    rule: str
    reads: Callable[[Any, list[Any]], Any] = lambda request, beside: request
    spoils: Callable[[Any, Any, list[Any]], Any] = lambda request, reply, beside: reply


class Telling(FakeEngine):
    """The fake, which tells hidden states too."""

    async def embed(self, request: Embed) -> Embedded:
        tokens = self._describer.count_prompt(request.messages)
        await self._enter(request.messages, tokens)
        draw = random.Random(request.messages[0].content)
        return Embedded(tuple(draw.random() for _ in range(4)), Usage(tokens, 0, int(attended(0, tokens)), 0, 0.01))


class Faulty:
    """A model with one fault. Requests that are asked together run together."""

    def __init__(self, model: Telling | FakeScorer, fault: Fault) -> None:
        self._model, self._fault = model, fault
        self._running: list[Any] = []

    async def generate(self, request: Generate) -> Generated:
        return await self._run("generate", request)  # type: ignore[no-any-return]

    async def score(self, request: Score) -> Scored:
        return await self._run("score", request)  # type: ignore[no-any-return]

    async def embed(self, request: Embed) -> Embedded:
        return await self._run("embed", request)  # type: ignore[no-any-return]

    async def close(self) -> None:
        await self._model.close()

    async def _run(self, method: str, request: Any) -> Any:
        self._running.append(request)
        await asyncio.sleep(0)
        beside = [other for other in self._running if other is not request]
        await asyncio.sleep(0)
        self._running.remove(request)
        reply = await getattr(self._model, method)(self._fault.reads(request, beside))
        return self._fault.spoils(request, reply, beside)


def each(reply: Generated, **changes: Any) -> Generated:
    """Every completion with changes."""
    return replace(reply, completions=tuple(replace(one, **changes) for one in reply.completions))


def texts(reply: Generated, change: Callable[[str], str]) -> Generated:
    """Every text changed."""
    return replace(reply, completions=tuple(replace(one, text=change(one.text)) for one in reply.completions))


def stats(reply: Generated, **changes: Any) -> Generated:
    """Every completion's statistics with changes."""
    changed = (replace(one, stats=one.stats and replace(one.stats, **changes)) for one in reply.completions)
    return replace(reply, completions=tuple(changed))


def used(reply: Any, **changes: Any) -> Any:
    """The usage with changes."""
    return replace(reply, usage=replace(reply.usage, **changes))


def marked(request: Generate, reply: Generated, marks: Iterable[object]) -> Generated:
    """Each text followed by a mark."""
    both = zip(reply.completions, marks, strict=True)
    return replace(reply, completions=tuple(replace(one, text=f"{one.text}{mark}") for one, mark in both))


def scores(reply: Scored, change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> Scored:
    """The scores of every response changed."""
    return replace(reply, scores=tuple(map(change, reply.scores)))


def lower(steps: tuple[float, ...]) -> tuple[float, ...]:
    """Scores of one response, a little less."""
    return tuple(score - 0.01 for score in steps)


def is_long(request: Any) -> bool:
    """Whether its conversation is beyond the context."""
    return len(request.messages[0].content) > 1000


def shortened(request: Any, beside: list[Any]) -> Any:
    """A conversation cut until it fits."""
    return replace(request, messages=(Message("user", request.messages[0].content[:100]),))


def disturbed(request: Any, beside: list[Any]) -> Any:
    """A request that fails where one beside it is refused."""
    if any(map(is_long, beside)):
        raise EngineError("the batch failed")
    return request
