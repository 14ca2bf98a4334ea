"""What the worker thread of the embedded engine is asked for: completions of a prompt, or its hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from apportion.actors.kv import Layers
from apportion.actors.replies import Waiter
from apportion.costs import attended
from apportion.types import Completion, Embedded, Generate, Generated, Usage

SEED_BITS = 2**63 - 1
# Seeds are int64 in the batch; larger or negative ones are folded into it.


@dataclass(slots=True, eq=False)
class Job:
    """One request for completions on its way through the batch."""

    request: Generate
    prompt: list[int]
    limit: int
    waiter: Waiter[Generated]
    layers: Layers | None = None
    cached: int = 0
    placed: int = 0
    done: dict[int, Completion] = field(default_factory=dict)
    busy_seconds: float = 0.0
    abandoned: bool = False

    def reply(self) -> Generated:
        """All completions, in the order of their seeds, and what they cost."""
        completions = tuple(self.done[index] for index in range(len(self.request.seeds)))
        prompt, cached = len(self.prompt), self.cached
        written = [completion.tokens for completion in completions]
        reach = attended(cached, prompt - cached) + sum(attended(prompt, tokens) for tokens in written)
        return Generated(completions, Usage(prompt - cached, sum(written), int(reach), cached, self.busy_seconds))


@dataclass(slots=True, eq=False)
class Look:
    """One request for the hidden state at the end of a prompt; the whole prompt is read."""

    prompt: list[int]
    waiter: Waiter[Embedded]
    abandoned: bool = False

    def reply(self, vector: Sequence[float], busy_seconds: float) -> Embedded:
        """The state, and what it cost."""
        tokens = len(self.prompt)
        return Embedded(tuple(vector), Usage(tokens, 0, int(attended(0, tokens)), 0, busy_seconds))
