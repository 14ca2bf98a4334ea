"""What an engine and a scorer must do, and what the driver needs to know of them before they exist.

Engines and scorers live inside an actor and are called from its one event loop. They take many requests at once and
may answer each when it is ready; how they batch is theirs. `apportion.actors.conformance` checks an implementation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from apportion.costs import ModelProfile
from apportion.types import Embed, Embedded, Generate, Generated, Messages, Reply, Request, Score, Scored


@runtime_checkable
class Engine(Protocol):
    """A policy model that writes."""

    async def generate(self, request: Generate) -> Generated:
        """Completions for one request; concurrent calls are batched by the engine.

        The same request gives the same completions whatever else is in the batch (up to floating-point ties).
        Where the prefix leaves no room in the context, completions are empty: text "", 0 tokens, Finish.LENGTH.
        Raises EngineError where the request cannot be run, e.g. a conversation that leaves no room by itself, and
        BatchError where the model failed on the batch the request was in.
        """
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that tells its hidden state. Some engines do so beside writing: `EngineKind.embeds` says which."""

    async def embed(self, request: Embed) -> Embedded:
        """The last hidden state at the end of a conversation, rounded to 16-bit floats.

        The same request gives the same state whatever else is in the batch, up to the rounding of the model's type.
        Raises as `Engine.generate` does.
        """
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A verifier that scores steps."""

    async def score(self, request: Score) -> Scored:
        """A score in [0, 1] for every step of every response.

        The scores are an empty tuple for a response that does not fit the context; the others are scored all the same.
        Raises EngineError for a conversation that does not fit by itself, and BatchError as an engine does.
        """
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


class Describer(Protocol):
    """The driver-side view of a model: read from its files, without loading its weights."""

    def profile(self) -> ModelProfile:
        """What must be known to count its work."""
        ...

    def count_prompt(self, messages: Messages) -> int:
        """Tokens of a conversation as the engine renders it (chat template included)."""
        ...

    def count_text(self, text: str) -> int:
        """Tokens of a piece of assistant text."""
        ...


class Backend(Protocol):
    """Where requests go: a pool of Ray actors, or models in this process.

    `start` raises ModelError or CapacityError before any request is taken. `submit` raises ReplicaDiedError or
    EngineError for a request that failed for good (after the backend's own retries), and ClusterLostError where
    nothing is left to run it on.
    """

    async def start(self) -> None: ...

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        """Run one request on the model it names; `affinity` (the prompt's number) keeps a prompt on one replica.

        Cancelling what is returned takes the request back, wherever it is, and frees the engine of it.
        """
        ...

    def health(self) -> Sequence[ReplicaHealth]: ...

    async def close(self) -> None: ...


OnLoss = Callable[[Request, int, str], bool]
"""Told a request, its affinity and why its work so far is lost; whether it may be run again."""


@runtime_checkable
class TellsLosses(Protocol):
    """A backend that runs requests again by itself, and asks before it does."""

    def tell_losses(self, listener: OnLoss) -> None:
        """Ask `listener`, once for every attempt at a request that is lost. A request that may not be run again fails
        with EngineError. Without a listener every request is run again."""
        ...


@runtime_checkable
class TellsWaiting(Protocol):
    """A backend that may wait for something to come before its models load."""

    @property
    def waits_for(self) -> str:
        """What it waits for now, for how long already and how long at most; empty where it does not wait."""
        ...


class ReplicaHealth(Protocol):
    """What is shown of one replica."""

    @property
    def model(self) -> str: ...
    @property
    def replica(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    @property
    def restarts(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def cause(self) -> str | None: ...
