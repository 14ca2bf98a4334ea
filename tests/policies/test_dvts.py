"""Diverse verifier tree search: each tree keeps its own best, and trees do not know of each other."""

from __future__ import annotations

import pytest
from scripted_steps import Script, check_schedule, last_scores, name, run

from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.dvts import DiverseTrees
from apportion.types import Draft, Finish

# How to read a table: scripted_steps.py. With width 2, a and b begin one tree, c and d the other. A beam search would
# go on from a and b.
EACH_TREE_KEEPS_ITS_BEST = """
depth | written and its score                  | expanded
0     | a:.8 b:.9 c:.3 d:.2                    | b*2 c*2
1     | ba:.3 bb:.7 ca:.6 cb:.5                | bb*2 ca*2
2     | bba.:.4 bbb.:.5 caa.:.9 cab.:.1        |
finals: bbb .5, bba .4, caa .9, cab .1
"""

A_TREE_THAT_ENDED_WAITS_FOR_NOBODY = """
depth | written and its score                  | expanded
0     | a:.8 b:.9 c:.3 d:.2                    | b*2 c*2
1     | ba:.3 bb.:.7 ca:.6 cb:.5               | ba*1 ca*2
2     | baa.:.4 caa.:.9 cab:.1                 | cab*1
3     | caba.:.2                               |
finals: bb .7, baa .4, caa .9, caba .2
"""


@pytest.mark.parametrize("table", [EACH_TREE_KEEPS_ITS_BEST, A_TREE_THAT_ENDED_WAITS_FOR_NOBODY])
def test_schedule(table: str) -> None:
    check_schedule(DiverseTrees(width=2), table)


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, {}),
        (1, {"a": None, "b": None, "c": None, "d": None}),
        (3, {"ba": None, "bb": None, "ca": None, "cb": None}),
        (4, {"bb": 0.7, "ba": 0.3, "ca": 0.6, "cb": 0.5}),
        (6, {"bb": 0.7, "baa": 0.4, "caa": 0.9, "cab": 0.1}),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: dict[str, float | None]) -> None:
    drafts = run(DiverseTrees(width=2), Script(A_TREE_THAT_ENDED_WAITS_FOR_NOBODY), 4, cut_at)
    assert last_scores(drafts) == left
    assert [d.finish for d in drafts if name(d) in ("bb", "baa", "caa")].count(Finish.LENGTH) == 0


def grown(n: int, drawn: int = 0) -> tuple[Draft, ...]:
    purchase = conformance.task(n, drawn=drawn, verified=True)
    return conformance.drive(DiverseTrees(), purchase, conformance.World())


def test_a_later_purchase_grows_the_same_forest() -> None:
    assert grown(8) + grown(8, 8) == grown(16)


def test_one_tree_is_a_beam_search() -> None:
    tree, beam = conformance.World(), conformance.World()
    purchase = conformance.task(4, verified=True)
    finals = conformance.drive(DiverseTrees(), purchase, tree)
    assert finals == conformance.drive(BeamSearch(), purchase, beam)
    assert tree.requests == beam.requests


def test_the_prompt_is_read_once_for_all_trees() -> None:
    world = conformance.World()
    conformance.drive(DiverseTrees(), conformance.task(16, verified=True), world)
    assert [len(requests) for requests in world.requests[:2]] == [1, 1]
