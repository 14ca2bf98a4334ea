"""Requests in flight: what was lost is sent again wherever the budget covers it, else it holds nothing."""

from __future__ import annotations

import pytest

from apportion.actors.fake import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.scheduler.events import Failed, Lost, RequestId
from apportion.scheduler.flight import Flight
from apportion.scheduler.ledger import UNSEEN_SHARE, Ledger
from apportion.scheduler.meter import Meter
from apportion.types import Message, Score

NAME = RequestId(0, 0, 0, 0)
SCORE = Score("prm", (Message("user", "question"),), (("several words are one token each",) * 20,))


def begun(budget_of_exact: float) -> tuple[Flight, Ledger]:
    """One score in flight, reserved at its exact worst case, of which the budget is a multiple."""
    meter = Meter({"prm": describe(ModelSpec("prm", "fake", Role.SCORER, "fake"))})
    exact, quick = (meter.bound(SCORE, exact).tokens for exact in (True, False))
    assert exact * (budget_of_exact - UNSEEN_SHARE) < quick, "only the exact bound fits what is left"
    ledger = Ledger(exact * budget_of_exact, Unit.TOKENS)
    flight = Flight(ledger, meter)
    flight.begin(NAME, SCORE, "best", exact)
    return flight, ledger


def test_lost_work_is_done_again_where_the_budget_covers_it_by_exact_count() -> None:
    flight, ledger = begun(2.0)
    flight.lose(Lost(NAME, 1, "its replica died"))
    assert flight.pays(NAME)
    assert ledger.reserved == pytest.approx(ledger.budget / 2.0)
    assert ledger.spent + ledger.reserved <= ledger.budget


def test_lost_work_that_the_budget_does_not_cover_again_holds_nothing() -> None:
    flight, ledger = begun(1.2)
    flight.lose(Lost(NAME, 1, "its replica died"))
    assert not flight.pays(NAME)
    assert ledger.reserved == 0.0
    assert flight.end(Failed(NAME, "the budget does not cover it")) is None
    assert not flight
