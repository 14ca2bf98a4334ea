"""The two ways to run the same searches, for search_barrier.py: each as soon as it can, and all in step.

Both ask for the same things in the same order of each prompt: plans, seeds, requests and answers are made by the same
code. What is timed runs from the first request to the last answer, models loaded.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from apportion.actors.protocols import Backend, ReplicaHealth
from apportion.scheduler.allocation import Offer
from apportion.scheduler.assemble import Prepared, build_machine
from apportion.scheduler.driver import Driver
from apportion.scheduler.finish import Finisher
from apportion.scheduler.journal import Journal
from apportion.scheduler.prompt_state import PromptState
from apportion.scheduler.purchase import OpenPurchase, open_purchase
from apportion.scheduler.results import Committed, judge
from apportion.types import Generate, Purchase, Reply, Request, Score


@dataclass(slots=True)
class Watched:
    """A backend that notes when each request began and ended, on the loop's clock."""

    inner: Backend
    spans: list[tuple[bool, float, float]] = field(default_factory=list)
    """whether it was for the policy, begin, end"""

    async def start(self) -> None:
        """The models are loaded already."""

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        clock, policy = asyncio.get_running_loop().time, isinstance(request, Generate)
        begun = clock()
        task = asyncio.ensure_future(self.inner.submit(request, affinity))
        task.add_done_callback(lambda _: self.spans.append((policy, begun, clock())))
        return task

    def health(self) -> Sequence[ReplicaHealth]:
        return self.inner.health()

    async def close(self) -> None:
        """Whoever started the models closes them."""


@dataclass(frozen=True, slots=True)
class Searched:
    """One pass over all prompts. Shares are of the seconds it took.

    `idle` is the time in which the policy had nothing to do, `half` that in which it had less than half of the most
    requests it ever had. `straggling` is how long a request waited on average for the last one of its step, as a share
    of the step; None where there are no steps.
    """

    seconds: float
    cpu_s: float
    accuracy: float
    tokens: int
    idle: float
    half: float
    straggling: float | None
    steps: int | None


Mode = Callable[[Prepared, Backend], Awaitable[Searched]]


async def unbarred(prepared: Prepared, backend: Backend) -> Searched:
    """The job as it is: every search goes on as soon as its own replies are there."""
    machine, watched, done = build_machine(prepared), Watched(backend), list[Committed]()
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite", {}) as journal:
        clock = asyncio.get_running_loop().time
        begun, cpu = clock(), time.process_time()
        await Driver(machine, watched, journal, done.append, lambda: None, False).run()
        seconds, cpu_s = clock() - begun, time.process_time() - cpu
    return _searched(prepared, watched, done, seconds, cpu_s, None)


async def stepwise(prepared: Prepared, backend: Backend) -> Searched:
    """All searches in step: every prompt's requests of a step at once, and the next step when all are answered."""
    spec, watched = prepared.spec, Watched(backend)
    (arm,) = spec.arms
    finisher = Finisher(spec.answer, {arm.name: arm})
    clock = asyncio.get_running_loop().time
    begun, cpu = clock(), time.process_time()
    states = [PromptState(index, prompt) for index, prompt in enumerate(prepared.dataset.prompts)]
    offer = Offer(Purchase(arm.name, arm.amounts[0]), 1.0, 1.0)
    searches = [open_purchase(state, arm, offer, spec.seed) for state in states]
    waits: list[float] = []
    steps = 0
    while any(search.drafts is None for search in searches):
        steps += 1
        for kind in (Generate, Score):
            waits += await _step(watched, [one for one in searches if isinstance(next(iter(one.requests), None), kind)])
    done: list[Committed] = []
    for state, search in zip(states, searches, strict=True):
        state.purchases.append(search.purchase)
        state.candidates.extend(finisher.candidates(state, arm, 0, search.drafts or ()))
        done.append(finisher.commit(state, 0.0, "settled").committed)
    seconds, cpu_s = clock() - begun, time.process_time() - cpu
    straggling = statistics.fmean(waits) if waits else 0.0
    return _searched(prepared, watched, done, seconds, cpu_s, (straggling, steps))


async def _step(backend: Backend, searches: Sequence[OpenPurchase]) -> list[float]:
    """One step of some searches; how long each request waited for the last, as a share of the step."""
    clock = asyncio.get_running_loop().time
    begun, ends = clock(), list[float]()

    async def ask(request: Request, prompt: int) -> Reply:
        reply = await backend.submit(request, prompt)
        ends.append(clock())
        return reply

    asked = [(search, part, request) for search in searches for part, request in enumerate(search.requests)]
    replies = await asyncio.gather(*(ask(request, search.prompt) for search, _, request in asked))
    for (search, part, _), reply in zip(asked, replies, strict=True):
        search.reply(part, reply)
    last = max(ends, default=begun)
    return [(last - end) / (last - begun) for end in ends if last > begun]


def _searched(
    prepared: Prepared,
    watched: Watched,
    done: Sequence[Committed],
    seconds: float,
    cpu_s: float,
    steps: tuple[float, int] | None,
) -> Searched:
    prompts = prepared.dataset.prompts
    right = [judge(one.result, prompts[one.result.index], prepared.spec.answer).correct for one in done]
    tokens = sum(candidate.draft.tokens for one in done for candidate in one.candidates)
    idle, half = _gaps([(begin, end) for policy, begin, end in watched.spans if policy], seconds)
    straggling, count = steps if steps is not None else (None, None)
    accuracy = sum(one is True for one in right) / len(right)
    return Searched(seconds, cpu_s, accuracy, tokens, idle, half, straggling, count)


def _gaps(spans: Sequence[tuple[float, float]], seconds: float) -> tuple[float, float]:
    """The share of the time with no span, and with less than half of the most there ever are at once."""
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    held: dict[int, float] = {}
    running = most = 0
    for (at, change), (until, _) in pairwise(changes):
        running += change
        most = max(most, running)
        held[running] = held.get(running, 0.0) + until - at
    busy = sum(time for count, time in held.items() if count)
    full = sum(time for count, time in held.items() if 2 * count >= most)
    return 1.0 - busy / seconds, 1.0 - full / seconds
