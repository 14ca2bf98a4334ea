"""The meter: what a request may cost at most, and what it did cost. Remembers token counts and measured speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from apportion.actors.protocols import Describer
from apportion.costs import Cost, ModelProfile, cost_of, samples_begun, worst_case
from apportion.scheduler.ledger import Kind
from apportion.types import Embed, Generate, Messages, Reply, Request, Score, Usage

DUMMY_PREFIX = 1
"""Tokenizers may put a blank of their own before a text."""
STEP_TOKENS = 1
"""More of each step than its text, where a describer says nothing else: the tag at which it is scored."""
TIME_HEADROOM = 2.0
"""A reservation in measured units assumes this many times the slowest seconds-per-token seen so far: batches differ,
and a request alone on a replica can take longer a token than any before it."""

MADE = 256
"""Conversations that strategies made themselves whose counts are kept. A question is counted when it is made and when
it is reserved for, soon after one another; nobody could say when it is done with."""


class Meter:
    """Counts the work of one job's models. `describers` are by model name."""

    def __init__(self, describers: Mapping[str, Describer]) -> None:
        self._describers = describers
        self.profiles: dict[str, ModelProfile] = {name: d.profile() for name, d in describers.items()}
        self._prompt_tokens: dict[tuple[str, Messages], int] = {}
        self._count_made = lru_cache(MADE)(lambda model, messages: self._describers[model].count_prompt(messages))
        self._slowest: dict[str, float] = {name: p.seconds_per_token for name, p in self.profiles.items()}
        self._seconds: dict[str, float] = dict.fromkeys(self.profiles, 0.0)
        self._tokens: dict[str, float] = dict.fromkeys(self.profiles, 0.0)

    def prompt_tokens(self, model: str, messages: Messages) -> int:
        """Tokens of a conversation as a model reads it; counted once."""
        key = (model, messages)
        if key not in self._prompt_tokens:
            self._prompt_tokens[key] = self._describers[model].count_prompt(messages)
        return self._prompt_tokens[key]

    def room(self, model: str, messages: Messages) -> int:
        """Tokens that a model's context holds beyond a conversation."""
        return max(0, self.profiles[model].context - self.prompt_tokens(model, messages))

    def room_beside(self, model: str, messages: Messages) -> int:
        """`room` beyond a conversation that a strategy made itself, which is not kept for long."""
        return max(0, self.profiles[model].context - self._count_made(model, messages))

    def forget(self, messages: Messages) -> None:
        """Drop the counts of a conversation that is done with."""
        for model in self.profiles:
            self._prompt_tokens.pop((model, messages), None)

    def seconds_per_token(self, model: str) -> float:
        """Measured busy seconds a token, or the profile's guess before any were measured."""
        if self._tokens[model] == 0.0:
            return self.profiles[model].seconds_per_token
        return self._seconds[model] / self._tokens[model]

    def bound(self, request: Request, exact: bool = False) -> Cost:
        """An upper bound of what a request can cost.

        With `exact` the text of a prefix and of responses is counted, which takes much longer than the rest of what is
        done about a request; without, it is taken to have as many tokens as it can have.
        """
        count = self._describers[request.model].count_text if exact else self._at_most(request.model)
        known = self._prompt_tokens.get((request.model, request.messages))
        prompt = self._count_made(request.model, request.messages) if known is None else known
        response = 0
        if isinstance(request, Generate):
            prompt += count(request.prefix) if request.prefix else 0
        elif isinstance(request, Score):
            more = getattr(self._describers[request.model], "step_tokens", STEP_TOKENS)
            response = sum([count(step) + more for steps in request.responses for step in steps])
        slowest = self._slowest[request.model] * TIME_HEADROOM
        return worst_case(request, self.profiles[request.model], prompt, response, slowest)

    def _at_most(self, model: str) -> Callable[[str], int]:
        """The most tokens a text can have. A character beyond ASCII may be rewritten as several and is counted."""
        count = self._describers[model].count_text
        return lambda text: len(text) + DUMMY_PREFIX if text.isascii() else count(text)

    def charge(self, request: Request, reply: Reply) -> Cost:
        """What a request did cost; learns the model's speed from it."""
        usage, model = reply.usage, request.model
        tokens = usage.prompt_tokens + usage.completion_tokens
        if tokens > 0 and usage.busy_seconds > 0.0:
            self._seconds[model] += usage.busy_seconds
            self._tokens[model] += tokens
            self._slowest[model] = max(self._slowest[model], usage.busy_seconds / tokens)
        return self.cost(request, usage)

    def cost(self, request: Request, usage: Usage) -> Cost:
        """The cost of what a request used, answered or not."""
        return cost_of(usage, self.profiles[request.model], samples_begun(request))


def kind_of(request: Request) -> Kind:
    """The kind of work a request asks for."""
    if isinstance(request, Embed):
        return Kind.EMBED
    return Kind.GENERATE if isinstance(request, Generate) else Kind.SCORE
