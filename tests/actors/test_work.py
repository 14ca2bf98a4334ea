"""Who may run beside whom after a replica died."""

from __future__ import annotations

import asyncio

import pytest
from actor_world import conversation

from apportion.actors.work import Work, company, fits
from apportion.types import Generate, Sampling


def seen(*deaths: int) -> list[Work]:
    loop = asyncio.new_event_loop()
    request = Generate("policy", conversation("x"), (1,), Sampling())
    works = [Work(number, request, 0, 1, loop.create_future(), count) for number, count in enumerate(deaths)]
    loop.close()
    return works


def test_company_shrinks_to_none() -> None:
    assert [company(deaths) for deaths in range(6)] == [None, None, 16, 1, 1, 1]


@pytest.mark.parametrize(
    ("deaths", "running", "may"),
    [
        (0, [0] * 500, True),
        (1, [0, 1] * 250, True),
        (2, [2] * 15, True),
        (2, [2] * 16, False),
        (2, [3], False),
        (3, [], True),
        (3, [0], False),
        (0, [3], False),
    ],
)
def test_fits(deaths: int, running: list[int], may: bool) -> None:
    work, *others = seen(deaths, *running)
    assert fits(work, others) is may
