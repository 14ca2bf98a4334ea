"""The values that cross the parts of a job: prompts, requests, replies, drafts, candidates.

All are frozen and slotted, hold only plain data, and survive a trip through JSON (see `apportion.codec`).
Absence is None. Nothing here imports a framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of the dataset. `reference` is read only to score results, never to decide."""

    id: str
    messages: Messages
    reference: str | None = None

    @property
    def text(self) -> str:
        """The content of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `max_tokens` bounds one completion; a stop string ends it and stays in its text."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask a policy model for `len(seeds)` completions of one conversation, each drawn with its own seed.

    `prefix` is assistant text already written; completions continue it and do not repeat it.
    """

    model: str
    messages: Messages
    seeds: tuple[int, ...]
    sampling: Sampling
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Ask a verifier for a score in [0, 1] of every step of every response to one conversation."""

    model: str
    messages: Messages
    responses: tuple[tuple[str, ...], ...]
    """The steps of each response, without separators."""


@dataclass(frozen=True, slots=True)
class Embed:
    """Ask a policy model for its last hidden state at the end of one conversation, where it would begin to answer."""

    model: str
    messages: Messages


Request = Generate | Score | Embed
"""Strategies yield the first two; a job asks for the third before any purchase (`apportion.scheduler.looking`)."""


class Finish(StrEnum):
    """Why a completion ended."""

    END = "end"
    """the model ended its turn"""
    STOP = "stop"
    """a stop string was written"""
    LENGTH = "length"
    """max_tokens or the context ran out"""


@dataclass(frozen=True, slots=True)
class LogprobStats:
    """Statistics of one completion's token distributions, at temperature 1, in nats, averaged over its tokens.

    `self_certainty` is the KL divergence from the uniform distribution to the model's: -(1/nV) sum_ij log(V p_ij)
    (Kang et al. 2025, arXiv 2502.18581). `exact` is False where only a top-k of the vocabulary was seen.
    """

    mean_logprob: float
    mean_entropy: float
    self_certainty: float
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation, without the prefix it continues. `tokens` counts the end token where one was drawn."""

    text: str
    tokens: int
    finish: Finish
    stats: LogprobStats | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request made the accelerator do.

    `attended` is the sum, over the tokens processed (prompt and completion, not cached), of the positions each
    attends to, itself included; it makes attention countable. `cached_tokens` were read from a prefix cache and
    cost nothing. `busy_seconds` is the request's share of the batch it ran in, by tokens.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    attended: int = 0
    cached_tokens: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Generated:
    """The reply to `Generate`: one completion a seed, in order."""

    completions: tuple[Completion, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Scored:
    """The reply to `Score`: of each response, in order, a score a step, each in [0, 1].

    An outcome reward model gives one for the whole response. None: it does not fit the scorer's context.
    """

    scores: tuple[tuple[float, ...], ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Embedded:
    """The reply to `Embed`. `vector` is as wide as the model; its numbers are those of a 16-bit float."""

    vector: tuple[float, ...]
    usage: Usage


Reply = Generated | Scored | Embedded


@dataclass(frozen=True, slots=True)
class Draft:
    """What a strategy returns: one finished response, before its answer is read.

    `tokens` counts the tokens of this response itself, not those of others tried on the way to it.
    `weight` is its worth as independent evidence: responses that share a beam are worth less than one each.
    `group` numbers the chain it belongs to, over all purchases of its arm; None where responses form no chains.
    """

    text: str
    steps: tuple[str, ...]
    tokens: int
    finish: Finish
    stats: LogprobStats | None = None
    step_scores: tuple[float, ...] | None = None
    weight: float = 1.0
    group: int | None = None

    @property
    def length(self) -> int:
        """How long it is, in tokens, for what goes by length."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draft with its answer and where it came from.

    Equal answers are equal strings: the machine replaces an answer by the first one of the prompt it equals.
    `answer` None is an unparsed answer; it agrees with nothing. `score` is the aggregate of `step_scores`. `repeats` is
    how many earlier candidates of the prompt have the same text, white space around it aside; told only where the
    objective counts candidates, as one that repeats another counts for nothing.
    """

    prompt_id: str
    index: int
    arm: str
    purchase: int
    draft: Draft
    answer: str | None
    score: float | None = None
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Purchase:
    """`n` samples of an arm, granted to one prompt."""

    arm: str
    n: int
