"""The ledger's law: reserved + spent <= budget, after every call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.costs import Cost, Unit
from apportion.errors import BudgetError
from apportion.scheduler.ledger import UNSEEN_SHARE, Account, Kind, Ledger

ACCOUNT = Account(0, "vote", "small", Kind.GENERATE)
amounts = st.floats(0.0, 200.0, allow_nan=False)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 6), amounts),
        st.tuples(st.just("settle"), st.integers(0, 6), st.floats(0.0, 1.0)),
        st.tuples(st.just("release"), st.integers(0, 6), st.just(0.0)),
        st.tuples(st.just("lose"), st.integers(0, 6), st.floats(0.5, 2.0)),
    ),
    max_size=60,
)


@given(st.floats(0.0, 500.0), actions)
def test_reserved_plus_spent_never_exceeds_the_budget(budget: float, calls: list[tuple[str, int, float]]) -> None:
    ledger = Ledger(budget, Unit.TOKENS)
    held: dict[int, float] = {}
    spent = lost = 0.0
    for action, key, amount in calls:
        before = (ledger.spent, ledger.reserved)
        if action == "reserve":
            try:
                ledger.reserve(key, amount)
                held[key] = amount
            except BudgetError:
                assert (ledger.spent, ledger.reserved) == before
        elif key not in held:
            with pytest.raises(BudgetError, match="never reserved"):
                ledger.release(key)
        elif action == "settle":
            cost = held.pop(key) * amount
            spent += cost
            ledger.settle(key, Cost(tokens=cost), ACCOUNT)
        elif action == "lose":
            # The worst case may have changed since it was reserved; the charge keeps within what was.
            most = held.pop(key)
            charged = ledger.lose(key, Cost(tokens=most * amount, flops=7.0), ACCOUNT).tokens
            assert charged <= most * (1 + 1e-12)
            spent += charged
            lost += charged
        else:
            assert ledger.release(key) == held.pop(key)
        assert ledger.spent + ledger.reserved <= budget * (1 + 1e-9)
        assert ledger.reserved == pytest.approx(sum(held.values()), abs=1e-6)
        assert ledger.spent == pytest.approx(spent)
        assert ledger.overrun == 0.0
        assert ledger.lost.tokens == pytest.approx(lost)


def test_lost_work_is_charged_as_such_work_has_cost_on_average() -> None:
    ledger = Ledger(1000.0, Unit.TOKENS)
    for key, cost in (("a", 10.0), ("b", 30.0)):
        ledger.reserve(key, 100.0)
        ledger.settle(key, Cost(tokens=cost), ACCOUNT)
    ledger.reserve("c", 50.0)
    assert ledger.lose("c", Cost(tokens=50.0, flops=500.0), ACCOUNT) == Cost(tokens=10.0, flops=100.0)
    assert (ledger.spent, ledger.reserved, ledger.lost.tokens) == (50.0, 0.0, 10.0)
    assert ledger.by_prompt[0].tokens == 50.0, "whoever caused it pays"
    # Nothing like it was seen yet: a fixed share.
    ledger.reserve("d", 50.0)
    other = Account(1, "vote", "large", Kind.GENERATE)
    assert ledger.lose("d", Cost(tokens=50.0), other).tokens == 50.0 * UNSEEN_SHARE


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.sampled_from(list(Kind)), amounts), max_size=30
    )
)
def test_every_breakdown_adds_up_to_the_total(costs: list[tuple[int, str, Kind, float]]) -> None:
    ledger = Ledger(1e9, Unit.TOKENS)
    for number, (prompt, name, kind, amount) in enumerate(costs):
        ledger.reserve(number, amount)
        cost = Cost(tokens=amount, flops=2 * amount, dollars=amount / 7, samples=1)
        ledger.settle(number, cost, Account(prompt, name, name, kind))
    for breakdown in (ledger.by_arm, ledger.by_model, ledger.by_kind, ledger.by_prompt):
        for unit in Unit:
            assert sum(cost.of(unit) for cost in breakdown.values()) == pytest.approx(ledger.total.of(unit))


def test_time_that_ran_over_its_reservation_is_booked_and_shown() -> None:
    ledger = Ledger(10.0, Unit.GPU_SECONDS)
    ledger.reserve("a", 4.0)
    assert ledger.settle("a", Cost(gpu_seconds=11.0), ACCOUNT) == -7.0
    assert ledger.spent == 11.0
    assert ledger.overrun == pytest.approx(1.0)
    assert ledger.available == 0.0
    with pytest.raises(BudgetError, match="raise the budget"):
        ledger.reserve("b", 0.5)


@pytest.mark.parametrize("amount", [float("nan"), -1.0])
def test_an_amount_that_is_no_amount_is_refused(amount: float) -> None:
    with pytest.raises(BudgetError, match="at least 0"):
        Ledger(10.0, Unit.TOKENS).reserve("a", amount)


def test_what_is_covered_together_is_reserved_one_by_one() -> None:
    bounds = [0.000113, 0.000467, 0.000467, 0.000241]
    over = 0
    for spent in (step * 0.00137 for step in range(200)):
        ledger = Ledger(spent + sum(bounds), Unit.DOLLARS)
        ledger.reserve("before", spent)
        if ledger.covers(sum(bounds)):
            for number, bound in enumerate(bounds):
                over += not ledger.covers(bound)
                ledger.reserve(number, bound)
    assert over, "no sum here depends on the order of adding"
