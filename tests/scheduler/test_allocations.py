"""Every allocation policy keeps the rules, on every kind of pool, alone and through the machine of a real job."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import KINDS, job, objective, pool, select

from apportion.difficulty.fit import fit
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Forecast, Offer, Rest
from apportion.scheduler.allocations import ALLOCATIONS, build_allocation
from apportion.scheduler.conformance import check_allocation
from apportion.scheduler.curves import truth_of
from apportion.scheduler.frontier import replay
from apportion.types import Purchase

BASELINES = ("asc", "binned", "blend_asc", "damani", "elimination", "esc", "oracle", "uniform")
PROMPTS = 12


@cache
def taught(kind):
    """A policy fitted on other prompts of the same kind, and the truth of the prompts that are played."""
    return fit([pool(kind, 50, size=8, seed=1)]), truth_of(pool(kind, PROMPTS), objective(kind), select(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(ALLOCATIONS))
def test_every_policy_keeps_the_rules_on_every_kind_of_pool(name, kind):
    fitted, truth = taught(kind)
    problem, deal = job(pool(kind, PROMPTS), kind, 48.0)
    trail = check_allocation(lambda given: build_allocation(name, {}, given, 2, fitted, truth), problem, deal)
    assert 0.0 < trail.spent <= 48.0


@given(name=st.sampled_from(BASELINES), kind=st.sampled_from(KINDS), budget=st.floats(1.0, 5000.0))
@settings(max_examples=40)
def test_baselines_keep_the_rules_at_any_budget_in_tokens(name, kind, budget):
    fitted, truth = taught(kind)
    problem, deal = job(pool(kind, PROMPTS), kind, budget, "tokens")
    trail = check_allocation(lambda given: build_allocation(name, {}, given, 4, fitted, truth), problem, deal)
    assert trail.spent <= budget * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BASELINES)
def test_the_machine_of_a_real_job_never_goes_over_the_budget(name, kind):
    fitted = "cross" if name in ("binned", "damani") else "none"
    budgets = (5.0, 40.0, 200.0)
    found = replay(pool(kind, 24), ["small", "large"], name, budgets, 2, fit=fitted, objective=objective(kind))
    assert (found.costs.mean(axis=1) <= np.array(budgets)).all()
    assert found.values.mean(axis=1)[0] <= found.values.mean(axis=1)[-1]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("other arm", "no arm of the job"),
        ("too many", "there are 16"),
        ("too dear", "where 100.0 is left"),
        ("wakes up", "had stopped"),
        ("fickle", "asked twice"),
        ("boasts", "no interval"),
    ],
)
def test_the_conformance_suite_names_what_a_policy_breaks(broken, why):
    class Broken:
        price = 0.0

        def __init__(self):
            self.asked = 0

        def offer(self, prompt, most):
            self.asked += 1
            if broken == "wakes up":
                return Rest.STOP if self.asked <= 2 * 24 else self.one(1)
            if broken == "fickle":
                return self.one(1 + self.asked % 2)
            if broken == "too dear":
                return Offer(Purchase("small", 1), 1.0, 1000.0)
            return self.one(17 if broken == "too many" else 1)

        def one(self, n):
            return Offer(Purchase("tiny" if broken == "other arm" else "small", n), 1.0, 1.0)

        def observe(self, prompt, purchase, candidates, cost):
            pass

        def reprice(self, available):
            pass

        def difficulty(self, prompt):
            return 0.5

        def forecast(self, budgets):
            return tuple(Forecast(b, b, 0.5, 0.6, 0.7) for b in budgets) if broken == "boasts" else ()

    problem, deal = job(pool("voting"), "voting", 100.0)
    with pytest.raises(AssertionError, match=why):
        check_allocation(lambda given: Broken(), problem, deal)


@pytest.mark.parametrize("name", ["binned", "damani"])
def test_policies_that_learn_from_labels_ask_for_them(name):
    problem, _ = job(pool("voting"), "voting", 10.0)
    with pytest.raises(ConfigError, match=r"learns from labels.*apportion fit POOL"):
        build_allocation(name, {}, problem, 2)


def test_the_oracle_runs_in_replays_alone():
    problem, _ = job(pool("voting"), "voting", 10.0)
    with pytest.raises(ConfigError, match="apportion replay"):
        build_allocation("oracle", {}, problem, 2)
    with pytest.raises(ConfigError, match="no true curve of the arms large"):
        build_allocation("oracle", {}, problem, 2, None, truth_of(pool("voting").only(["small"])))
