"""The driver's turns: whatever comes at once, each reply is on disk before it is used, and nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from job_world import World, make_prompts

from apportion.actors.inline import InlineBackend
from apportion.scheduler.driver import EVENTS_A_TURN, Driver
from apportion.scheduler.events import Event, Instruction
from apportion.scheduler.journal import Journal
from apportion.scheduler.machine import Machine
from apportion.scheduler.results import Committed
from apportion.types import Purchase, Reply, Request

MANY = 3 * EVENTS_A_TURN + 7


def journaled(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT COUNT(*) FROM events WHERE kind = 'replied'").fetchone()[0])


@pytest.mark.parametrize("ordered", [False, True])
def test_more_replies_than_a_turn_takes_are_all_used_once(tmp_path: Path, ordered: bool) -> None:
    world = World(make_prompts(MANY), script=[Purchase("vote", 2)], in_flight=MANY, ordered=ordered)
    machine = world.run(tmp_path / "j.sqlite")
    assert machine.done
    assert sorted(one.result.index for one in world.committed) == list(range(MANY))
    assert journaled(tmp_path / "j.sqlite") == MANY


def test_a_reply_is_on_disk_before_the_machine_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen, handle = tmp_path / "j.sqlite", 0, Machine.handle

    def watched(machine: Machine, event: Event) -> list[Instruction]:
        nonlocal seen
        seen += 1
        assert journaled(path) >= seen
        return handle(machine, event)

    monkeypatch.setattr(Machine, "handle", watched)
    World(make_prompts(20), script=[Purchase("beam", 4), Purchase("vote", 2)], in_flight=9).run(path)
    assert seen == journaled(path) > 40


def test_a_job_that_fails_in_a_turn_is_resumed_with_what_had_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, left, handle = tmp_path / "j.sqlite", 30, Machine.handle
    world = World(make_prompts(60), script=[Purchase("vote", 2), Purchase("best", 2)], in_flight=60)

    def breaking(machine: Machine, event: Event) -> list[Instruction]:
        nonlocal left
        left -= 1
        if left == 0:
            raise RuntimeError("the driver broke")
        return handle(machine, event)

    with monkeypatch.context() as broken:
        broken.setattr(Machine, "handle", breaking)
        with pytest.raises(RuntimeError, match="broke"):
            world.run(path)
    paid = journaled(path)
    asked: list[Any] = []
    monkeypatch.setattr("apportion.scheduler.driver.checked", lambda request, reply: asked.append(request) or reply)
    machine = world.run(path)
    assert machine.done
    assert sorted(one.result.index for one in world.committed) == list(range(60))
    # Sixty first replies, sixty second ones and their scores: none of the first were asked for again.
    assert paid == 60
    assert len(asked) == 120
    assert journaled(path) == 180


class Stopping(InlineBackend):
    """Answers all but one prompt, and stops the driver once nothing else is to come."""

    def __init__(self, world: World, slow: int, others: int) -> None:
        super().__init__(world.specs)
        self.slow, self.left = slow, others

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        return self._answer(super().submit(request, affinity), affinity)

    async def _answer(self, reply: Awaitable[Reply], affinity: int) -> Reply:
        if affinity == self.slow:
            while self.left:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            raise KeyError("stopped")
        found = await reply
        self.left -= 1
        return found


def test_in_order_what_came_too_soon_is_kept_and_used_in_its_turn(tmp_path: Path) -> None:
    """The first prompt is slow when the driver stops; nothing that others answered is paid for twice."""
    path = tmp_path / "j.sqlite"
    budget, script = 20_000.0, [Purchase("vote", 2), Purchase("vote", 4)]
    world = World(make_prompts(12), script=script, in_flight=12, ordered=True, budget=budget)

    async def stopped() -> None:
        with Journal(path, {"job": "world"}) as journal:
            driver = Driver(
                world.machine, Stopping(world, 0, 11), journal, list[Committed]().append, lambda: None, True
            )
            with pytest.raises(KeyError):
                await driver.run()

    asyncio.run(stopped())
    assert journaled(path) == 11
    resumed = world.run(path)
    lost = resumed.ledger.lost.tokens
    alone = World(make_prompts(12), script=script, in_flight=12, ordered=True, budget=budget - lost)
    alone.run()
    assert lost > 0.0
    assert [one.result.answer for one in world.committed] == [one.result.answer for one in alone.committed]
    assert [one.result.purchases for one in world.committed] == [one.result.purchases for one in alone.committed]
    assert resumed.ledger.spent == pytest.approx(alone.machine.ledger.spent + lost)


def test_the_collector_is_left_as_it_was() -> None:
    before = gc.get_threshold()
    World(make_prompts(3)).run()
    assert gc.get_threshold() == before
