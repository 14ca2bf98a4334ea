"""Particle filtering: who is resampled how often, by which chance, and what becomes of those that ended early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from even_world import check_prediction
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_steps import Script, check_schedule, last_scores, name, run

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.particle_filter import ParticleFilter, multinomial, systematic
from apportion.policies.registry import build_strategy
from apportion.types import Draft, Finish, Generate

# How to read a table: scripted_steps.py. A score of .75 has the odds 3, .5 has 1, .0 next to none: expected numbers of
# slots are whole here, so that systematic resampling gives them whatever chance says.
THE_FINISHED_KEEP_THEIR_SLOT = """
depth | written and its score                  | expanded
0     | a:.75 b:.5 c:.0 d:.0                   | a*3 b*1
1     | aa:.5 ab:.0 ac.:.9 ba:.0               | aa*3
2     | aaa.:.5 aab.:.6 aac.:.7                |
finals: aaa .5, aab .6, aac .7, ac .9
"""

THE_FINISHED_COMPETE = """
depth | written and its score                  | expanded
0     | a:.75 b:.5 c:.0 d:.0                   | a*3 b*1
1     | aa:.5 ab:.0 ac.:.75 ba:.0              | aa*1
2     | aaa:.75                                | aaa*1
3     | aaaa.:.2                               |
finals: aaaa .2, ac .75, ac .75, ac .75
"""

THE_FINISHED_TAKE_ALL = """
depth | written and its score                  | expanded
0     | a.:.9 b:.0 c:.0 d.:.0                  |
finals: a .9, a .9, a .9, a .9
"""


@pytest.mark.parametrize(
    ("table", "compete"),
    [(THE_FINISHED_KEEP_THEIR_SLOT, False), (THE_FINISHED_COMPETE, True), (THE_FINISHED_TAKE_ALL, True)],
)
def test_schedule(table: str, compete: bool) -> None:
    check_schedule(ParticleFilter(resample_finished=compete), table)


def test_copies_weigh_less() -> None:
    drafts = run(ParticleFilter(resample_finished=True), Script(THE_FINISHED_COMPETE), 4)
    # a is shared by all four, ac by its three copies.
    assert [draft.weight for draft in drafts if name(draft) == "ac"] == pytest.approx([(1 / 4 + 1 / 3) / 2] * 3)


def test_a_cold_softmax_keeps_the_best_alone() -> None:
    script = Script(THE_FINISHED_KEEP_THEIR_SLOT)
    run(ParticleFilter(softmax_temperature=0.01), script, 4, cut_at=3)
    assert script.asked == [{"": 4}, {"a": 4}]


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, {}),
        (1, {"a": None, "b": None, "c": None, "d": None}),
        (2, {"a": 0.75, "b": 0.5, "c": 0.0, "d": 0.0}),
        (4, {"aa": 0.5, "ab": 0.0, "ac": 0.9, "ba": 0.0}),
        (5, {"aaa": None, "aab": None, "aac": None, "ac": 0.9}),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: dict[str, float | None]) -> None:
    drafts = run(ParticleFilter(), Script(THE_FINISHED_KEEP_THEIR_SLOT), 4, cut_at)
    assert last_scores(drafts) == left
    assert {d.finish for d in drafts if name(d) in ("a", "aa")} <= {Finish.LENGTH}


def requests_of(strategy: ParticleFilter, key: str, drawn: int = 0) -> tuple[list[dict[str, int]], tuple[Draft, ...]]:
    world = conformance.World()
    purchase = replace(conformance.task(16, drawn=drawn, verified=True), key=key)
    drafts = conformance.drive(strategy, purchase, world)
    generates = [[r for r in requests if isinstance(r, Generate)] for requests in world.requests]
    return [{r.prefix: len(r.seeds) for r in requests} for requests in generates if requests], drafts


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_chance_comes_from_the_key_and_what_was_drawn_before(resampling: str) -> None:
    strategy = build_strategy("particle_filter", {"resampling": resampling})
    assert isinstance(strategy, ParticleFilter)
    assert requests_of(strategy, "seed:prompt:arm") == requests_of(strategy, "seed:prompt:arm")
    assert requests_of(strategy, "seed:prompt:arm") != requests_of(strategy, "seed:other:arm")
    assert requests_of(strategy, "seed:prompt:arm") != requests_of(strategy, "seed:prompt:arm", drawn=16)


weighed = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).map(lambda values: [*values, 1.0])
chances = st.floats(0.0, 1.0, exclude_max=True)


@given(weighed, st.integers(1, 100), chances)
@example([0.0, 1.0], 2, 1.0 - 2.0**-53)
def test_systematic_gives_each_its_expected_number_but_for_rounding(
    weights: list[float], slots: int, chance: float
) -> None:
    children = systematic(weights, slots, chance)
    assert sum(children) == slots
    expected = slots * np.array(weights) / sum(weights)
    assert (np.abs(np.array(children) - expected) < 1.0 + 1e-9).all()


@given(weighed, st.lists(chances, min_size=1, max_size=50))
def test_multinomial_fills_every_slot_and_never_with_the_worthless(weights: list[float], drawn: list[float]) -> None:
    children = multinomial(weights, drawn)
    assert sum(children) == len(drawn)
    assert all(count == 0 for count, weight in zip(children, weights, strict=True) if weight == 0.0)


def test_both_give_in_the_mean_what_the_weights_say() -> None:
    weights, generator, rounds, slots = [1.0, 0.5, 0.3, 0.2], np.random.default_rng(0), 4000, 8
    expected = slots * np.array(weights) / sum(weights)
    spread = np.mean([systematic(weights, slots, float(generator.random())) for _ in range(rounds)], axis=0)
    alone = np.mean([multinomial(weights, list(generator.random(slots))) for _ in range(rounds)], axis=0)
    assert spread == pytest.approx(expected, abs=0.05)
    assert alone == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    "strategy",
    [
        ParticleFilter(),
        ParticleFilter(resampling="multinomial", depth=3),
        ParticleFilter(resample_finished=True, aggregate_search="product"),
        ParticleFilter(0.05, "multinomial", resample_finished=True),
        ParticleFilter(depth=1),
    ],
    ids=str,
)
def test_conforms(strategy: ParticleFilter) -> None:
    conformance.check_strategy(strategy, ns=(2, 4, 7, 16, 64))


@pytest.mark.parametrize("n", [2, 16])
@pytest.mark.parametrize("strategy", [ParticleFilter(), ParticleFilter(resampling="multinomial", depth=2)], ids=str)
def test_prediction_is_what_is_paid(strategy: ParticleFilter, n: int) -> None:
    check_prediction(strategy, n)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"softmax_temperature": -1.0}, "particle_filter.softmax_temperature is -1; it must be above 0"),
        ({"softmax_temperature": float("inf")}, "particle_filter.softmax_temperature is inf"),
        (
            {"resampling": "residual"},
            "particle_filter.resampling is 'residual'; it must be 'systematic' or 'multinomial'",
        ),
        ({"resample_finished": 1}, "particle_filter.resample_finished is 1; it must be true or false"),
        ({"depth": 0}, "particle_filter.depth is 0; it must be 1 or more"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy("particle_filter", settings)


def test_one_particle_is_refused() -> None:
    assert ParticleFilter().check(2) is None
    assert "use n: 2 or more" in str(ParticleFilter().check(1))
