"""Snell et al.'s bins: a probe first, then what the table found best for prompts that probe alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pooled import Lengths
from simulated import PerSample, World, arm, play, problem

from apportion.difficulty.curves import grid
from apportion.difficulty.fit import fit
from apportion.difficulty.pools import Deck, Pool
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Offer, Problem, Rest
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.binned import binned
from apportion.scheduler.known import Known, Truth
from apportion.types import Purchase


def kinds(prompts: int, size: int, rate: dict[str, tuple[float, float]], seed: int = 0) -> Pool:
    """Prompts of two kinds by turns; `rate` is each arm's pass rate on either."""
    rng = np.random.default_rng(seed)
    decks = {}
    for name, pair in rate.items():
        right = rng.random((prompts, size)) < np.where(np.arange(prompts) % 2 == 0, *pair)[:, None]
        answer = np.where(right, 0, rng.integers(1, 200, (prompts, size)))
        nothing = np.full(right.size, np.nan)
        begin = np.arange(prompts + 1, dtype=np.int64) * size
        decks[name] = Deck(name, begin, answer.ravel(), right.ravel(), nothing + np.nan, nothing, nothing)
    names = [f"q{at}" for at in range(prompts)]
    return Pool("kinds", names, [""] * prompts, [[str(k) for k in range(200)]] * prompts, decks)


def world(prompts: int) -> World:
    """The even prompts are always right; the odd ones one time in three, and their wrong answers rarely agree."""
    rates = np.where(np.arange(prompts) % 2 == 0, 1.0, 1 / 3)
    return World.of(rates, kinds=400, tempting=400.0)


def test_the_probe_is_paid_and_the_rest_goes_to_the_bins_where_it_helps():
    fitted = fit([kinds(120, 32, {"vote": (1.0, 1 / 3)})])
    played = play(build_allocation("binned", {"probe": 4}, problem(40, 400.0), 2, fitted), world(40), 400.0)
    first = [offer.purchase for _, offer in played.offers[:40]]
    assert first == [Purchase("vote", 4)] * 40
    assert played.spent <= 400.0
    assert played.costs[::2].tolist() == [4.0] * 20
    assert played.costs[1::2].mean() >= 10.0
    assert played.right().mean() > 0.9


def test_the_probe_takes_at_most_half_the_budget():
    fitted = fit([kinds(60, 16, {"vote": (1.0, 1 / 3)})])
    for budget, probe in ((10.0, 1), (40.0, 2), (79.0, 3), (200.0, 8)):
        policy = build_allocation("binned", {"probe": 8}, problem(10, budget), 2, fitted)
        policy.reprice(budget)
        offer = policy.offer(0, budget)
        assert isinstance(offer, Offer)
        assert offer.purchase.n == probe


def test_a_probe_whose_worst_case_is_not_covered_is_smaller():
    """What is left over is shared out afterwards: a prompt is not given up for the size of its probe."""
    fitted = fit([kinds(60, 16, {"vote": (1.0, 1 / 3)})])
    policy = build_allocation("binned", {"probe": 4}, problem(1, 30.0), 2, fitted)
    policy.reprice(30.0)
    assert [policy.offer(0, most).purchase.n for most in (30.0, 3.5, 1.0)] == [4, 3, 1]
    assert policy.offer(0, 0.5) is Rest.WAIT
    policy.observe(0, Purchase("vote", 1), world(1).draw(0, 1), 1.0)
    policy.reprice(29.0)
    assert policy.forecast([29.0])


def test_a_prompt_waits_for_all_probes_and_then_buys_by_its_bin():
    fitted = fit([kinds(120, 16, {"vote": (1.0, 1 / 3)})])
    policy = build_allocation("binned", {"probe": 2}, problem(2, 30.0), 2, fitted)
    dealt = world(2)
    policy.reprice(30.0)
    assert policy.forecast([10.0]) == ()
    policy.observe(0, Purchase("vote", 2), dealt.draw(0, 2), 2.0)
    policy.reprice(28.0)
    assert policy.offer(0, 28.0) is Rest.WAIT
    policy.observe(1, Purchase("vote", 2), dealt.draw(1, 2), 2.0)
    policy.reprice(26.0)
    (said,) = policy.forecast([26.0])
    assert said.low < said.value < said.high
    offer = policy.offer(1, 26.0)
    assert isinstance(offer, Offer)
    assert offer.purchase.n >= 6
    assert policy.difficulty(0) == 1.0


def test_probes_that_cannot_be_had_hold_nobody_up():
    """The second prompt has no candidates of the probing arm at all."""
    fitted = fit([kinds(60, 16, {"vote": (1.0, 1 / 3)})])
    limited = problem(2, 30.0)
    limited = Problem(limited.texts, limited.arms, limited.costs, 30.0, limited.goal, 0, np.array([[16], [0]]))
    policy = build_allocation("binned", {"probe": 2}, limited, 2, fitted)
    policy.reprice(30.0)
    assert policy.offer(1, 30.0) is Rest.WAIT
    policy.observe(0, Purchase("vote", 2), world(2).draw(1, 2), 2.0)
    policy.reprice(28.0)
    policy.reprice(28.0)
    assert isinstance(policy.offer(0, 28.0), Offer)
    assert policy.offer(1, 28.0) is Rest.STOP


def test_each_bin_gets_the_arm_that_is_best_there():
    """The dear arm is right where the cheap one is split: the split prompts go to it, the settled ones do not."""
    fitted = fit([kinds(120, 8, {"cheap": (1.0, 0.1), "dear": (1.0, 0.95)})])
    costs = Lengths({"cheap": np.full(20, 1.0), "dear": np.full(20, 5.0)})
    both = problem(20, 92.0, arm("cheap"), arm("dear"), costs=costs)

    class Both(World):
        def draw(self, prompt, n, name="vote", start=None):
            rate = {"cheap": (1.0, 0.1), "dear": (1.0, 0.95)}[name][prompt % 2]
            self.passing = np.full(20, rate)
            return super().draw(prompt, n, name)

    made = Both.of(np.zeros(20), kinds=400, tempting=400.0)
    played = play(build_allocation("binned", {"probe": 2}, both, 2, fitted), made, 92.0, cost=costs)
    dear = {prompt for prompt, offer in played.offers if offer.purchase.arm == "dear"}
    assert dear
    assert all(prompt % 2 for prompt in dear)
    assert len(dear) >= 8


def test_bands_mix_their_curves_by_what_the_probe_leads_one_to_believe():
    fitted = fit([kinds(120, 32, {"vote": (1.0, 1 / 3)})])
    played = play(
        build_allocation("binned", {"probe": 4, "bins": "absolute"}, problem(40, 400.0), 2, fitted), world(40), 400.0
    )
    assert [offer.purchase for _, offer in played.offers[:40]] == [Purchase("vote", 4)] * 40
    assert played.spent <= 400.0
    assert played.costs[1::2].mean() >= 2 * played.costs[::2].mean()
    assert played.right().mean() > 0.9


def test_the_oracle_pays_no_probe_and_gives_each_bin_what_is_best_there():
    fitted = fit([kinds(120, 32, {"vote": (1.0, 1 / 3)})])
    amounts = grid(32)
    rates = np.where(np.arange(40) % 2 == 0, 1.0, 1 / 3)
    truth = Truth({"vote": amounts}, {"vote": np.repeat(rates[:, None], len(amounts), axis=1)})
    for bins in ("quantile", "absolute"):
        settings = {"difficulty": "oracle", "bins": bins}
        policy = build_allocation("binned", settings, problem(40, 300.0), 4, fitted, truth)
        played = play(policy, world(40), 300.0)
        assert played.costs[::2].max() <= 2.0
        assert played.costs[1::2].mean() >= 10.0
        assert policy.difficulty(1) == pytest.approx(1 / 3)


def test_settings_that_cannot_be_honoured_are_refused():
    fitted = fit([kinds(60, 8, {"vote": (1.0, 0.2)})])
    with pytest.raises(ConfigError, match=r"allocation\.bins is 'absolut'.*absolute"):
        build_allocation("binned", {"bins": "absolut"}, problem(4, 30.0), 2, fitted)
    with pytest.raises(ConfigError, match=r"allocation\.difficulty is 'guess'"):
        build_allocation("binned", {"difficulty": "guess"}, problem(4, 30.0), 2, fitted)
    with pytest.raises(ConfigError, match="only a replay"):
        build_allocation("binned", {"difficulty": "oracle"}, problem(4, 30.0), 2, fitted)
    assert fitted.table is not None
    older = replace(fitted.table, probes=tuple(one for one in fitted.table.probes if one.size))
    with pytest.raises(ConfigError, match=r"older version.*apportion fit"):
        build_allocation("binned", {"bins": "absolute"}, problem(4, 30.0), 2, replace(fitted, table=older))


def test_it_needs_a_table_of_the_jobs_arms():
    fitted = fit([kinds(60, 8, {"other": (1.0, 0.1), "vote": (1.0, 0.2)})])
    with pytest.raises(ConfigError, match="learns from labels"):
        build_allocation("binned", {}, problem(4, 30.0), 2)
    with pytest.raises(ConfigError, match="probe is 0"):
        build_allocation("binned", {"probe": 0}, problem(4, 30.0), 2, fitted)
    stranger = problem(4, 30.0, arm("stranger", policy="unknown"), costs=PerSample())
    with pytest.raises(ConfigError, match=r"no table of this job's arms \(stranger\).*other, vote"):
        binned({}, stranger, Known(2, fitted.start(problem(4, 30.0).arms, [""] * 4), fitted, None))
