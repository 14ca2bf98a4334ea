"""What a strategy is: a generator that yields requests and is sent replies, and returns drafts.

Invariants every strategy keeps (checked by `apportion.policies.conformance`):
- it never awaits and imports no framework, and given the same replies yields the same requests;
- it yields a non-empty tuple of requests, all of which may run at once, and is sent their replies in the same order;
- it may be cut off at any yield by `CutOff` thrown in, and then returns what it has;
- it draws its seeds from `Task.seed`, so that a later purchase of the same arm continues where this one stops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from apportion.costs import Amount, attended
from apportion.errors import ConfigError
from apportion.types import Draft, Generate, Generated, Messages, Reply, Request, Sampling, Score, Scored

Plan = Generator[tuple[Request, ...], tuple[Reply, ...], tuple[Draft, ...]]


class CutOff(Exception):
    """Thrown into a strategy whose next requests the budget cannot cover; it returns the drafts it has."""


@dataclass(frozen=True, slots=True)
class Task:
    """One purchase to carry out: `n` samples of a strategy on one conversation.

    `drawn` is how many samples of the same arm this prompt already has, and `earlier` are their drafts, in order: what
    a chain goes on from. `step_separator` is what the policy model writes between two steps; `verifier` and `second`,
    another policy model, are None where the arm has none. `room` is how many tokens the policy model's context holds
    beyond the conversation, None where that is not known. `read` gives the answer in a response as the job reads
    it, equal answers as equal strings and None where there is none; it is None where nobody can say.
    `second_room` is how many tokens the second model's context holds beyond a conversation made for it.
    """

    messages: Messages
    policy: str
    verifier: str | None
    sampling: Sampling
    step_separator: str
    n: int
    drawn: int
    key: str
    """job seed, prompt and arm in one string: the root of every seed of this task"""
    second: str | None = None
    earlier: tuple[Draft, ...] = ()
    room: int | None = None
    read: Callable[[str], str | None] | None = None
    second_room: Callable[[Messages], int] | None = None

    def seed(self, *path: int) -> int:
        """A 63-bit seed for one place in the task, e.g. `seed(sample)` or `seed(sample, depth)`.

        Sample numbers should count from `drawn`, so that four samples and then four more are the same eight.
        """
        text = ":".join([self.key, *map(str, path)])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def chance(self, *path: int) -> float:
        """A number in [0, 1) for one place in the task, with the 53 bits that a float holds."""
        return (self.seed(*path) >> 10) / 2.0**53

    def second_reads(self, messages: Messages) -> bool:
        """Whether the second model can read a conversation and say something; True where nobody knows."""
        return self.second_room is None or self.second_room(messages) > 0


@dataclass(frozen=True, slots=True)
class Workload:
    """The expected work of one purchase, in tokens; each a number or an array over prompts.

    `attended` sums attended positions as in `Usage`. The `second_` fields are the work of the second policy model, its
    prompt tokens as often as they are read. `unshared_prompt_tokens` are what the policy model reads where every
    completion is a call of its own; None is the prompt for each sample.
    """

    prompt_tokens: Amount = 0.0
    completion_tokens: Amount = 0.0
    policy_attended: Amount = 0.0
    verifier_tokens: Amount = 0.0
    verifier_attended: Amount = 0.0
    samples: Amount = 0.0
    second_prompt_tokens: Amount = 0.0
    second_completion_tokens: Amount = 0.0
    second_attended: Amount = 0.0
    unshared_prompt_tokens: Amount | None = None


@dataclass(frozen=True, slots=True)
class Lengths:
    """What is known of lengths when costs are predicted, in tokens and steps; each a number or an array [prompts]."""

    prompt_tokens: Amount
    completion_tokens: Amount
    steps: Amount


def sampled_workload(n: int, lengths: Lengths, verified: bool) -> Workload:
    """Writing n responses, and scoring them where `verified`: the prompt is read once by each model."""
    prompt, completion = lengths.prompt_tokens, lengths.completion_tokens
    reach = attended(0.0, prompt) + n * attended(prompt, completion)
    return Workload(
        prompt_tokens=prompt,
        completion_tokens=n * completion,
        policy_attended=reach,
        verifier_tokens=(prompt + n * completion) * verified,
        verifier_attended=reach * verified,
        samples=n + 0.0 * prompt,
    )


class Strategy(Protocol):
    """A way to spend compute on one prompt. An instance is a frozen dataclass whose fields are its settings.

    What it says beside these where it is so, each a `ClassVar[bool]` that is False unless given:
    - `scores_whole`: one score for a whole response is enough for it, so an outcome reward model will do;
    - `continues`: its requests have prefixes, which not every engine can do;
    - `by_step`: it goes on from the end of a step, and must be told that a text ended there and not with its turn;
    - `needs_second`: it asks a second policy model, with conversations of its own;
    - `judges`: it scores its drafts itself, without a verifier, each with one score;
    - `extends`: its conversations hold earlier drafts of the prompt;
    - `independent`: its drafts share nothing, as best-of-n's: each weighs 1, and fewer are dealt from more of them.

    One that writes fewer than n responses to the task's own conversation says how many by a method `beginnings(n)`.
    """

    name: ClassVar[str]
    needs_verifier: ClassVar[bool]

    def plan(self, task: Task) -> Plan:
        """The generator that carries a task out."""
        ...

    def check(self, n: int) -> str | None:
        """Why `n` cannot be honoured with these settings, with the fix; None where it can."""
        ...

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """The work expected of a purchase of `n`; `verified` says whether a verifier scores it.

        Must broadcast: with lengths as arrays over prompts, the amounts are arrays over prompts.
        """
        ...


def needs_steps(strategy: Strategy) -> bool:
    """Whether a strategy needs a verifier that scores every step."""
    return strategy.needs_verifier and not getattr(strategy, "scores_whole", False)


def continues_text(strategy: Strategy) -> bool:
    """Whether a strategy asks for continuations of text already written."""
    return bool(getattr(strategy, "continues", False))


def goes_by_step(strategy: Strategy | type[Strategy]) -> bool:
    """Whether a strategy must be told a stop string from the end of a turn."""
    return bool(getattr(strategy, "by_step", False))


def needs_second(strategy: Strategy | type[Strategy]) -> bool:
    """Whether a strategy needs a second policy model."""
    return bool(getattr(strategy, "needs_second", False))


def judges(strategy: Strategy) -> bool:
    """Whether a strategy scores its drafts itself."""
    return bool(getattr(strategy, "judges", False))


def extends_conversation(strategy: Strategy) -> bool:
    """Whether a strategy puts earlier drafts into the conversation."""
    return bool(getattr(strategy, "extends", False))


def draws_independently(strategy: Strategy) -> bool:
    """Whether each draft of a strategy is evidence of its own."""
    return bool(getattr(strategy, "independent", False))


def beginnings(strategy: Strategy, n: int) -> int:
    """How many of n responses are written to the task's own conversation, and so are all the same at temperature 0."""
    own = getattr(strategy, "beginnings", None)
    return n if own is None else int(own(n))


def second_of(task: Task) -> str:
    """The task's second policy model. Raises ConfigError where it has none."""
    if task.second is None:
        raise ConfigError("the strategy asks a second policy model, and there is none: name one in the arm's `second`")
    return task.second


def generate(request: Generate) -> Generator[tuple[Request, ...], tuple[Reply, ...], Generated]:
    """`yield from generate(request)` gives the typed reply to one Generate."""
    (reply,) = yield (request,)
    if not isinstance(reply, Generated):
        raise TypeError(f"a Generate was answered by {type(reply).__name__}")
    return reply


def generate_all(
    requests: tuple[Generate, ...],
) -> Generator[tuple[Request, ...], tuple[Reply, ...], tuple[Generated, ...]]:
    """`yield from generate_all(requests)` runs several Generates at once."""
    replies = yield requests
    if not all(isinstance(reply, Generated) for reply in replies):
        raise TypeError("a Generate was answered by something else")
    return tuple(reply for reply in replies if isinstance(reply, Generated))


def score(request: Score) -> Generator[tuple[Request, ...], tuple[Reply, ...], Scored]:
    """`yield from score(request)` gives the typed reply to one Score."""
    (reply,) = yield (request,)
    if not isinstance(reply, Scored):
        raise TypeError(f"a Score was answered by {type(reply).__name__}")
    return reply
