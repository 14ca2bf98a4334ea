"""Jobs on a backend that loses work: it is charged, done again where the budget covers that, and never lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_world import World, make_prompts

from apportion.actors.inline import InlineBackend
from apportion.actors.protocols import OnLoss
from apportion.costs import Unit
from apportion.errors import EngineError
from apportion.scheduler.driver import Driver
from apportion.scheduler.events import Lost, Replied
from apportion.scheduler.journal import Journal
from apportion.scheduler.machine import Machine
from apportion.types import Purchase, Reply, Request


class Losing(InlineBackend):
    """Loses attempts by chance, and stops answering after so many requests, as a driver that is killed would see it."""

    def __init__(self, world: World, seed: int, rate: float, most: int | None = None) -> None:
        super().__init__(world.specs)
        self._order = random.Random(seed)
        self._rate = rate
        self._most = most
        self._tell: OnLoss = lambda *_: True

    def tell_losses(self, listener: OnLoss) -> None:
        self._tell = listener

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        return asyncio.ensure_future(self._attempt(request, affinity))

    async def _attempt(self, request: Request, affinity: int) -> Reply:
        while self._order.random() < self._rate:
            await asyncio.sleep(0)
            if not self._tell(request, affinity, "its replica died"):
                raise EngineError("the budget does not cover it")
        reply = await super().submit(request, affinity)
        if self._most is not None:
            self._most -= 1
            if self._most < 0:
                raise RuntimeError("stopped")
        return reply


def run(world: World, backend: InlineBackend, path: Path | str) -> Machine:
    """One session of a job, on a fresh machine."""
    world.machine = world.build()
    world.committed = []

    async def work() -> None:
        try:
            with Journal(path, {"job": "lost"}) as journal:
                await Driver(world.machine, backend, journal, world.committed.append, lambda: None, world.ordered).run()
        finally:
            await backend.close()

    asyncio.run(work())
    return world.machine


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    rate=st.sampled_from([0.05, 0.3, 0.6]),
    budget=st.floats(500, 20_000),
    ordered=st.booleans(),
)
def test_books_balance_whatever_is_lost(seed: int, rate: float, budget: float, ordered: bool) -> None:
    script = [Purchase("vote", 4), Purchase("beam", 4), Purchase("best", 2)]
    world = World(make_prompts(10), budget, Unit.TOKENS, script, in_flight=5, ordered=ordered)
    machine = run(world, Losing(world, seed, rate), ":memory:")
    assert machine.done
    assert machine.ledger.spent <= budget
    assert Counter(one.result.index for one in world.committed) == dict.fromkeys(range(10), 1)
    assert sum(one.result.spent.tokens for one in world.committed) == pytest.approx(machine.ledger.spent)
    assert not any(one.result.error for one in world.committed), "no prompt is to blame for work that was lost"


@pytest.mark.parametrize("ordered", [False, True])
def test_what_was_in_flight_when_a_session_ended_is_charged_in_the_next_and_replays_alike(
    tmp_path: Path, ordered: bool
) -> None:
    path, script = tmp_path / "j.sqlite", [Purchase("vote", 4), Purchase("best", 4)]
    world = World(make_prompts(12), 1e6, Unit.TOKENS, script, in_flight=6, ordered=ordered)
    for most in (10, 7):
        with pytest.raises(RuntimeError, match="stopped"):
            run(world, Losing(world, most, 0.1, most), path)
    machine = run(world, Losing(world, 3, 0.1), path)
    with Journal(path, {"job": "lost"}) as journal:
        events = list(journal.events())
    lost = [event for event in events if isinstance(event, Lost)]
    stopped = [event for event in lost if "earlier session" in event.cause]
    assert len(stopped) >= 2, "both sessions left something in flight"
    assert all(Counter(event.request for event in lost)[event.request] >= event.attempt for event in lost)
    answered = [event.request for event in events if isinstance(event, Replied)]
    assert len(answered) == len(set(answered))
    assert machine.ledger.lost.tokens > 0
    assert machine.ledger.spent <= machine.ledger.budget
    # The journal alone gives the same books and the same results.
    before = [(one.result.prompt_id, one.result.answer, one.result.spent) for one in world.committed]
    again = run(world, Losing(world, 9, 0.9), path)
    assert again.ledger.lost == machine.ledger.lost
    assert [(one.result.prompt_id, one.result.answer, one.result.spent) for one in world.committed] == before
