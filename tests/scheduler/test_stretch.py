"""Hulls between two prices, and the plan of very many prompts: the same as with every hull in hand."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.scheduler import knapsack
from apportion.scheduler.hull import hulls
from apportion.scheduler.knapsack import plan, plan_from
from apportion.scheduler.stretch import processors, stretch

# Few distinct values, so that equal costs, equal gains and points on a chord are common.
costs = st.sampled_from([1.0, 2.0, 3.0, 4.0, 6.0, np.inf])
gains = st.sampled_from([-0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.8, 1.0])
prices = st.sampled_from([0.0, 0.03, 0.07, 0.15, 0.22, 0.41])


@st.composite
def tables(draw):
    prompts, options = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    cost = [[draw(costs) for _ in range(options)] for _ in range(prompts)]
    gain = [[draw(gains) for _ in range(options)] for _ in range(prompts)]
    return np.array(cost), np.array(gain)


def of(cost, gain):
    return lambda begin, end: (cost[begin:end], gain[begin:end])


@given(tables(), prices, st.one_of(prices, st.just(np.inf)))
def test_a_stretch_is_the_part_of_the_hulls_between_its_prices(table, low, high):
    cost, gain = table
    low, high = min(low, high), max(low, high) + 0.001
    whole, found = hulls(cost, gain), stretch(of(cost, gain), len(cost), low, high)
    above = whole.ratio > high
    inside = (whole.ratio > low) & ~above
    assert found.cost == pytest.approx(whole.cost[above].sum())
    assert found.gain == pytest.approx(whole.gain[above].sum())
    assert found.steps.prompt.tolist() == whole.prompt[inside].tolist()
    assert found.steps.cost == pytest.approx(whole.cost[inside])
    assert found.steps.gain == pytest.approx(whole.gain[inside])
    for row, option in enumerate(found.options):
        mine = above & (whole.prompt == row)
        assert (gain[row, option] if option >= 0 else 0.0) == pytest.approx(whole.gain[mine].sum())


@given(tables())
def test_the_option_named_by_a_step_has_the_cost_and_gain_of_the_steps_so_far(table):
    cost, gain = table
    steps = stretch(of(cost, gain), len(cost), 0.0, np.inf).steps
    for row in range(len(cost)):
        mine = steps.prompt == row
        taken = steps.option[mine]
        assert cost[row, taken] == pytest.approx(np.cumsum(steps.cost[mine]))
        assert gain[row, taken] == pytest.approx(np.cumsum(steps.gain[mine]))


@pytest.fixture
def _small_sample(monkeypatch):
    """The ways of very many prompts, for few."""
    monkeypatch.setattr(knapsack, "MOST_AT_ONCE", 64)
    monkeypatch.setattr(knapsack, "BLOCKS", 8)
    monkeypatch.setattr(knapsack, "BLOCK", 4)


def random_table(seed, prompts=2000, options=9, kind="mixed"):
    rng = np.random.default_rng(seed)
    cost = np.cumsum(rng.uniform(0.5, 3.0, (prompts, options)), axis=1)
    gain = np.sort(rng.uniform(0, 1, (prompts, options)), axis=1)
    if kind == "alike":
        cost, gain = np.repeat(cost[:1], prompts, axis=0), np.repeat(gain[:1], prompts, axis=0)
    if kind == "sorted":
        gain *= np.linspace(0.0, 1.0, prompts)[:, None] ** 4
    if kind == "rare":
        gain[rng.random(prompts) < 0.995] = 0.0
    if kind == "integers":
        cost, gain = np.ceil(cost), np.round(gain, 1)
    order = rng.permutation(options)
    return cost[:, order], gain[:, order]


@pytest.mark.usefixtures("_small_sample")
@pytest.mark.parametrize("kind", ["mixed", "alike", "sorted", "rare", "integers"])
@pytest.mark.parametrize("each", [0.0, 0.0004, 0.3, 2.0, 9.0, 1e4, np.inf])
def test_the_plan_from_parts_has_the_price_bound_and_value_of_the_whole(kind, each):
    cost, gain = random_table(5, kind=kind)
    budget = each * len(cost)
    lean = plan_from(of(cost, gain), len(cost), budget)
    knapsack.MOST_AT_ONCE = len(cost)
    whole = plan(cost, gain, budget)
    assert lean.price == pytest.approx(whole.price, rel=1e-9)
    assert lean.value + lean.gap == pytest.approx(whole.value + whole.gap, rel=1e-9)
    # Filling what is left may take other small steps.
    assert lean.value == pytest.approx(whole.value, abs=gain.max() + 1e-9)
    bought = np.flatnonzero(lean.options >= 0)
    assert cost[bought, lean.options[bought]].sum() == pytest.approx(lean.cost)
    assert gain[bought, lean.options[bought]].sum() == pytest.approx(lean.value)
    assert lean.cost <= budget * (1 + 1e-12)
    assert lean.gap <= gain.max()


@pytest.mark.usefixtures("_small_sample")
@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.01, 12.0))
def test_a_misleading_sample_costs_another_look_and_nothing_else(seed, each):
    cost, gain = random_table(seed, prompts=300, options=5)
    seen = np.random.default_rng(seed).random(300) < 0.5

    def source(begin, end):
        # What the sample is shown is worthless, or far better than the rest.
        skew = np.where(seen[begin:end], 0.01, 100.0)[:, None] if end - begin <= 4 else 1.0
        return cost[begin:end], gain[begin:end] * skew

    lean = plan_from(source, 300, each * 300)
    steps = hulls(cost, gain)
    price = knapsack.price_for(steps.ratio, steps.cost, each * 300)
    assert lean.price == pytest.approx(price)
    assert lean.cost <= each * 300 + 1e-9


@pytest.mark.usefixtures("_small_sample")
def test_single_precision_and_tables_of_one_row_for_all():
    cost, gain = random_table(7)
    one = cost[:1].astype(np.float32)

    def source(begin, end):
        return one, gain[begin:end].astype(np.float32)

    found = plan_from(source, len(cost), 4000.0)
    same = plan(np.repeat(one, len(cost), axis=0), gain.astype(np.float32), 4000.0)
    assert found.value == same.value
    assert found.cost <= 4000.0
    assert found.gap < 1.0


@pytest.mark.usefixtures("_small_sample")
def test_the_number_of_threads_changes_nothing(monkeypatch):
    from apportion.scheduler import stretch as module

    monkeypatch.setattr(module, "CHUNK", 100)
    cost, gain = random_table(11)
    monkeypatch.setattr(module, "MOST_THREADS", 1)
    alone = plan_from(of(cost, gain), len(cost), 5000.0)
    monkeypatch.setattr(module, "MOST_THREADS", 8)
    together = plan_from(of(cost, gain), len(cost), 5000.0)
    assert (alone.price, alone.cost, alone.value, alone.gap) == (
        together.price,
        together.cost,
        together.value,
        together.gap,
    )
    assert (alone.options == together.options).all()


def test_a_source_that_fails_is_not_hidden():
    def source(begin, end):
        raise OSError(f"rows {begin} to {end} cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        plan_from(source, 100, 1.0)


def test_processors_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert processors() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processors() == 64
