"""A fake policy model, scorer and describer: deterministic, instant, without a framework.

The fake writes what a lab model writes: one line a step, then `Answer: N`. Invariants:
- a completion depends only on (seed, conversation, prefix, strength); at temperature 0 not on the seed;
- a finished answer is right with the prompt's pass rate: read from the text where it says `p=0.3`, else drawn from a
  hash of it (`answer=17` likewise fixes the right answer); every step is right with the same chance, and a solution
  that has gone wrong stays wrong, so that a verifier has something to find and a beam search something to gain;
- usage counts what a real engine would process.
The failure knobs (`fail_every`, `poison`, `die_on`, `die_once`, `hang_on`) exist for tests of what is around it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import no_room, stop_end
from apportion.costs import ModelProfile, attended
from apportion.errors import ConfigError, EngineError, nearest
from apportion.types import Completion, Finish, Generate, Generated, LogprobStats, Messages, Score, Scored, Usage

_TOKEN = re.compile(r" ?[A-Za-z]+|\d|.", re.DOTALL)
_PASS_RATE = re.compile(r"\bp=([01](?:\.\d+)?|\.\d+)")
_ANSWER = re.compile(r"\banswer=(-?\d+)")
_VALUE = re.compile(r"(-?\d+)\.?\s*$")

WRONG_BY, WRONG_WEIGHTS = (1, 10, -2), (5, 3, 2)
# Wrong answers come from a small set, so that they can agree with each other and win a vote.
VERBS = ("gives", "makes", "yields", "shows", "says", "means", "has", "is")
STEPS = (2, 3, 4, 5)  # how many a solution has, by its prompt: as few as the lab's
SCORE_RIGHT, SCORE_WRONG, SCORE_NOISE = 0.7, 0.35, 0.25  # bands that overlap, as a real verifier's do


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """What `engine_args` may hold. Seconds are real time; the FLOPs fields only shape the profile."""

    latency: float = 0.0
    jitter: float = 0.0
    """a request waits latency x (1 + jitter x u), u in [0, 1) from its content"""
    seconds_per_token: float = 1e-5
    """what a token is said to cost in busy seconds"""
    max_model_len: int = 4096
    parameters: float = 1e6
    layers: int = 4
    attention_width: int = 128
    strength: float = 1.0
    """pass rates become 1 - (1 - p)^strength"""
    verbs: int = 1
    """ways, up to 8, a step may be written in: with one all right responses to a prompt are the same text"""
    fail_every: int = 0
    """every so many requests one raises EngineError; 0 never"""
    poison: str = ""
    """requests whose conversation holds this raise EngineError, always"""
    die_on: str = ""
    """requests whose conversation holds this kill the process"""
    die_once: str = ""
    """a file: the first request that finds it missing creates it and kills the process"""
    hang_on: str = ""
    """requests whose conversation holds this are never answered"""
    broken: str = ""
    """a reason for which the model refuses to load"""

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """Read `engine_args`; unknown keys raise ConfigError."""
        known = [field.name for field in fields(cls)]
        for key in spec.engine_args:
            if key not in known:
                raise ConfigError(
                    f"models.{spec.name}.engine_args.{key}: the fake engine has no such setting; {nearest(key, known)}"
                )
        return cls(**dict(spec.engine_args))


def split_tokens(text: str) -> list[str]:
    """The fake's tokens: words with their leading blank, single digits, single other characters."""
    return _TOKEN.findall(text)


def _draw(*parts: object) -> random.Random:
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _conversation(messages: Messages) -> str:
    return "\x1e".join(f"{message.role}\x1d{message.content}" for message in messages)


@dataclass(frozen=True, slots=True)
class FakeTruth:
    """What the fake knows of a prompt: the last user turn decides it."""

    pass_rate: float
    answer: int
    values: tuple[int, ...]
    """the right value of every step; the last one is the answer"""

    @classmethod
    def of(cls, messages: Messages) -> Self:
        """Read the conventions from the first user turn, or draw from its hash."""
        text = next((message.content for message in messages if message.role == "user"), "")
        rng = _draw("truth", text)
        pass_rate, answer, steps = rng.betavariate(0.8, 0.8), rng.randint(2, 99), rng.choice(STEPS)
        if found := _PASS_RATE.search(text):
            pass_rate = float(found.group(1))
        if found := _ANSWER.search(text):
            answer = int(found.group(1))
        return cls(pass_rate, answer, (*(rng.randint(2, 99) for _ in range(steps - 1)), answer))

    def error(self, step: int, line: str) -> int:
        """How far the value a line ends with is from the right one; 0 where there is none to compare."""
        found = _VALUE.search(line)
        right = self.values[min(step, len(self.values) - 1)]
        return int(found.group(1)) - right if found else 0


class FakeDescriber:
    """The driver-side view of a fake model."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._settings = FakeSettings.of(spec)

    def profile(self) -> ModelProfile:
        """The profile that `engine_args` ask for."""
        return ModelProfile(
            name=self._spec.name,
            active_parameters=self._settings.parameters,
            layers=self._settings.layers,
            attention_width=self._settings.attention_width,
            context=self._settings.max_model_len,
            gpus=self._spec.gpus or 1.0,
            dollars_per_hour=self._spec.dollars_per_hour,
            dollars_per_million_input=self._spec.dollars_per_million_input,
            dollars_per_million_output=self._spec.dollars_per_million_output,
            seconds_per_token=self._settings.seconds_per_token,
        )

    def count_prompt(self, messages: Messages) -> int:
        """Two tokens of template for each turn, as chat templates have them."""
        return sum(len(split_tokens(message.content)) + 2 for message in messages)

    def count_text(self, text: str) -> int:
        """Tokens of a piece of assistant text."""
        return len(split_tokens(text))


class _FakeModel:
    """What the two roles share: settings, counting, waiting and failing."""

    def __init__(self, spec: ModelSpec) -> None:
        self._settings = FakeSettings.of(spec)
        self._describer = FakeDescriber(spec)
        self._requests = 0
        if self._settings.broken:
            raise RuntimeError(self._settings.broken)

    async def _enter(self, messages: Messages, tokens: int) -> None:
        settings, text = self._settings, _conversation(messages)
        self._requests += 1
        if tokens >= settings.max_model_len:
            raise EngineError(
                f"a conversation of {tokens} tokens does not fit the context of {settings.max_model_len}; "
                "shorten the prompt or raise max_model_len"
            )
        if settings.poison and settings.poison in text:
            raise EngineError(f"the conversation holds {settings.poison!r}, which this fake refuses")
        if settings.fail_every and self._requests % settings.fail_every == 0:
            raise EngineError(f"request {self._requests} of this fake fails, as every {settings.fail_every}th does")
        if settings.latency:
            await asyncio.sleep(settings.latency * (1 + settings.jitter * _draw("latency", text, tokens).random()))
        if settings.die_on and settings.die_on in text:
            os._exit(1)
        if settings.die_once and not Path(settings.die_once).exists():
            Path(settings.die_once).touch()
            os._exit(1)
        if settings.hang_on and settings.hang_on in text:
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to free."""


class FakeEngine(_FakeModel):
    """The fake policy model."""

    async def generate(self, request: Generate) -> Generated:
        """One completion a seed."""
        turns = self._describer.count_prompt(request.messages)
        prompt = turns + self._describer.count_text(request.prefix)
        await self._enter(request.messages, turns)
        if prompt >= self._settings.max_model_len:
            return no_room(request)
        completions = tuple(self._complete(request, seed, prompt) for seed in request.seeds)
        written = [completion.tokens for completion in completions]
        reach = attended(0, prompt) + sum(attended(prompt, tokens) for tokens in written)
        busy = (prompt + sum(written)) * self._settings.seconds_per_token
        return Generated(completions, Usage(prompt, sum(written), int(reach), 0, busy))

    def _complete(self, request: Generate, seed: int, prompt: int) -> Completion:
        if request.sampling.temperature == 0:
            seed = 0
        rng = _draw("write", seed, _conversation(request.messages), request.prefix)
        room = min(request.sampling.max_tokens, self._settings.max_model_len - prompt)
        text, tokens, finish = "", 0, Finish.LENGTH
        for token in self._tokens(request, rng):
            if tokens == room:
                break
            tokens += 1
            if token is None:
                finish = Finish.END
                break
            text += token
            cut = stop_end(text, request.sampling.stop)
            if cut is not None:
                text, finish = text[:cut], Finish.STOP
                break
        certainty = 1.0 + 0.2 * rng.random() + (0.1 if self._right(request, text) else 0.0)
        return Completion(text, tokens, finish, LogprobStats(-0.4 / certainty, 0.5 / certainty, certainty))

    def _right(self, request: Generate, text: str) -> bool:
        lines = [line for line in (request.prefix + text).split("\n") if line]
        truth = FakeTruth.of(request.messages)
        return not any(truth.error(step, line) for step, line in enumerate(lines))

    def _tokens(self, request: Generate, rng: random.Random) -> Iterator[str | None]:
        """The tokens that follow the prefix, then None: the end token. A prefix cut inside a line ends that line."""
        truth = FakeTruth.of(request.messages)
        pass_rate = 1.0 - (1.0 - truth.pass_rate) ** self._settings.strength
        step_rate = pass_rate ** (1.0 / len(truth.values))
        written = [line for line in request.prefix.split("\n") if line]
        if any(line.startswith("Answer:") for line in written):
            yield None
            return
        if request.prefix and not request.prefix.endswith("\n"):
            yield "\n"
        errors = [truth.error(step, line) for step, line in enumerate(written)]
        error = next((found for found in errors if found), 0)
        for step in range(len(written), len(truth.values)):
            if not error and rng.random() >= step_rate:
                (error,) = rng.choices(WRONG_BY, WRONG_WEIGHTS)
            verb = rng.choice(VERBS[: self._settings.verbs]) if self._settings.verbs > 1 else VERBS[0]
            yield from split_tokens(f"Step {step + 1} {verb} {truth.values[step] + error}.\n")
        if len(written) > len(truth.values):
            error = error or truth.error(len(truth.values) - 1, written[-1])
        yield from split_tokens(f"Answer: {truth.answer + error}")
        yield None


class FakeScorer(_FakeModel):
    """The fake verifier: noisy, and lower from the first wrong step on."""

    async def score(self, request: Score) -> Scored:
        """One score a step, none for a response beyond the context."""
        prompt = self._describer.count_prompt(request.messages)
        await self._enter(request.messages, prompt)
        whole = [prompt + self._describer.count_text("\n".join(steps) + "\n") for steps in request.responses]
        fits = [length <= self._settings.max_model_len for length in whole]
        scores = tuple(
            self._score(request.messages, steps) if fit else ()
            for steps, fit in zip(request.responses, fits, strict=True)
        )
        lengths = [length for length, fit in zip(whole, fits, strict=True) if fit]
        reach = sum(attended(0, length) for length in lengths)
        busy = sum(lengths) * self._settings.seconds_per_token
        return Scored(scores, Usage(sum(lengths), 0, int(reach), 0, busy))

    def _score(self, messages: Messages, steps: tuple[str, ...]) -> tuple[float, ...]:
        truth, wrong, text, scores = FakeTruth.of(messages), False, _conversation(messages), []
        for step, line in enumerate(steps):
            wrong = wrong or truth.error(step, line) != 0
            text = f"{text}\n{line}"
            noise = SCORE_NOISE * (2 * _draw("score", text).random() - 1)
            scores.append((SCORE_WRONG if wrong else SCORE_RIGHT) + noise)
        return tuple(scores)


def build_engine(spec: ModelSpec) -> FakeEngine:
    """A fake policy model."""
    return FakeEngine(spec)


def build_scorer(spec: ModelSpec) -> FakeScorer:
    """A fake verifier."""
    return FakeScorer(spec)


def describe(spec: ModelSpec) -> FakeDescriber:
    """The driver-side view of either."""
    return FakeDescriber(spec)
