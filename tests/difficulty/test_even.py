"""Even courses: what they promise is what spending evenly on the arm reaches, and no state is treated otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from choice_world import COST, cascade_pool
from pool_world import draw, make_pool

from apportion.difficulty.courses import even_courses
from apportion.difficulty.curves import curves_of

MAJORITY = dict.fromkeys(COST, False)
COUNT = 8


def plain(pool, cost, by_score):
    return {one.book.arms[0]: one for one in even_courses(pool, cost, by_score) if not one.book.labelled}


def test_every_prompt_goes_as_far_as_every_other_and_the_more_it_has_the_later_it_is_served():
    for one in even_courses(cascade_pool(30), COST, MAJORITY):
        critical = one.tables.critical[:-1]
        assert (critical == critical[:, :1]).all()
        assert (np.diff(critical[:, 0]) < 0.0).all()
        assert one.tables.prices[0] < critical[-1, 0] < critical[0, 0] < one.tables.prices[-1]


def test_it_costs_and_reaches_what_the_same_amount_for_all_does():
    pool = cascade_pool(90, COUNT)
    for arm, one in plain(pool, COST, MAJORITY).items():
        amounts = np.arange(1, COUNT + 1)
        curve = curves_of(pool.decks[arm], tuple(amounts), "accuracy", "majority").mean(axis=0)
        assert one.trial.cost.max() == pytest.approx(COUNT * COST[arm])
        for n, reached in zip(amounts, curve, strict=True):
            # The best of smaller amounts counts too: fewer candidates may do better than more.
            assert one.trial.at(n * COST[arm]) == pytest.approx(curve[:n].max(), abs=0.03), (arm, n, reached)


def test_scores_weigh_as_the_arms_selector_weighs_them():
    rng = np.random.default_rng(3)
    pool = make_pool({"vote": draw(rng, rng.normal(-0.5, 1.0, 120), COUNT, 1.0, gap=2.0)})
    cost, curve = {"vote": 1.0}, {}
    for select, by_score in (("majority", False), ("weighted", True)):
        found = plain(pool, cost, {"vote": by_score})["vote"]
        curve[select] = found.trial.at(COUNT)
        assert curve[select] == pytest.approx(
            curves_of(pool.decks["vote"], (COUNT,), "accuracy", select).mean(), abs=0.03
        )
    assert curve["weighted"] > curve["majority"] + 0.05


def test_learned_votes_are_offered_beside_the_selector_where_there_are_scores_to_learn_from():
    rng = np.random.default_rng(4)
    pool = make_pool({"vote": draw(rng, rng.normal(0.0, 1.0, 60), COUNT, 1.0, gap=2.0)})
    assert [one.book.labelled for one in even_courses(pool, {"vote": 1.0}, {"vote": True})] == [False, True]
    assert [one.book.labelled for one in even_courses(cascade_pool(30), COST, MAJORITY)] == [False, False]


def test_an_arm_whose_selector_is_no_vote_has_learned_votes_alone():
    rng = np.random.default_rng(5)
    pool = make_pool({"vote": draw(rng, rng.normal(0.0, 1.0, 60), COUNT, 1.0, gap=2.0)})
    assert [one.book.labelled for one in even_courses(pool, {"vote": 1.0}, {})] == [True]


def test_a_search_is_bought_whole():
    pool = cascade_pool(30, 4)
    pool = make_pool({"beam@4": rows_of(pool, "cheap")})
    (one,) = (course for course in even_courses(pool, {"beam@4": 2.5}, {"beam@4": False}))
    assert one.book.steps == (("beam@4", 4),)
    assert one.trial.cost.max() == pytest.approx(10.0)


def test_an_arm_that_too_few_candidates_are_known_of_has_none():
    pool = make_pool({"beam@16": rows_of(cascade_pool(30, 4), "cheap")})
    assert even_courses(pool, {"beam@16": 1.0}, {"beam@16": False}) == []


def rows_of(pool, arm):
    deck = pool.decks[arm]
    return {
        prompt: [
            (pool.answers[at][deck.answer[row]], bool(deck.correct[row]))
            for row in range(int(deck.begin[at]), int(deck.begin[at + 1]))
        ]
        for at, prompt in enumerate(pool.ids)
    }
