"""Lookahead: steps are judged by where they lead, rollouts are greedy, shared and thrown away."""

from __future__ import annotations

import pytest
from scripted_steps import TOKENS, Script, last_scores, name, run

from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.lookahead import Lookahead
from apportion.types import Finish, Generate

# How to read a table: scripted_steps.py. What is scored is the end of the rollout.
ONE_STEP_AHEAD = """
depth | rolled out | where it leads, and the score there  | expanded
0     | a b c d    | az:.1 bz:.7 cz:.9 dz:.2              | c*2 b*2
1     | cb ba bb   | ca.:.4 cbz.:.8 baz:.6 bbz:.3         | cb*2 ba*2
2     |            | cba.:.1 cbb.:.3 baa.:.9 bab.:.2      |
finals: baa .9, cbb .3, bab .2, cba .1
"""

TWO_STEPS_AHEAD = """
depth | rolled out        | where it leads, and the score there    | expanded
0     | a b c d, az bz cz | azz:.1 bzz:.7 czz.:.9 dz.:.2           | c*2 b*2
1     | cb ba bb, bbz     | ca.:.4 cbz.:.8 baz.:.6 bbzz.:.3        | cb*2 ba*2
2     |                   | cba.:.1 cbb.:.3 baa.:.9 bab.:.2        |
finals: baa .9, cbb .3, bab .2, cba .1
"""


@pytest.mark.parametrize(("k", "table"), [(1, ONE_STEP_AHEAD), (2, TWO_STEPS_AHEAD)])
def test_schedule(k: int, table: str) -> None:
    script = Script(table)
    drafts = run(Lookahead(width=2, k=k), script, 4)
    rolled = [part.split() for line in table.strip().splitlines()[1:-1] for part in line.split("|")[1].split(",")]
    assert script.asked == [{"": 4}, *[expanded for _, expanded in script.rows if expanded]]
    assert script.rolled == [prefixes for prefixes in rolled if prefixes]
    assert script.scored == [led for led, _ in script.rows]
    assert [(name(draft), draft.step_scores[-1]) for draft in drafts if draft.step_scores] == script.finals
    assert all(draft.finish is Finish.END and draft.tokens == 3 * TOKENS for draft in drafts), "rollouts are no finals"


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, {}),
        (1, {"a": None, "b": None, "c": None, "d": None}),
        (2, {"a": None, "b": None, "c": None, "d": None}),
        # What has only been rolled out of has no score of its own.
        (3, {"c": None, "b": None, "d": None, "a": None}),
        (5, {"ca": None, "cbz": None, "ba": None, "bb": None}),
        (6, {"cbz": 0.8, "ba": None, "ca": 0.4, "bb": None}),
    ],
)
def test_cut_off_returns_what_there_is_and_rollouts_that_ended(cut_at: int, left: dict[str, float | None]) -> None:
    drafts = run(Lookahead(width=2), Script(ONE_STEP_AHEAD), 4, cut_at)
    assert last_scores(drafts) == left
    assert [name(d) for d in drafts if d.finish is Finish.END] == [n for n in left if n in ("ca", "cbz")]


@pytest.mark.parametrize("n", [4, 16])
def test_looking_no_step_ahead_is_beam_search(n: int) -> None:
    ahead, beam = conformance.World(), conformance.World()
    purchase = conformance.task(n, verified=True)
    assert conformance.drive(Lookahead(k=0), purchase, ahead) == conformance.drive(BeamSearch(), purchase, beam)
    assert ahead.requests == beam.requests


@pytest.mark.parametrize("k", [1, 3])
def test_the_greedy_step_after_a_text_is_asked_for_once(k: int) -> None:
    world = conformance.World()
    conformance.drive(Lookahead(k=k), conformance.task(64, verified=True), world)
    written = [request for requests in world.requests for request in requests if isinstance(request, Generate)]
    greedy = [request.prefix for request in written if request.sampling.temperature == 0.0]
    assert greedy
    assert len(set(greedy)) == len(greedy)
    beams = {(requests[0].prefix, len(requests)) for requests in world.requests if isinstance(requests[0], Generate)}
    assert ("", 1) in beams, "the prompt is read once, and no rollout begins from nothing"
