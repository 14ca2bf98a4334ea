"""REBASE: how many children each path gets, and what its finals say."""

from __future__ import annotations

import pytest
from even_world import check_prediction
from hypothesis import given
from hypothesis import strategies as st
from scripted_steps import Script, check_schedule, last_scores, name, run

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.population import softmax
from apportion.policies.rebase import Rebase, balanced
from apportion.policies.registry import build_strategy
from apportion.types import Finish

# How to read a table: scripted_steps.py. At T = 0.2, .2 more of a score is worth e times as much. Round 0: a is worth
# 4 / (1 + 1/e + 1/e^2 + 1/e^4) = 2.6 slots, so 3, and b takes the one that is left. Round 1: ac ended and keeps its
# slot; ab is worth 3 / (1 + 1/e + 1/e^2) = 2.0 of the other three.
SHARED_BY_REWARD = """
depth | written and its score                  | expanded
0     | a:.9 b:.7 c:.5 d:.1                    | a*3 b*1
1     | aa:.5 ab:.9 ac.:.6 ba:.7               | ab*2 ba*1
2     | aba.:.8 abb:.3 baa:.3                  | abb*1 baa*1
3     | abba.:.4 baaa.:.2                      |
finals: aba .8, abba .4, ac .6, baaa .2
"""

THE_BEST_TAKES_ALL_WHERE_IT_IS_COLD = """
depth | written and its score                  | expanded
0     | a:.1 b:.9 c:.8 d:.2                    | b*4
1     | ba:.3 bb:.7 bc.:.9 bd:.5               | bb*3
2     | bba.:.1 bbb.:.2 bbc.:.3                |
finals: bba .1, bbb .2, bbc .3, bc .9
"""

WHERE_IT_IS_HOT_ROUNDING_UP_STILL_SERVES_THE_BEST_FIRST = """
depth | written and its score                  | expanded
0     | a:.1 b:.9 c:.8 d:.2                    | b*2 c*1 d*1
1     | ba.:.7 bb.:.3 ca.:.9 da.:.5            |
finals: ba .7, bb .3, ca .9, da .5
"""


@pytest.mark.parametrize(
    ("table", "temperature"),
    [
        (SHARED_BY_REWARD, 0.2),
        (THE_BEST_TAKES_ALL_WHERE_IT_IS_COLD, 0.001),
        (WHERE_IT_IS_HOT_ROUNDING_UP_STILL_SERVES_THE_BEST_FIRST, 1000.0),
    ],
)
def test_schedule(table: str, temperature: float) -> None:
    check_schedule(Rebase(temperature), table)


def test_the_last_round_writes_to_the_end() -> None:
    script = Script(SHARED_BY_REWARD)
    run(Rebase(depth=4), script, 4)
    assert script.stops == [("\n",), ("\n",), ("\n",), ()]


def test_weight_of_finals() -> None:
    weights = {name(draft): draft.weight for draft in run(Rebase(), Script(SHARED_BY_REWARD), 4)}
    # a is shared by three finals, ab by two, the last step is its own.
    assert weights == pytest.approx(
        {"aba": (1 / 3 + 1 / 2 + 1) / 3, "abba": (1 / 3 + 1 / 2 + 2) / 4, "ac": 2 / 3, "baaa": 1}
    )


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, {}),
        (1, {"a": None, "b": None, "c": None, "d": None}),
        (2, {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.1}),
        (3, {"aa": None, "ab": None, "ac": None, "ba": None}),
        (5, {"aba": None, "abb": None, "ac": 0.6, "baa": None}),
        (6, {"aba": 0.8, "abb": 0.3, "ac": 0.6, "baa": 0.3}),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: dict[str, float | None]) -> None:
    drafts = run(Rebase(), Script(SHARED_BY_REWARD), 4, cut_at)
    assert last_scores(drafts) == left
    assert all(d.finish is (Finish.END if name(d) in ("ac", "aba") else Finish.LENGTH) for d in drafts)


rewards = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)


@given(rewards, st.floats(1e-3, 1e3), st.integers(1, 100))
def test_the_width_is_shared_whole_and_no_better_path_gets_less(
    scores: list[float], temperature: float, width: int
) -> None:
    weights = softmax(scores, temperature)
    children = balanced(weights, width)
    assert sum(children) == width
    assert min(children) >= 0
    by_score = [children[at] for at in sorted(range(len(scores)), key=lambda at: weights[at], reverse=True)]
    assert by_score == sorted(by_score, reverse=True)
    total = sum(weights)
    assert max(children) <= width * max(weights) / total + 1.0 + 1e-6, "no more than its part, rounded up"


def test_equal_paths_get_equal_parts() -> None:
    for count in range(1, 60):
        assert balanced([0.1] * count, 3 * count) == [3] * count


@pytest.mark.parametrize(
    "strategy", [Rebase(), Rebase(0.01, depth=3, aggregate_search="min"), Rebase(100.0), Rebase(depth=1)], ids=str
)
def test_conforms(strategy: Rebase) -> None:
    conformance.check_strategy(strategy, ns=(2, 4, 7, 16, 64))


@pytest.mark.parametrize("n", [2, 16])
@pytest.mark.parametrize("strategy", [Rebase(), Rebase(depth=2)], ids=str)
def test_prediction_is_what_is_paid(strategy: Rebase, n: int) -> None:
    check_prediction(strategy, n)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"softmax_temperature": 0}, "rebase.softmax_temperature is 0; it must be above 0"),
        ({"softmax_temperature": float("nan")}, "rebase.softmax_temperature is nan"),
        ({"softmax_temperature": "warm"}, "rebase.softmax_temperature is 'warm'; it must be a number"),
        ({"depth": 0}, "rebase.depth is 0; it must be 1 or more"),
        ({"aggregate_search": "first"}, "rebase.aggregate_search is 'first'"),
        ({"softmax_temp": 1.0}, "did you mean 'softmax_temperature'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy("rebase", settings)


def test_one_path_is_refused() -> None:
    assert Rebase().check(2) is None
    assert "use n: 2 or more" in str(Rebase().check(1))
