"""The ledger's law: reserved + spent <= budget, after every call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.costs import Cost, Unit
from apportion.errors import BudgetError
from apportion.scheduler.ledger import Account, Kind, Ledger

ACCOUNT = Account(0, "vote", "small", Kind.GENERATE)
amounts = st.floats(0.0, 200.0, allow_nan=False)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 6), amounts),
        st.tuples(st.just("settle"), st.integers(0, 6), st.floats(0.0, 1.0)),
        st.tuples(st.just("release"), st.integers(0, 6), st.just(0.0)),
    ),
    max_size=60,
)


@given(st.floats(0.0, 500.0), actions)
def test_reserved_plus_spent_never_exceeds_the_budget(budget: float, calls: list[tuple[str, int, float]]) -> None:
    ledger = Ledger(budget, Unit.TOKENS)
    held: dict[int, float] = {}
    spent = 0.0
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
        else:
            assert ledger.release(key) == held.pop(key)
        assert ledger.spent + ledger.reserved <= budget * (1 + 1e-9)
        assert ledger.reserved == pytest.approx(sum(held.values()), abs=1e-6)
        assert ledger.spent == pytest.approx(spent)
        assert ledger.overrun == 0.0


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
