"""Early-stopping self-consistency: one unanimous window ends a prompt."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import World, play, problem

from apportion.errors import ConfigError
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.esc import Esc
from apportion.types import Candidate, Draft, Finish

DRAFT = Draft("", (), 1, Finish.END)


def answers(text: str) -> list[Candidate]:
    return [Candidate("", at, "vote", 0, DRAFT, None if one == "-" else one) for at, one in enumerate(text)]


@pytest.mark.parametrize(
    ("seen", "wants"),
    [
        ("", 5),
        ("aa", 3),
        ("aaaaa", 0),
        ("aaaab", 5),
        ("abbbb" + "bbb", 2),  # five b in a row, but in two windows
        ("abbbb" + "bbbbb", 0),
        ("bbbbb" + "a", 0),  # once stopped, stopped
        ("-----", 5),  # unparsed answers agree with nothing
        ("aaaa-", 5),
    ],
)
def test_windows_follow_each_other(seen, wants):
    rule = Esc(1, 5)
    for one in answers(seen):
        rule.take(0, [one])
    assert rule.wants(0) == wants


def test_windows_are_bought_whole_where_the_budget_allows_and_filled_in_turn_where_not():
    rich = play(build_allocation("esc", {}, problem(4, 400.0), 2), World.of(np.ones(4)), 400.0)
    assert [offer.purchase.n for _, offer in rich.offers] == [5, 5, 5, 5]
    assert rich.spent == 20.0
    poor = play(build_allocation("esc", {}, problem(4, 10.0), 2), World.of(np.ones(4)), 10.0)
    assert sorted(map(len, poor.candidates)) == [2, 2, 3, 3]
    assert poor.spent == 10.0


def test_window_and_cap_are_settings():
    world = World.of(np.zeros(2), kinds=1000, tempting=1000.0)
    played = play(build_allocation("esc", {"window": 3, "most": 8}, problem(2, 99.0), 2), world, 99.0)
    assert played.costs.tolist() == [8.0, 8.0]
    with pytest.raises(ConfigError, match="window is 0"):
        build_allocation("esc", {"window": 0}, problem(2, 10.0), 2)
