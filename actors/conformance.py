"""What every engine and scorer must do, as functions for tests: of ours and of a user's own.

`await check_engine(engine, describer)`, `check_scorer`, and for engines that tell hidden states `check_embedder`, raise
AssertionError with the rule that was broken. An engine is anything with the methods of `protocols.Engine`;
`over(backend)` makes one of a backend, so that the same suite checks a model in this process and behind a pool of
actors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from apportion.actors.protocols import Backend, Describer, Embedder, Engine, Scorer
from apportion.costs import ModelProfile, attended
from apportion.errors import EngineError
from apportion.types import (
    Embed,
    Embedded,
    Finish,
    Generate,
    Generated,
    Message,
    Messages,
    Sampling,
    Score,
    Scored,
    Usage,
)

CONVERSATION: Messages = (Message("user", "Ann wins many boxes. Ben loses them all. Now what?"),)
"""Without an answer: a model that was trained on such stories has many."""
OTHERS: tuple[Messages, ...] = (
    (Message("user", "Ben has 7 pens. He loses 2. How many pens does Ben have now?"),),
    (Message("user", "Cara has 40 coins. She doubles them. She wins 5. How many coins does Cara have now?"),),
)
STEPS = ("12 + 3 = 15", "15 - 4 = 11", "Answer: 11")
HOT = 2.0
# For completions to differ also where a model is sure; vLLM and endpoints allow no more.

TOLERANCE = 1e-3
# Scores of one response beside different batch mates: the rounding of a 16-bit model, not more.


class Over:
    """One model of a started backend as an Engine and a Scorer."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def generate(self, request: Generate) -> Generated:
        """Through `submit`."""
        return cast("Generated", await self._backend.submit(request, 0))

    async def score(self, request: Score) -> Scored:
        """Through `submit`."""
        return cast("Scored", await self._backend.submit(request, 0))

    async def embed(self, request: Embed) -> Embedded:
        """Through `submit`."""
        return cast("Embedded", await self._backend.submit(request, 0))

    async def close(self) -> None:
        """The backend is closed by whoever started it."""


def over(backend: Backend) -> Over:
    """An engine (and scorer) that asks a backend."""
    return Over(backend)


def ask(
    model: str, seeds: Sequence[int] = (1, 2, 3), tokens: int = 24, prefix: str = "", **sampling: object
) -> Generate:
    """A request about `CONVERSATION`."""
    shape = replace(Sampling(temperature=HOT, max_tokens=tokens), **sampling)  # type: ignore[arg-type]
    return Generate(model, CONVERSATION, tuple(seeds), shape, prefix)


def texts(reply: Generated) -> list[str]:
    """The completions' texts."""
    return [completion.text for completion in reply.completions]


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


async def check_engine(engine: Engine, describer: Describer, model: str = "policy") -> None:
    """Run the whole suite against one engine."""
    await check_seeds(engine, model)
    await check_batch_mates(engine, model)
    await check_lengths(engine, model)
    await check_usage(engine, describer, model)
    await check_prefix(engine, describer, model)
    await check_stop(engine, model)
    await check_full(engine, describer, model)
    await check_refusal(engine, describer, model)


async def check_seeds(engine: Engine, model: str) -> None:
    """The seed alone decides a completion; greedy ones do not depend on it."""
    reply = await engine.generate(ask(model, range(8)))
    _require(len(reply.completions) == 8, "one completion a seed")
    _require(len(set(texts(reply))) > 1, "different seeds give different completions at a high temperature")
    again = await engine.generate(ask(model, [5, 5, 2]))
    _require(
        texts(again) == [texts(reply)[5], texts(reply)[5], texts(reply)[2]],
        "a completion depends on its seed, not on its place or on the seeds beside it",
    )
    greedy = await engine.generate(ask(model, [1, 2], temperature=0.0))
    _require(texts(greedy)[0] == texts(greedy)[1], "temperature 0 gives the same completion for every seed")


async def check_batch_mates(engine: Engine, model: str) -> None:
    """Requests run together give what each gives alone, and answer the request they belong to."""
    alone = await engine.generate(ask(model))
    mates = [
        Generate(model, messages, tuple(range(20 + index)), Sampling(0.5 + index, 0.9, 8 + 4 * index))
        for index, messages in enumerate(OTHERS)
    ]
    together = await asyncio.gather(*(engine.generate(request) for request in [mates[0], ask(model), mates[1]]))
    _require(texts(together[1]) == texts(alone), "the same request gives the same completions in any batch")
    _require(
        [len(reply.completions) for reply in together] == [20, 3, 21], "each reply holds its own request's completions"
    )
    _require(together[1].completions[0].finish == alone.completions[0].finish, "so it is with why they ended")


async def check_lengths(engine: Engine, model: str) -> None:
    """`max_tokens` bounds completions; statistics are in their ranges."""
    short = await engine.generate(ask(model, tokens=3))
    long = await engine.generate(ask(model, tokens=24))
    for completion, longer in zip(short.completions, long.completions, strict=True):
        _require(1 <= completion.tokens <= 3, "a completion has at least one token and at most max_tokens")
        _require(longer.text.startswith(completion.text), "max_tokens cuts a completion and changes nothing else")
        if completion.finish is Finish.LENGTH:
            _require(completion.tokens == 3, "a completion that ends for its length has max_tokens tokens")
        if completion.stats is not None:
            _require(completion.stats.mean_logprob <= 0.0, "log-probabilities are not positive")
            _require(completion.stats.mean_entropy >= 0.0, "entropy is not negative")
            _require(completion.stats.self_certainty >= -TOLERANCE, "self-certainty is a KL divergence, not negative")


def _check_counts(profile: ModelProfile, usage: Usage, prompt: int, completion_tokens: Sequence[int]) -> None:
    """`prompt` is what the describer counts. A profile may say that every completion reads the prompt anew."""
    reads = len(completion_tokens) if profile.prompt_each else 1
    read = usage.prompt_tokens + usage.cached_tokens
    _require(usage.completion_tokens == sum(completion_tokens), "completion tokens are those of all completions")
    _require(
        read == prompt * reads if profile.exact_counts else 0 < read <= prompt * reads,
        "a prompt is counted once a request, as the describer counts it; what was cached is told apart",
    )
    # Of several reads only the sum is known, so they can be followed where none was cached.
    if profile.exact_counts and (reads == 1 or not usage.cached_tokens):
        cached = usage.cached_tokens
        reach = float(attended(cached, prompt - cached)) * reads
        reach += sum(float(attended(prompt, tokens)) for tokens in completion_tokens)
        _require(abs(usage.attended - reach) <= reads, "attended positions follow costs.attended")
    _require(usage.busy_seconds > 0.0, "work takes time")


async def check_usage(engine: Engine, describer: Describer, model: str) -> None:
    """Token counts are the describer's, whatever runs beside."""
    prompt = describer.count_prompt(CONVERSATION)
    for reply in await asyncio.gather(engine.generate(ask(model)), engine.generate(ask(model, range(9)))):
        _check_counts(describer.profile(), reply.usage, prompt, [completion.tokens for completion in reply.completions])


async def check_prefix(engine: Engine, describer: Describer, model: str) -> None:
    """A prefix is continued, not repeated, and counted as part of the prompt."""
    prefix = "12 + 3 = 15\n"
    reply = await engine.generate(ask(model, range(4), prefix=prefix))
    plain = await engine.generate(ask(model, range(4)))
    _require(not any(text.startswith(prefix) for text in texts(reply)), "a prefix is not repeated")
    _require(texts(reply) != texts(plain), "a prefix changes what follows")
    prompt = describer.count_prompt(CONVERSATION) + describer.count_text(prefix)
    _check_counts(describer.profile(), reply.usage, prompt, [completion.tokens for completion in reply.completions])


async def check_stop(engine: Engine, model: str) -> None:
    """A stop string ends a completion where it first appears and stays in the text; the rest is as without it."""
    free = await engine.generate(ask(model, range(8), tokens=16))
    # Any text the engine writes gives a stop string that is sure to come.
    sample = next((text for text in texts(free) if len(text) >= 3), "")
    _require(len(sample) >= 3, "completions of 16 tokens have text")
    stop = sample[len(sample) // 2 :][:2]
    stopped = await engine.generate(ask(model, range(8), tokens=16, stop=(stop,)))
    for completion, unstopped in zip(stopped.completions, texts(free), strict=True):
        found = unstopped.find(stop)
        expected = unstopped if found < 0 else unstopped[: found + len(stop)]
        _require(completion.text == expected, "text ends with the first stop string, which is kept")
        _require((completion.finish is Finish.STOP) == (found >= 0), "STOP says that a stop string came")


async def check_full(engine: Engine, describer: Describer, model: str) -> None:
    """A prefix that fills the context ends what it begins, as running out of context does."""
    full = ask(model, prefix="many boxes " * describer.profile().context)
    reply = await engine.generate(full)
    _require(
        [(c.text, c.tokens, c.finish) for c in reply.completions] == [("", 0, Finish.LENGTH)] * len(full.seeds),
        "a prefix that leaves no room is answered with empty completions that end for their length",
    )


async def check_refusal(engine: Engine, describer: Describer, model: str) -> None:
    """A conversation beyond the context is refused alone; what runs beside it is answered."""
    too_long = replace(ask(model), messages=(Message("user", "many boxes " * describer.profile().context),))
    refused, answered = await asyncio.gather(
        engine.generate(too_long), engine.generate(ask(model)), return_exceptions=True
    )
    _require(isinstance(refused, EngineError), "a conversation longer than the context raises EngineError")
    _require(isinstance(answered, Generated), "a refused request does not disturb others")


async def check_scorer(scorer: Scorer, describer: Describer, model: str = "prm") -> None:
    """Run the whole suite against one scorer."""
    responses = (STEPS, STEPS[:1], (), ("12 + 3 = 16", *STEPS[1:]))
    reply = await scorer.score(Score(model, CONVERSATION, responses))
    _require([len(scores) for scores in reply.scores] == [3, 1, 0, 3], "one score a step, and none for no steps")
    _require(all(0.0 <= score <= 1.0 for scores in reply.scores for score in scores), "scores are in [0, 1]")
    backwards = await scorer.score(Score(model, CONVERSATION, responses[::-1]))
    _require(_near(backwards.scores[::-1], reply.scores), "scores do not depend on the order of the responses")
    mates = [Score(model, messages, (STEPS,) * 5) for messages in OTHERS]
    together = await asyncio.gather(
        scorer.score(mates[0]), scorer.score(Score(model, CONVERSATION, responses)), scorer.score(mates[1])
    )
    _require(_near(together[1].scores, reply.scores), "scores do not depend on what else is scored")
    _require(_near(reply.scores[1:2], [reply.scores[0][:1]]), "a step's score does not depend on later steps")
    _require(reply.usage.completion_tokens == 0, "a scorer writes nothing")
    least = describer.count_prompt(CONVERSATION) + sum(describer.count_text("".join(steps)) for steps in responses)
    _require(reply.usage.prompt_tokens + reply.usage.cached_tokens >= least, "everything that is read is counted")
    _require(reply.usage.attended > 0 and reply.usage.busy_seconds > 0.0, "work attends and takes time")
    empty = await scorer.score(Score(model, CONVERSATION, ()))
    _require(empty.scores == () and empty.usage.busy_seconds == 0.0, "nothing to score costs nothing")
    long = "many boxes " * describer.profile().context
    beside = await scorer.score(Score(model, CONVERSATION, (STEPS, (*STEPS, long))))
    _require(beside.scores[1] == (), "a response that does not fit the context gets no scores")
    _require(_near(beside.scores[:1], reply.scores[:1]), "and those beside it are scored")
    alone = await scorer.score(Score(model, CONVERSATION, ((long,),)))
    _require(alone.scores == ((),), "also where it is the only one")
    too_long = Score(model, (Message("user", long),), (STEPS,))
    refused = (await asyncio.gather(scorer.score(too_long), return_exceptions=True))[0]
    _require(isinstance(refused, EngineError), "a conversation longer than the context raises EngineError")


def _near(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> bool:
    return [len(scores) for scores in left] == [len(scores) for scores in right] and all(
        abs(a - b) <= TOLERANCE for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)
    )


async def check_embedder(embedder: Embedder, describer: Describer, model: str = "policy") -> None:
    """Run the whole suite against one engine that tells hidden states."""
    alone = await embedder.embed(Embed(model, CONVERSATION))
    mates = [Embed(model, messages) for messages in OTHERS]
    first, again, other = await asyncio.gather(
        embedder.embed(mates[0]), embedder.embed(Embed(model, CONVERSATION)), embedder.embed(mates[1])
    )
    _require(_near([again.vector], [alone.vector]), "the same conversation has the same state in any batch")
    _require(len({len(one.vector) for one in (alone, first, other)}) == 1, "all states are equally wide")
    _require(not _near([first.vector], [other.vector]), "another conversation has another state")
    profile, usage = describer.profile(), alone.usage
    prompt = describer.count_prompt(CONVERSATION)
    _check_counts(profile, usage, prompt, [])
    beyond = Embed(model, (Message("user", "many boxes " * profile.context),))
    refused, answered = await asyncio.gather(embedder.embed(beyond), embedder.embed(mates[0]), return_exceptions=True)
    _require(isinstance(refused, EngineError), "a conversation longer than the context raises EngineError")
    _require(isinstance(answered, Embedded), "a refused request does not disturb others")
