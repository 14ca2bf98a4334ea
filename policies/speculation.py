"""What speculative reasoning shares: a cheap model drafts each step, and a dear one writes those that are not kept.

Invariants and choices:
- n chains side by side, and all of a round's requests at once: the drafts, then what judges them, then the steps that
  the second model writes. Chains with the same text are asked about together.
- A draft longer than `draft_tokens` is no step: it is not judged, and the second model writes the step.
- A response ends where a step does that was kept, or that the second model wrote. Its tokens are those of its own
  text, by whichever model; rejected drafts are paid for and are no part of it.
- Where cut off, the steps drafted last stay: one in doubt may hold the answer, a response without it has none.
- Seeds follow the chain, which counts from `Task.drawn`, and its step. Chains share nothing, so each weighs 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace

from apportion.costs import attended
from apportion.policies.beams import Beam, Scores, continuation, drafts_of, extended, score_beams
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate_all, sampled_workload, second_of
from apportion.types import Draft, Finish, Reply, Request

Asking = Generator[tuple[Request, ...], tuple[Reply, ...], list[bool]]
Judge = Callable[[Sequence[Beam], Sequence[Beam], Sequence[int]], Asking]
"""From chains, the same with a drafted step, and a seed for each, to whether each draft is kept."""

BOUND = "the longest step to be judged"
"""What `draft_tokens` is."""

JUDGED, WRITTEN = 1, 2
"""End the paths of the seeds that judge a draft and that write a step in its place; those of drafts end with the
step."""

REJECTED = 0.3
"""The share of drafts expected to be rejected before any was: both papers report that most are kept. What purchases
really cost replaces it."""


def speculate(task: Task, draft_tokens: int, judge: Judge, scores: Scores) -> Plan:
    """n drafts, one a chain; `scores` are those of the verifier, filled in at the end where the task has one."""
    dear = replace(task, policy=second_of(task))
    chains = [Beam()] * task.n
    depth = 0
    try:
        while going := [at for at, chain in enumerate(chains) if not chain.ended]:
            before = [chains[at] for at in going]
            drafted = yield from _write(task, before, _seeds(task, going, depth), draft_tokens)
            chains = _replaced(chains, dict(zip(going, drafted, strict=True)))
            fit = [place for place, beam in enumerate(drafted) if not _too_long(beam, draft_tokens, task)]
            kept: set[int] = set()
            if fit:
                seeds = _seeds(task, [going[place] for place in fit], depth, JUDGED)
                verdicts = yield from judge([before[place] for place in fit], [drafted[place] for place in fit], seeds)
                kept = {place for place, keep in zip(fit, verdicts, strict=True) if keep}
            rejected = [place for place in range(len(going)) if place not in kept]
            if rejected:
                again = [going[place] for place in rejected]
                seeds = _seeds(task, again, depth, WRITTEN)
                written = yield from _write(dear, [before[place] for place in rejected], seeds, None)
                chains = _replaced(chains, dict(zip(again, written, strict=True)))
            depth += 1
        if task.verifier is not None:
            yield from score_beams(task, chains, scores)
    except CutOff:
        pass
    return _finals(task, chains, scores)


def speculated_workload(n: int, lengths: Lengths, verified: bool) -> Workload:
    """Every step drafted once, and the rejected ones written by the second model; each reads what the other wrote.

    Engines are expected to keep what they have read of a response. Judging is not in it.
    """
    prompt, completion = lengths.prompt_tokens, lengths.completion_tokens
    once, reach = attended(0.0, prompt), n * attended(prompt, completion)
    return replace(
        sampled_workload(n, lengths, verified),
        prompt_tokens=prompt + REJECTED * n * completion,
        policy_attended=once + (1.0 + REJECTED) * reach,
        samples=n * (1.0 + REJECTED) + 0.0 * prompt,
        second_prompt_tokens=prompt + (1.0 - REJECTED) * n * completion,
        second_completion_tokens=REJECTED * n * completion,
        second_attended=once + reach,
    )


def check_chains(name: str, n: int) -> str | None:
    """Why there cannot be n chains, with the fix; None where there can."""
    return None if n >= 1 else f"n is {n}, and {name} writes at least 1 chain; use n: 1 or more"


def _seeds(task: Task, chains: Sequence[int], *path: int) -> list[int]:
    return [task.seed(task.drawn + at, *path) for at in chains]


def _write(
    task: Task, chains: Sequence[Beam], seeds: Sequence[int], most: int | None
) -> Generator[tuple[Request, ...], tuple[Reply, ...], list[Beam]]:
    """The chains with one more step each by the task's policy, of at most `most` tokens."""
    alike: dict[tuple[str, int], list[int]] = {}
    for at, chain in enumerate(chains):
        alike.setdefault((chain.text, chain.tokens), []).append(at)
    requests = []
    for places in alike.values():
        request = continuation(task, chains[places[0]], tuple(seeds[at] for at in places), last=not task.step_separator)
        room = request.sampling.max_tokens
        bounded = replace(request.sampling, max_tokens=room if most is None else min(room, most))
        requests.append(replace(request, sampling=bounded))
    replies = yield from generate_all(tuple(requests))
    longer = list(chains)
    for places, reply in zip(alike.values(), replies, strict=True):
        for at, piece in zip(places, reply.completions, strict=True):
            longer[at] = extended(chains[at], piece, seeds[at], task, last=not task.step_separator)
    return longer


def _too_long(beam: Beam, draft_tokens: int, task: Task) -> bool:
    """Whether a draft was ended by its own bound, where the response had more room."""
    piece = beam.pieces[-1]
    return piece.finish is Finish.LENGTH and piece.tokens >= draft_tokens and beam.tokens < task.sampling.max_tokens


def _replaced(chains: Sequence[Beam], new: Mapping[int, Beam]) -> list[Beam]:
    return [new.get(at, chain) for at, chain in enumerate(chains)]


def _finals(task: Task, chains: Sequence[Beam], scores: Scores) -> tuple[Draft, ...]:
    written = [chain for chain in chains if chain.pieces]
    if task.verifier is not None:
        return drafts_of(written, scores)
    return tuple(replace(draft, step_scores=None) for draft in drafts_of(written, scores))
