"""The job machine: whatever is answered, in whatever order, its books balance and each prompt is committed once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_world import ScriptedAllocation, World, make_prompts

from apportion.actors.fake import build_engine, build_scorer
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.errors import JournalError
from apportion.scheduler.allocation import Offer, Problem, Rest
from apportion.scheduler.events import Commit, Dispatch, Event, Failed, Granted, Instruction, Lost, Replied, RequestId
from apportion.scheduler.machine import Machine
from apportion.types import Generate, Purchase, Reply, Request, Usage

ENGINE = build_engine(ModelSpec("small", "fake", Role.POLICY, "fake"))
SCORER = build_scorer(ModelSpec("prm", "fake", Role.SCORER, "fake"))


def answer(request: Request) -> Reply:
    if isinstance(request, Generate):
        return asyncio.run(ENGINE.generate(request))
    return asyncio.run(SCORER.score(request))


@dataclass
class Run:
    """One machine answered by hand. `order` picks which request in flight is answered next."""

    machine: Machine
    order: random.Random
    failing: float = 0.0
    losing: float = 0.0
    events: list[Event] = field(default_factory=list)
    trail: list[Instruction] = field(default_factory=list)
    flying: dict[RequestId, Dispatch] = field(default_factory=dict)

    def take(self, instructions: list[Instruction]) -> None:
        self.trail += instructions
        for instruction in instructions:
            if isinstance(instruction, Dispatch):
                assert instruction.id not in self.flying
                self.flying[instruction.id] = instruction

    def step(self) -> None:
        name = self.order.choice(sorted(self.flying, key=str))
        if self.order.random() < self.losing and self.lose(name):
            return
        request = self.flying.pop(name).request
        failed = self.order.random() < self.failing
        event: Event = Failed(name, "boom") if failed else Replied(name, answer(request))
        self.events.append(event)
        self.take(self.machine.handle(event))

    def lose(self, name: RequestId) -> bool:
        """Lose what was done of a request; whether it is sent again. Where not, it fails, as the driver has it."""
        losses = sum(isinstance(event, Lost) and event.request == name for event in self.events)
        self.events.append(Lost(name, losses + 1, "its replica died"))
        self.take(self.machine.handle(self.events[-1]))
        if self.machine.flight.pays(name):
            return True
        del self.flying[name]
        self.events.append(Failed(name, "the budget does not cover it"))
        self.take(self.machine.handle(self.events[-1]))
        return True

    def finish(self) -> None:
        self.take(self.machine.start())
        while self.flying:
            self.machine.audit()
            assert (self.machine.running > 0) == bool(self.flying)
            self.step()
        self.machine.audit()


def cost_of_reply(machine: Machine, run: Run, event: Replied) -> float:
    """What one reply cost, without the ledger."""
    (request,) = [i.request for i in run.trail if isinstance(i, Dispatch) and i.id == event.request]
    return machine.meter.cost(request, event.reply.usage).of(machine.ledger.unit)


scripts = st.lists(
    st.sampled_from([Purchase("vote", 2), Purchase("vote", 4), Purchase("best", 4), Purchase("beam", 4)]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40)
@given(
    script=scripts,
    budget=st.floats(50, 20_000),
    unit=st.sampled_from([Unit.TOKENS, Unit.FLOPS, Unit.SAMPLES, Unit.GPU_SECONDS]),
    in_flight=st.integers(1, 9),
    seed=st.integers(0, 999),
    failing=st.sampled_from([0.0, 0.1]),
    losing=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_books_balance_and_every_prompt_is_committed_once(
    script: list[Purchase], budget: float, unit: Unit, in_flight: int, seed: int, failing: float, losing: float
) -> None:
    amount = {Unit.FLOPS: budget * 2e6, Unit.SAMPLES: budget / 100, Unit.GPU_SECONDS: budget * 1e-5}.get(unit, budget)
    world = World(make_prompts(12), amount, unit, script, in_flight)
    run = Run(world.machine, random.Random(seed), failing, losing)
    run.finish()
    machine = run.machine
    assert machine.done
    assert machine.ledger.reserved == 0.0
    assert machine.ledger.spent <= amount
    replied = sum(cost_of_reply(machine, run, event) for event in run.events if isinstance(event, Replied))
    assert machine.ledger.spent == pytest.approx(replied + machine.ledger.lost.of(unit))
    assert machine.ledger.excess == pytest.approx(0.0, abs=1e-6 * amount), "the fake keeps to its worst case"
    assert (machine.ledger.lost.tokens > 0) == any(isinstance(event, Lost) for event in run.events)
    commits = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert Counter(c.result.index for c in commits) == dict.fromkeys(range(12), 1)
    assert machine.answered == sum(c.result.answer is not None for c in commits)
    assert sum(c.result.spent.of(unit) for c in commits) == pytest.approx(machine.ledger.spent)
    for committed in commits:
        assert [c.index for c in committed.candidates] == list(range(committed.result.candidates))
        if committed.result.error is None:
            assert committed.result.reason in {"settled", "price", "budget"}


@settings(max_examples=15)
@given(script=scripts, seed=st.integers(0, 999), cut=st.floats(0.0, 1.0))
def test_replaying_the_events_gives_the_same_instructions(script: list[Purchase], seed: int, cut: float) -> None:
    world = World(make_prompts(8), 9_000, script=script, in_flight=4)
    first = Run(world.machine, random.Random(seed), 0.05, 0.1)
    first.finish()
    second = Run(world.build(), random.Random(0))
    second.take(second.machine.start())
    for event in first.events[: int(cut * len(first.events))]:
        if not isinstance(event, Lost):
            second.flying.pop(event.request)
        second.take(second.machine.handle(event))
    assert second.trail == first.trail[: len(second.trail)]


def test_purchases_accumulate_and_later_ones_draw_other_samples() -> None:
    world = World(make_prompts(1), script=[Purchase("vote", 2), Purchase("vote", 2)])
    split = Run(world.machine, random.Random(0))
    split.finish()
    whole = Run(World(make_prompts(1), script=[Purchase("vote", 4)]).machine, random.Random(0))
    whole.finish()

    def texts(run: Run) -> list[str]:
        (commit,) = [i for i in run.trail if isinstance(i, Commit)]
        return [candidate.draft.text for candidate in commit.committed.candidates]

    assert texts(split) == texts(whole)


def test_the_highest_ratio_goes_first_and_ties_go_in_order() -> None:
    world = World(make_prompts(3), script=[Purchase("vote", 2), Purchase("vote", 2)], in_flight=1)
    run = Run(world.machine, random.Random(0))
    run.finish()
    granted = [(i.prompt, i.number) for i in run.trail if isinstance(i, Granted)]
    # A first purchase gains 1, a second half of that: every prompt is looked at before any is bought again.
    assert [prompt for prompt, number in granted if number == 0] == [0, 1, 2]
    assert [number for _, number in granted] == [0, 0, 0, 1, 1, 1]


def test_a_failed_prompt_keeps_what_it_had_and_says_why() -> None:
    world = World(make_prompts(1), script=[Purchase("vote", 4), Purchase("best", 4)])
    run = Run(world.machine, random.Random(0))
    run.take(run.machine.start())
    run.step()
    (name,) = run.flying
    run.flying.clear()
    run.take(run.machine.handle(Failed(name, "the engine refused")))
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert commit.result.error == "the engine refused"
    assert commit.result.candidates == 4
    assert commit.result.answer is not None
    assert run.machine.ledger.reserved == 0.0


def test_failed_work_that_cost_something_is_charged_to_its_prompt() -> None:
    world = World(make_prompts(1), script=[Purchase("vote", 4)])
    run = Run(world.machine, random.Random(0))
    run.take(run.machine.start())
    (name,) = run.flying
    run.flying.clear()
    run.take(run.machine.handle(Failed(name, "lost on the way", Usage(30, 12, 500))))
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert commit.result.error == "lost on the way"
    assert commit.result.spent.tokens == run.machine.ledger.spent == 42
    assert run.machine.ledger.reserved == 0.0
    assert run.machine.ledger.by_arm["vote"].samples == 4


def test_work_the_budget_does_not_cover_again_ends_its_purchase_and_is_no_fault_of_the_prompt() -> None:
    unbounded = World(make_prompts(1), script=[Purchase("vote", 4)])
    (dispatch,) = [i for i in unbounded.machine.start() if isinstance(i, Dispatch)]
    bound = unbounded.machine.meter.bound(dispatch.request).tokens
    world = World(make_prompts(1), budget=1.2 * bound, script=[Purchase("vote", 4)])
    run = Run(world.machine, random.Random(0))
    run.take(run.machine.start())
    (name,) = run.flying
    run.lose(name)
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert (commit.result.reason, commit.result.error) == ("budget", None)
    assert 0 < run.machine.ledger.spent == commit.result.spent.tokens <= 1.2 * bound


@pytest.mark.parametrize("unit", [Unit.TOKENS, Unit.GPU_SECONDS])
def test_an_engine_that_reports_more_than_its_worst_case_overruns_the_books_and_the_job_ends_as_any_other(
    unit: Unit,
) -> None:
    world = World(make_prompts(3), 1e4, unit, [Purchase("vote", 2), Purchase("vote", 2)], in_flight=2)
    run = Run(world.machine, random.Random(0))
    run.take(run.machine.start())
    first, second = sorted(run.flying, key=str)
    reply = replace(answer(run.flying.pop(first).request), usage=Usage(20_000, busy_seconds=20_000.0))
    run.take(run.machine.handle(Replied(first, reply)))
    run.lose(second)
    while run.flying:
        run.machine.audit()
        run.step()
    run.machine.audit()
    assert run.machine.done
    assert run.machine.ledger.overrun >= 1e4
    commits = [i.committed.result for i in run.trail if isinstance(i, Commit)]
    assert sum(one.spent.of(unit) for one in commits) == pytest.approx(run.machine.ledger.spent)
    assert not any(one.error for one in commits)


def test_what_was_drawn_survives_a_verifier_that_fails() -> None:
    world = World(make_prompts(1), script=[Purchase("best", 4)])
    run = Run(world.machine, random.Random(0))
    run.take(run.machine.start())
    run.step()
    ((name, dispatch),) = run.flying.items()
    assert not isinstance(dispatch.request, Generate)
    run.flying.clear()
    run.take(run.machine.handle(Failed(name, "the scorer refused")))
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert commit.result.error == "the scorer refused"
    assert commit.result.candidates == 4
    assert all(candidate.score is None for candidate in commit.candidates)


def test_a_search_the_budget_cannot_finish_is_cut_off_and_its_work_is_charged() -> None:
    unbounded = World(make_prompts(1), script=[Purchase("beam", 4)])
    offer = unbounded.allocation.offer(0, 1e9)
    assert isinstance(offer, Offer)
    world = World(make_prompts(1), budget=offer.cost, script=[Purchase("beam", 4)])
    run = Run(world.machine, random.Random(0))
    run.finish()
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert 0 < run.machine.ledger.spent <= offer.cost
    assert commit.result.spent.tokens == run.machine.ledger.spent
    assert 0 < commit.result.candidates <= 4


def test_an_answer_nobody_asked_for_is_refused() -> None:
    world = World(make_prompts(1))
    world.machine.start()
    with pytest.raises(JournalError, match="not in flight"):
        world.machine.handle(Failed(RequestId(0, 7, 0, 0), "?"))


def test_a_step_that_fits_only_when_its_tokens_are_counted_is_sent() -> None:
    unbounded = World(make_prompts(1), script=[Purchase("best", 8)], max_tokens=24)
    run = Run(unbounded.machine, random.Random(0))
    run.take(run.machine.start())
    (first,) = run.flying.values()
    run.step()
    (second,) = run.flying.values()
    meter, spent = run.machine.meter, run.machine.ledger.spent
    counted, loose = (meter.bound(second.request, exact).tokens for exact in (True, False))
    budget = max(meter.bound(first.request).tokens, spent + counted)
    assert budget < spent + loose
    world = World(make_prompts(1), budget=budget, script=[Purchase("best", 8)], max_tokens=24)
    run = Run(world.machine, random.Random(0))
    run.finish()
    (commit,) = [i.committed for i in run.trail if isinstance(i, Commit)]
    assert all(candidate.score is not None for candidate in commit.candidates)


class Restless(ScriptedAllocation):
    """Its price falls by half and returns, again and again, and after the script nothing is sold at either."""

    closed: list[int]

    def __init__(self, problem: Problem, script: Sequence[Purchase]) -> None:
        super().__init__(problem, script)
        self.price = 1.0
        self.closed = []

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        found = super().offer(prompt, most)
        return Rest.WAIT if found is Rest.STOP else found

    def reprice(self, available: float) -> None:
        self.price = 0.5 if self.price == 1.0 else 1.0

    def close(self, prompt: int) -> None:
        self.closed.append(prompt)


def test_a_price_that_falls_and_sells_nothing_does_not_keep_a_job_alive() -> None:
    script = [Purchase("vote", 2)]
    world = World(make_prompts(4), script=script, allocate=lambda problem: Restless(problem, script))
    run = Run(world.machine, random.Random(0))
    run.finish()
    commits = [i.committed.result for i in run.trail if isinstance(i, Commit)]
    assert [result.reason for result in commits] == ["price"] * 4
    # The policy is told of every prompt that is out, once.
    assert sorted(world.allocation.closed) == [0, 1, 2, 3]
