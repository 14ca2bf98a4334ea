"""Reading: what a purchase costs whatever its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from simulated import PerSample, arm, problem

from apportion.difficulty.playbook import Playbook
from apportion.difficulty.votes import Votes
from apportion.policies.beam_search import BeamSearch
from apportion.scheduler.reading import BookCosts, Reading

BEAM = replace(arm("beam", "weighted", amounts=(4, 16)), strategy=BeamSearch())
SOLD = {"vote": "vote", "beam@4": "beam", "beam@16": "beam"}


def reading(once, limits=None):
    made = problem(3, 100.0, arm(), BEAM, costs=PerSample(each=1.0, once=once))
    return Reading(replace(made, limits=limits), SOLD)


def book(*steps):
    return Playbook(steps, Votes())


def test_costs_are_asked_for_by_the_names_of_the_jobs_arms():
    class Named(PerSample):
        def predict(self, prompts, arm, n):
            return np.full(len(prompts), n * {"vote": 1.0, "beam": 3.0}[arm])

    costs = BookCosts(problem(3, 1.0, arm(), BEAM, costs=Named()), SOLD)
    assert costs.predict(np.arange(2), "beam@16", 16).tolist() == [48.0, 48.0]
    assert costs.predict_one(1, "beam@4", 4) == 12.0
    assert costs.predict_one(1, "vote", 4) == 4.0


def test_a_purchase_grows_until_reading_is_half_of_it():
    assert [reading(once).worthwhile(0, "vote", 2) for once in (0.0, 1.0, 6.0)] == [2, 2, 6]


def test_a_search_is_bought_whole_and_its_price_says_all():
    fixed = {name: each.tolist() for name, each in reading(6.0).fixed.items()}
    assert fixed == {"vote": [6.0] * 3, "beam@4": [0.0] * 3, "beam@16": [0.0] * 3}
    assert reading(6.0).opening(book(("beam@4", 4), ("vote", 1))) == 0.0


def test_an_opening_is_a_usual_purchase_and_no_more_than_there_is():
    many = book(*[("vote", 2)] * 5)
    assert reading(6.0).opening(many) == 12.0
    assert reading(0.0).opening(many) == 0.0
    assert reading(6.0).opening(book(("vote", 2))) == 8.0
    assert reading(6.0, np.array([[3, 4]] * 3)).opening(many) == 9.0


class LongPrompts(PerSample):
    """Reading costs 0, 6 and 12; a candidate 1."""

    def predict(self, prompts, arm, n):
        return 6.0 * np.asarray(prompts, dtype=np.float64) + n

    def predict_one(self, prompt, arm, n):
        return 6.0 * prompt + n


def test_long_prompts_cost_more_to_read_and_an_opening_is_that_of_a_usual_one():
    found = Reading(problem(3, 100.0, arm(), costs=LongPrompts()), {"vote": "vote"})
    assert found.fixed["vote"].tolist() == [0.0, 6.0, 12.0]
    assert [found.worthwhile(prompt, "vote", 2) for prompt in range(3)] == [2, 6, 12]
    assert found.opening(book(*[("vote", 2)] * 5)) == 12.0
