"""Damani et al.: samples by what the text foretells, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pooled import job, pool
from simulated import World, arm, play, problem

from apportion.difficulty.fit import fit
from apportion.difficulty.grid import PASS, shifted
from apportion.errors import ConfigError
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.conformance import check_allocation
from apportion.scheduler.labels import stretched


def test_with_a_checkable_reward_it_is_the_greedy_heap_on_predicted_rates():
    """Each sample goes where p (1 - p)^b is highest, for the mean over what the text leaves open of p."""
    made = pool("checkable", 120, seed=3)
    fitted = fit([pool("checkable", 300, size=8, seed=4)])
    assert fitted.text is not None
    limited, deal = job(made, "checkable", 500.0)
    trail = check_allocation(lambda one: build_allocation("damani", {}, one, 2, fitted), limited, deal)
    bought = np.bincount([p for p, _ in trail.purchases], [one.n for _, one in trail.purchases], minlength=120)
    chances = fitted.text.factor(made.texts) * np.array(fitted.prior).sum(axis=1)
    chances = shifted(chances / chances.sum(axis=1, keepdims=True), fitted.arms["small"].lift)
    heap = np.zeros(120)
    for _ in range(500):
        gain = np.array([chances[p] @ (PASS * (1 - PASS) ** heap[p]) for p in range(120)])
        gain[heap >= 16] = 0.0
        heap[gain.argmax()] += 1
    worth = [sum(chances[p] @ (1 - (1 - PASS) ** n[p]) for p in range(120)) for n in (bought, heap)]
    assert bought.sum() == pytest.approx(500, abs=1)
    assert worth[0] == pytest.approx(worth[1], abs=0.05)
    assert np.abs(bought - heap).max() <= 1


def test_votes_follow_the_learned_curve_of_the_pass_rate():
    fitted = fit([pool("voting", 300, size=16, seed=4)])
    texts = ["easy question 1"] * 20 + ["odd question 2"] * 20 + ["impossible question 3"] * 20
    small = arm("small", policy="small")
    policy = build_allocation("damani", {}, problem(60, 240.0, small, texts=texts), 2, fitted)
    rates = [policy.difficulty(prompt) for prompt in (0, 20, 40)]
    assert rates == sorted(rates, reverse=True)
    played = play(policy, World.of(np.repeat([0.95, 0.5, 0.05], 20)), 240.0)
    easy, odd, _ = (played.costs[begin : begin + 20].mean() for begin in (0, 20, 40))
    assert odd > easy
    assert 236.0 <= played.spent <= 240.0


def test_where_texts_tell_nothing_all_prompts_are_alike():
    fitted = replace(fit([pool("voting", 60, size=16, seed=4)]), text=None)
    policy = build_allocation("damani", {}, problem(10, 30.0, arm("small"), texts=["a", "b"] * 5), 2, fitted)
    played = play(policy, World.of(np.full(10, 0.5)), 30.0)
    assert len({policy.difficulty(prompt) for prompt in range(10)}) == 1
    assert 28.0 <= played.spent <= 30.0


def test_without_texts_or_a_curve_it_says_what_to_do():
    fitted = fit([pool("voting", 60, size=4, seed=4)])
    with pytest.raises(ConfigError, match=r"texts, and these prompts have none"):
        build_allocation("damani", {}, problem(10, 30.0, arm("small"), texts=[""] * 10), 2, fitted)
    both = problem(2, 30.0, arm("small"), arm("other", policy="unknown"))
    with pytest.raises(ConfigError, match=r"no curve of arm 'other'.*large, small"):
        build_allocation("damani", {"arm": "other"}, both, 2, fitted)
    with pytest.raises(ConfigError, match="needs the table of a pool"):
        build_allocation("damani", {}, problem(2, 30.0, arm("small")), 2, replace(fitted, table=None))


def test_curves_are_read_between_amounts_on_a_logarithmic_scale():
    found = stretched([[0.2, 0.4, 0.6]], (1, 2, 4), (1, 2, 3, 4, 9))
    assert found[0] == pytest.approx([0.2, 0.4, 0.4 + 0.2 * np.log2(1.5), 0.6, 0.6])
