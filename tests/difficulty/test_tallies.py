"""Tallies in arrays say what counting candidate by candidate says."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_world import make_pool

from apportion.difficulty.belief import collisions
from apportion.difficulty.evidence import Evidence
from apportion.difficulty.tallies import RIGHT, first, hits, log_collisions, opening, scores, within_groups
from apportion.types import Candidate, Draft, Finish

CANDIDATES = st.tuples(st.sampled_from(["right", "a", "b", "c", None]), st.floats(0.01, 0.99)).map(
    lambda drawn: (drawn[0], drawn[0] == "right", drawn[1])
)
DECKS = st.lists(st.lists(CANDIDATES, max_size=9), min_size=1, max_size=5).map(
    lambda prompts: {f"p{at}": rows for at, rows in enumerate(prompts)}
)


@settings(max_examples=60)
@given(DECKS)
def test_hits_and_collisions(rows):
    deck = make_pool({"a": rows}).decks["a"]
    found = hits(deck)
    log = log_collisions(deck)
    for at, given_rows in enumerate(rows.values()):
        assert found.tried[at] == len(given_rows)
        assert found.right[at] == sum(right for _, right, _ in given_rows)
        assert found.unparsed[at] == sum(answer is None for answer, _, _ in given_rows)
        wrong = Counter(answer for answer, right, _ in given_rows if answer is not None and not right)
        expected = collisions(np.array([list(wrong.values()) or [0]], dtype=np.float64))[0, -1]
        np.testing.assert_allclose(log[at], expected, atol=1e-9)


@settings(max_examples=60)
@given(DECKS, st.integers(1, 6))
def test_the_first_candidates_are_evidence_as_a_job_counts_it(rows, most):
    deck = make_pool({"a": rows}).decks["a"]
    few = first(deck.owner, most)
    found = opening(deck.owner[few], deck.answer[few], deck.correct[few], deck.score[few], len(rows))
    evidence = Evidence(len(rows), 1)
    for at, given_rows in enumerate(rows.values()):
        draft = Draft("", (), 1, Finish.END)
        taken = [Candidate("", 0, "", 0, draft, answer, score) for answer, _, score in given_rows[:most]]
        evidence.add(at, 0, taken)
    expected = evidence.rows(slice(0, len(rows)))
    for name in ("count", "logit", "scored", "tally", "score", "squares", "best", "total", "unparsed"):
        np.testing.assert_allclose(getattr(found.rows, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    for at, given_rows in enumerate(rows.values()):
        order = list(dict.fromkeys(answer for answer, _, _ in given_rows[:most] if answer is not None))
        assert found.slot_right[at, : len(order)].tolist() == [answer == "right" for answer in order]
        assert not found.slot_right[at, len(order) :].any()


@settings(max_examples=60)
@given(DECKS)
def test_what_is_left_within_answers(rows):
    deck = make_pool({"a": rows}).decks["a"]
    found = scores(deck)
    kin = within_groups(found.score, found, len(rows))
    for at, given_rows in enumerate(rows.values()):
        groups: dict[str, list[float]] = {}
        for answer, _, score in given_rows:
            if answer is not None:
                groups.setdefault(answer, []).append(score)
        left = sum(len(group) * float(np.var(group)) for group in groups.values())
        np.testing.assert_allclose(kin[at], [left, sum(map(len, groups.values())) - len(groups)], atol=1e-9)
    assert set(found.group[found.correct].tolist()) <= {RIGHT}
