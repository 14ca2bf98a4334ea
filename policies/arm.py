"""An arm: a strategy with its policy model, verifier, selector and settings fixed; only the amount n is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apportion.policies.strategy import Strategy, beginnings, draws_independently, judges
from apportion.types import Candidate, Sampling


@dataclass(frozen=True, slots=True)
class Choice:
    """A selector's decision. `confidence` is the share of the (weighted) vote the answer holds, in [0, 1]."""

    answer: str | None
    confidence: float
    candidate: int | None = None
    """position, in the sequence selected from, of the best candidate with that answer"""


Selector = Callable[[Sequence[Candidate]], Choice]


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the config's `arms`. `amounts` are the purchases it offers, ascending."""

    name: str
    strategy: Strategy
    policy: str
    verifier: str | None
    select: str
    aggregate: str
    amounts: tuple[int, ...]
    sampling: Sampling
    step_separator: str = "\n\n"
    second: str | None = None
    """the second policy model of strategies that ask two"""

    @property
    def judge(self) -> str | None:
        """The model that scores its responses, a verifier or a second policy that judges; None where none does."""
        return self.second if judges(self.strategy) else self.verifier

    @property
    def scored(self) -> bool:
        """Whether its candidates have scores."""
        return self.judge is not None

    @property
    def writers(self) -> tuple[str, ...]:
        """The models that write its responses; a second one that judges them writes none."""
        return (self.policy,) if self.second is None or judges(self.strategy) else (self.policy, self.second)

    @property
    def samples(self) -> bool:
        """Whether its responses are samples of its policy alone, so that what is known of the model is of them."""
        return draws_independently(self.strategy) and self.writers == (self.policy,)

    @property
    def most(self) -> int | None:
        """How many responses to a prompt it can give that differ; None without bound.

        At temperature 0 what begins with the prompt alone is the same each time: its least amount is all there is.
        """
        n = self.amounts[0]
        return n if self.sampling.temperature == 0.0 and beginnings(self.strategy, 2 * n) > 1 else None

    @property
    def models(self) -> tuple[str, ...]:
        """The models it asks, each once."""
        return tuple(dict.fromkeys(name for name in (self.policy, self.second, self.verifier) if name is not None))
