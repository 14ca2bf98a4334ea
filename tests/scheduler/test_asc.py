"""Adaptive-Consistency stops exactly where its authors' package does, and spends one total in turn."""

from __future__ import annotations

import contextlib
import io
from collections import Counter

import numpy as np
import pytest
from adaptive_consistency import BetaStoppingCriteria
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import Lengths
from simulated import World, arm, play, problem

from apportion.errors import ConfigError
from apportion.scheduler.allocation import Offer, Rest
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.asc import Asc, ahead
from apportion.scheduler.tallies import Tallies
from apportion.types import Candidate, Draft, Finish, Purchase

DRAFT = Draft("", (), 1, Finish.END)
QUADRATURE = 1e-5
"""The package integrates numerically, to this much at 40 votes; ours is the exact tail of a binomial."""


def answers(text: str) -> list[Candidate]:
    """One candidate a letter; a dash was not parsed."""
    return [Candidate("", at, "vote", 0, DRAFT, None if one == "-" else one) for at, one in enumerate(text)]


@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=6), threshold=st.sampled_from((0.8, 0.9, 0.95, 0.97, 0.99))
)
@settings(max_examples=150)
def test_it_stops_where_the_authors_package_stops(counts, threshold):
    letters = "".join(chr(97 + at) * count for at, count in enumerate(counts))
    rule = Asc(1, threshold)
    rule.take(0, answers(letters))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        theirs = BetaStoppingCriteria(threshold).should_stop(list(letters))
    assert not said.getvalue()
    top = [*sorted(counts, reverse=True), 0]
    assert ahead(top[0], top[1]) == pytest.approx(theirs["prob"], abs=QUADRATURE)
    if abs(theirs["prob"] - threshold) > QUADRATURE:
        assert (rule.wants(0) == 0) == theirs["stop"]


@pytest.mark.parametrize(
    ("seen", "wants"),
    [
        ("", 4),  # four alike are sure enough, three are not
        ("a", 3),
        ("aaa", 1),
        ("aaaa", 0),
        ("ab", 5),  # 6 to 1
        ("aab", 4),
        ("aaaaaab", 0),
        ("----", 4),  # unparsed answers agree with nothing
        ("aaa-", 1),
        ("aabb", 6),
        ("abcdef", 5),  # the second counts, not how many there are
    ],
)
def test_a_prompt_buys_what_it_takes_before_it_could_stop(seen, wants):
    rule = Asc(1, 0.95)
    rule.take(0, answers(seen))
    assert rule.wants(0) == wants


@given(text=st.text("abcd-", max_size=40))
def test_tallies_hold_the_two_highest_counts(text):
    tallies = Tallies(1)
    for one in answers(text):
        tallies.add(0, [one])
    counts = [*sorted(Counter(text.replace("-", "")).values(), reverse=True), 0, 0]
    assert (tallies.first[0], tallies.second[0], tallies.seen[0]) == (counts[0], counts[1], len(text))
    assert tallies.share(0) == (counts[0] / len(text) if text else 0.0)


def test_prompts_buy_in_turn_until_each_has_stopped():
    """`a` is unanimous, `b` splits for ever: with money for all, `a` stops at 4 and `b` goes on to the cap."""
    policy = build_allocation("asc", {"most": 12}, problem(2, 100.0), 2)
    dealt = {0: answers("a" * 40), 1: answers("bc" * 20)}
    bought = [0, 0]
    trail = []
    policy.reprice(100.0)
    for _ in range(20):
        offers = [(policy.offer(prompt, 100.0 - sum(bought)), prompt) for prompt in (0, 1)]
        open_offers = [(-offer.ratio, prompt, offer) for offer, prompt in offers if isinstance(offer, Offer)]
        if not open_offers:
            break
        _, prompt, offer = min(open_offers, key=lambda one: one[:2])
        n = offer.purchase.n
        policy.observe(prompt, offer.purchase, dealt[prompt][bought[prompt] : bought[prompt] + n], float(n))
        bought[prompt] += n
        trail.append(f"{prompt}+{n}")
    assert " ".join(trail) == "0+4 1+4 1+6 1+2"
    assert [policy.offer(prompt, 84.0) for prompt in (0, 1)] == [Rest.STOP, Rest.STOP]
    assert policy.difficulty(0) == 1.0
    assert policy.difficulty(1) == 0.5
    assert policy.forecast([1.0, 2.0]) == ()


def test_a_short_budget_is_shared_sample_by_sample():
    world = World.of(np.full(10, 0.6))
    played = play(build_allocation("asc", {}, problem(10, 25.0), 2), world, 25.0)
    assert played.spent == 25.0
    assert sorted(map(len, played.candidates)) == [2] * 5 + [3] * 5


def test_money_is_left_once_all_have_stopped():
    world = World.of(np.ones(10))
    played = play(build_allocation("asc", {}, problem(10, 500.0), 2), world, 500.0)
    assert played.spent == 40.0


def test_the_cap_is_the_papers_where_nothing_else_is_known():
    world = World.of(np.zeros(2), kinds=1000, tempting=1000.0)
    played = play(build_allocation("asc", {}, problem(2, 500.0), 2), world, 500.0)
    assert played.costs.tolist() == [40.0, 40.0]


def test_dear_prompts_buy_less_at_a_time_where_little_is_left():
    costs = Lengths({"vote": np.array([3.0])})
    policy = build_allocation("asc", {}, problem(1, 100.0, costs=costs), 2)
    assert policy.offer(0, 100.0) == Offer(Purchase("vote", 4), 12.0, 12.0)
    assert policy.offer(0, 8.0) == Offer(Purchase("vote", 2), 6.0, 6.0)
    assert policy.offer(0, 2.9) is Rest.WAIT


def test_bad_settings_are_named():
    for given_settings, why in (
        ({"threshold": 0.5}, "threshold is 0.5"),
        ({"threshold": 1.0}, "threshold is 1"),
        ({"most": 0}, "most is 0"),
        ({"arm": "votes"}, "did you mean 'vote'"),
        ({"tresh": 0.9}, "did you mean 'threshold'"),
    ):
        with pytest.raises(ConfigError, match=why):
            build_allocation("asc", given_settings, problem(2, 10.0, arm("vote")), 2)
