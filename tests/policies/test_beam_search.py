"""Beam search: which beams are kept and widened at each depth, and what its finals say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_steps import Script, check_schedule, name, run

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.beams import Beam, drafts_of
from apportion.policies.registry import build_strategy
from apportion.policies.strategy import Lengths
from apportion.types import Completion, Finish, Generate, LogprobStats

# How to read a table: scripted_steps.py.
NOTHING_FINISHES_EARLY = """
depth | written and its score                  | expanded
0     | a:.1 b:.9 c:.8 d:.2                    | b*2 c*2
1     | ba:.3 bb:.7 ca:.6 cb:.5                | bb*2 ca*2
2     | bba.:.4 bbb.:.5 caa.:.9 cab.:.1        |
finals: caa .9, bbb .5, bba .4, cab .1
"""

FINISHED_BEAMS_COMPETE_AND_FREE_THEIR_WIDTH = """
depth | written and its score                  | expanded
0     | a:.1 b:.9 c:.8 d:.2                    | b*2 c*2
1     | ba:.3 bb.:.7 ca:.6 cb:.5               | ca*2 cb*1
2     | caa.:.4 cab:.5 cba.:.9                 | cab*2
3     | caba.:.6 cabb.:.2                      |
finals: cba .9, bb .7, caba .6, cabb .2
"""

A_FINISHED_BEAM_IS_DROPPED_WHERE_PREFIXES_ARE_BETTER = """
depth | written and its score                  | expanded
0     | a.:.1 b:.9 c:.8 d:.2                   | b*2 c*2
1     | ba.:.3 bb.:.3 ca.:.3 cb.:.4            |
finals: cb .4, ba .3, bb .3, ca .3
"""

ALL_BUT_THE_WORST_FINISH = """
depth | written and its score                  | expanded
0     | a.:.9 b.:.8 c.:.7 d:.1                 | d*1
1     | da:.2                                  | da*1
2     | daa.:.95                               |
finals: daa .95, a .9, b .8, c .7
"""


@pytest.mark.parametrize(
    "table",
    [
        NOTHING_FINISHES_EARLY,
        FINISHED_BEAMS_COMPETE_AND_FREE_THEIR_WIDTH,
        A_FINISHED_BEAM_IS_DROPPED_WHERE_PREFIXES_ARE_BETTER,
        ALL_BUT_THE_WORST_FINISH,
    ],
)
def test_schedule(table: str) -> None:
    check_schedule(BeamSearch(width=2), table)


def test_last_round_writes_to_the_end() -> None:
    script = Script(NOTHING_FINISHES_EARLY)
    drafts = run(BeamSearch(width=2, depth=3), script, 4)
    assert script.stops == [("\n",), ("\n",), ()]
    assert [(name(draft), draft.step_scores[-1]) for draft in drafts if draft.step_scores] == script.finals


def test_tokens_stats_and_weight_of_finals() -> None:
    drafts = {name(draft): draft for draft in run(BeamSearch(width=2), Script(NOTHING_FINISHES_EARLY), 4)}
    final = drafts["caa"]
    assert final.tokens == 30
    assert final.stats is not None
    assert final.stats.mean_logprob == pytest.approx(-0.2)
    # c and ca are shared by two finals, the last step is its own: (1/2 + 1/2 + 1) / 3.
    assert final.weight == pytest.approx(2 / 3)


def test_a_step_that_found_no_room_says_nothing_of_how_sure_the_others_were() -> None:
    known = Completion("a\n", 10, Finish.STOP, LogprobStats(-0.3, 0.2, 1.0))
    beam = Beam((known, Completion("", 0, Finish.LENGTH)), (1, 2), ("a",), Finish.LENGTH, "a\n", 10)
    (draft,) = drafts_of([beam], {})
    assert draft.stats == known.stats


def test_duplicate_prefixes_are_scored_once() -> None:
    world = conformance.World()
    conformance.drive(BeamSearch(), conformance.task(64, verified=True), world)
    for requests in world.requests:
        for request in requests:
            if not isinstance(request, Generate):
                assert len(set(request.responses)) == len(request.responses)


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, {}),
        (1, {"a": None, "b": None, "c": None, "d": None}),
        (2, {"b": 0.9, "c": 0.8, "d": 0.2, "a": 0.1}),
        (3, {"ba": None, "bb": None, "ca": None, "cb": None}),
        (4, {"bb": 0.7, "ca": 0.6, "cb": 0.5, "ba": 0.3}),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: dict[str, float | None]) -> None:
    script = Script(FINISHED_BEAMS_COMPETE_AND_FREE_THEIR_WIDTH)
    drafts = run(BeamSearch(width=2), script, 4, cut_at)
    assert {name(d): d.step_scores[-1] if d.step_scores else None for d in drafts} == left
    assert all(d.finish is (Finish.END if name(d) == "bb" else Finish.LENGTH) for d in drafts)


def test_without_a_separator_it_writes_to_the_end_at_once() -> None:
    script = Script(NOTHING_FINISHES_EARLY)
    plan = BeamSearch(width=2).plan(replace(conformance.task(4, verified=True), step_separator=""))
    script.reply(next(plan))
    assert script.stops == [()]


@pytest.mark.parametrize(
    ("width", "n", "fix"),
    [(4, 4, None), (4, 16, None), (4, 6, "4 or 8"), (4, 1, "4 or 8"), ("sqrt", 9, None), ("sqrt", 12, "9 or 16")],
)
def test_amounts(width: int | str, n: int, fix: str | None) -> None:
    reason = build_strategy("beam_search", {"width": width}).check(n)
    assert reason is None if fix is None else reason is not None and reason.endswith(f"use n: {fix}")


@pytest.mark.parametrize("settings", [{"width": 1}, {"depth": 0}, {"width": "four"}, {"aggregate_search": "first"}])
def test_settings_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        build_strategy("beam_search", settings)


def test_workload_reads_the_prompt_once_and_every_step_once() -> None:
    prompt, step, rounds, n = 100.0, 40.0, 5, 16
    work = BeamSearch(width=4).workload(n, Lengths(prompt, step * rounds, rounds), verified=True)

    def read(tokens: float) -> float:
        return tokens * (tokens + 1) / 2

    written = n * (read(prompt + step * rounds) - read(prompt))
    assert work.prompt_tokens == prompt
    assert work.completion_tokens == n * step * rounds
    assert work.verifier_tokens == prompt + n * step * rounds
    assert work.policy_attended == work.verifier_attended == pytest.approx(read(prompt) + written)
