"""What work costs, in every unit. Pure arithmetic: usage in, cost out.

FLOPs a token are 2 x (active parameters + 2 x layers x attention width x attended positions): each weight is one
multiply-add, and each attended position one multiply-add per channel for the scores and one for the values
(Large Language Monkeys, Brown et al. 2024, appendix). Summed over a whole sequence this is DESIGN's
2 x (active parameters + layers x width x length) a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from apportion.types import Embed, Generate, Request, Usage

Amount = float | NDArray[np.float64]
"""A number, or an array over prompts."""


class Unit(StrEnum):
    """The unit a budget is counted in."""

    TOKENS = "tokens"
    FLOPS = "flops"
    GPU_SECONDS = "gpu_seconds"
    DOLLARS = "dollars"
    SAMPLES = "samples"


@dataclass(frozen=True, slots=True)
class Cost:
    """One amount of work in all units. `samples` counts responses begun (a continued prefix begins none)."""

    tokens: float = 0.0
    flops: float = 0.0
    gpu_seconds: float = 0.0
    dollars: float = 0.0
    samples: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.tokens + other.tokens,
            self.flops + other.flops,
            self.gpu_seconds + other.gpu_seconds,
            self.dollars + other.dollars,
            self.samples + other.samples,
        )

    def scaled(self, share: float) -> Cost:
        """A share of it, in every unit."""
        return Cost(*(share * self.of(unit) for unit in Unit))

    def of(self, unit: Unit) -> float:
        """The amount in one unit."""
        # A unit is its own name; `.value` would take longer than the rest.
        return float(getattr(self, unit))

    def as_dict(self) -> dict[str, float]:
        """Unit name to amount."""
        return {unit.value: self.of(unit) for unit in Unit}


ZERO_COST = Cost()


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What must be known of a model to count its work.

    `active_parameters` are those multiplied for each token: the embedding lookup is left out, the output head is in.
    `gpus` are the accelerators one replica occupies (a CPU replica counts as one). `dollars_per_hour` is for one
    replica; endpoints are paid by token instead.
    """

    name: str
    active_parameters: float
    layers: int
    attention_width: int
    context: int
    gpus: float = 1.0
    dollars_per_hour: float = 0.0
    dollars_per_million_input: float = 0.0
    dollars_per_million_output: float = 0.0
    dollars_per_million_cached: float = 0.0
    """what an endpoint takes for prompt tokens it had cached; at most what it takes for the others"""
    prompt_each: bool = False
    """the prompt is read, and paid, once for each completion, as where every completion is a call of its own"""
    exact_counts: bool = True
    """token counts made beforehand are the engine's own; else they are upper bounds of them"""
    attempts: int = 1
    """calls made for one completion that may all be charged, the failed ones too: a reservation covers them"""
    seconds_per_token: float = 1e-3
    """a first guess, used to reserve and predict gpu_seconds until the job has measured its own"""

    def flops(self, tokens: Amount, attended: Amount) -> Amount:
        """FLOPs of `tokens` tokens that attend to `attended` positions in total."""
        return 2.0 * (self.active_parameters * tokens + 2.0 * self.layers * self.attention_width * attended)


def attended(context: Amount, tokens: Amount) -> Amount:
    """Positions attended to by `tokens` tokens appended one after the other to `context` earlier ones."""
    return tokens * context + tokens * (tokens + 1) / 2.0


def cost_of(usage: Usage, profile: ModelProfile, samples: int = 0) -> Cost:
    """The cost of measured work. `samples` is the number of responses the request began."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    gpu_seconds = usage.busy_seconds * profile.gpus
    by_token = usage.prompt_tokens * profile.dollars_per_million_input
    by_token += usage.completion_tokens * profile.dollars_per_million_output
    by_token += usage.cached_tokens * profile.dollars_per_million_cached
    return Cost(
        tokens=float(tokens),
        flops=float(profile.flops(tokens, usage.attended)),
        gpu_seconds=gpu_seconds,
        dollars=usage.busy_seconds * profile.dollars_per_hour / 3600.0 + by_token / 1e6,
        samples=float(samples),
    )


def samples_begun(request: Request) -> int:
    """How many responses a request begins."""
    return len(request.seeds) if isinstance(request, Generate) and not request.prefix else 0


def worst_case(
    request: Request, profile: ModelProfile, prompt_tokens: int, response_tokens: int, seconds_per_token: float
) -> Cost:
    """An upper bound of what a request can cost, nothing cached.

    `prompt_tokens` counts the conversation (and, for Generate, the prefix); `response_tokens` those of all responses
    to score. `seconds_per_token` must bound the replica's time a token, since time cannot be known before.
    """
    reach: Amount
    if isinstance(request, Generate):
        room = max(0, profile.context - prompt_tokens)
        length = min(request.sampling.max_tokens, room)
        reads = (len(request.seeds) if profile.prompt_each else 1) * profile.attempts
        writes = len(request.seeds) * profile.attempts
        completion = length * writes
        reach = attended(0, prompt_tokens) * reads + attended(prompt_tokens, length) * writes
        prompt = prompt_tokens * reads
    elif isinstance(request, Embed):
        completion, prompt = 0, prompt_tokens * profile.attempts
        reach = attended(0, prompt_tokens) * profile.attempts
    else:
        # A scorer may read the conversation again for each response, and each response within its context.
        completion = 0
        prompt = prompt_tokens * len(request.responses) + response_tokens
        reach = attended(0, profile.context) / max(1, profile.context) * prompt * 2
    usage = Usage(prompt, completion, int(reach) + 1, 0, (prompt + completion) * seconds_per_token)
    return cost_of(usage, profile, samples_begun(request))
