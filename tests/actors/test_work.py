"""Who is suspected after a replica died, and who may run beside whom then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest
from actor_world import conversation, fake
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.line import Line
from apportion.actors.member import Member
from apportion.actors.replica import Outcome, Refused
from apportion.actors.work import DEATHS_ALONE, PARTS, Suspicion, Work, accuse, fits
from apportion.types import Generate, Sampling

_LOOP = asyncio.new_event_loop()
_NUMBERS = count()


def work(suspicion: Suspicion | None = None, deaths: int = 0) -> Work:
    request = Generate("policy", conversation("x"), (1,), Sampling())
    return Work(next(_NUMBERS), request, 0, 1, 1, _LOOP.create_future(), deaths, suspicion)


def works(number: int, suspicion: Suspicion | None = None) -> list[Work]:
    return [work(suspicion) for _ in range(number)]


@pytest.mark.parametrize(("there", "company"), [(1, 1), (PARTS, 1), (PARTS + 1, 2), (64 * PARTS, 64)])
def test_at_first_all_are_suspects_and_a_part_of_them_runs_at_once(there: int, company: int) -> None:
    orphans = works(there)
    assert accuse(orphans, apart=False) == set()
    (suspicion,) = {work.suspicion for work in orphans}
    assert suspicion is not None
    assert (suspicion.company, suspicion.apart) == (company, False)
    assert {work.deaths for work in orphans} == {1}


def test_those_who_were_suspects_before_are_and_the_others_beside_them_are_not() -> None:
    before = Suspicion(4, apart=False)
    suspects, others = works(3, before), works(20)
    assert accuse([*others, *suspects], apart=False) == {before}
    assert {work.deaths for work in others} == {0}
    assert {work.suspicion for work in others} == {None}
    assert all(work.alone for work in suspects)


@pytest.mark.parametrize(
    ("running", "may"),
    [
        ([], True),
        ([True] * 3, True),
        ([True] * 4, False),
        ([False], False),
        ([True, False], False),
    ],
)
def test_those_to_be_apart_run_in_company_of_their_like(running: list[bool], may: bool) -> None:
    shared = Suspicion(4, apart=True)
    assert fits(work(shared), [work(shared if apart else None) for apart in running]) is may


def test_a_small_company_is_kept_small_by_others_too() -> None:
    assert not fits(work(Suspicion(4, apart=True)), [work(Suspicion(1, apart=True))])


class Replicas:
    """Replicas that are up and run what they are given, and a line before them."""

    now = 0.0

    def __init__(self, replicas: int, max_batch: int = 8) -> None:
        self.line = Line(max_batch)
        self.members = [Member(index, fake(), {}, self) for index in range(replicas)]
        for member in self.members:
            member.alive = True
            member._flush_soon = lambda: None  # type: ignore[method-assign]

    def answered(self, member: Member, work: Work, outcome: Outcome) -> None:
        raise AssertionError("no actor runs")

    def failed(self, member: Member, failures: Sequence[tuple[Work, Refused]]) -> None:
        raise AssertionError("no actor runs")

    def died(self, member: Member, orphans: list[Work], cause: str) -> None:
        raise AssertionError("no actor runs")

    def give_out(self) -> list[list[Work]]:
        """What each replica runs then."""
        self.line.give_out(self.members)
        return [list(member.running.values()) for member in self.members]

    def die(self, index: int) -> list[Work]:
        """A replica is gone, and up again with nothing to do; what it ran."""
        orphans = self.members[index].retire()
        self.members[index].alive = True
        self.line.acquit(accuse(orphans, apart=False))
        return orphans


def test_suspects_run_beside_others_a_part_on_each_replica() -> None:
    pool = Replicas(2)
    suspects = works(32)
    accuse(suspects, apart=False)
    pool.line.rejoin(suspects)
    for fresh in works(100):
        pool.line.join(fresh)
    for running in pool.give_out():
        assert len(running) == 16, "as many as it may hold"
        assert sum(work.suspicion is not None for work in running) == 4


def test_those_to_be_apart_wait_for_an_empty_replica_and_the_other_goes_on() -> None:
    pool = Replicas(2)
    for fresh in works(40):
        pool.line.join(fresh)
    first, second = pool.give_out()
    guilty = works(2, Suspicion(1, apart=True))
    pool.line.rejoin(guilty)
    for done in first:
        pool.members[0].drop(done)
    assert pool.give_out()[0] == [guilty[0]], "one of them, and nothing else"
    pool.members[1].drop(second[0])
    assert len(pool.give_out()[1]) == 16
    pool.members[0].drop(guilty[0])
    assert pool.give_out()[0] == [guilty[1]]
    pool.members[0].drop(guilty[1])
    assert len(pool.give_out()[0]) > 1, "it is no ward any more"


def test_one_replica_is_enough_for_those_to_be_apart() -> None:
    pool = Replicas(3)
    pool.line.rejoin(works(4, Suspicion(1, apart=True)))
    for fresh in works(100):
        pool.line.join(fresh)
    assert [len(running) for running in pool.give_out()] == [1, 16, 16]


def test_those_to_be_apart_go_to_a_replica_that_is_empty_before_the_one_that_is_kept_for_them() -> None:
    pool = Replicas(2)
    pool.members[1].alive = False
    for fresh in works(16):
        pool.line.join(fresh)
    pool.give_out()
    pool.line.rejoin(works(1, Suspicion(1, apart=True)))
    assert [len(running) for running in pool.give_out()] == [16, 0], "it runs empty"
    pool.members[1].alive = True
    assert [len(running) for running in pool.give_out()] == [16, 1]


def test_who_is_acquitted_goes_first_and_is_no_suspect() -> None:
    pool = Replicas(1)
    suspects = works(64)
    accuse(suspects, apart=False)
    pool.line.rejoin(suspects)
    (running,) = pool.give_out()
    assert running == suspects[:8]
    assert pool.die(0) == running
    assert {(work.suspicion, work.deaths) for work in suspects[8:]} == {(None, 0)}
    pool.line.rejoin(running)
    assert pool.give_out() == [[running[0]]]
    assert len(pool.line) == 63


@given(st.integers(1, PARTS**3), st.data())
def test_one_request_that_kills_is_found_by_its_fourth_death_and_costs_nobody_else(
    there: int, data: st.DataObject
) -> None:
    pool = Replicas(1, max_batch=300)
    everyone = works(there)
    guilty = everyone[data.draw(st.integers(0, there - 1))]
    for one in everyone:
        pool.line.join(one)
    answered, deaths = 0, 0
    while len(pool.line) or pool.members[0].running:
        (running,) = pool.give_out()
        if guilty not in running:
            answered += len(running)
            for done in running:
                pool.members[0].drop(done)
            continue
        deaths += 1
        orphans = pool.die(0)
        if orphans == [guilty] and guilty.deaths >= DEATHS_ALONE:
            break
        pool.line.rejoin(orphans)
    else:
        pytest.fail("it was never found")
    assert deaths <= 2 + (there > PARTS) + (there > PARTS**2)
    while len(pool.line):
        (running,) = pool.give_out()
        answered += len(running)
        for done in running:
            pool.members[0].drop(done)
    assert answered == there - 1
