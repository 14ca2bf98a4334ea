"""Pools of one task as one: arms by name, prompts by id, unless the texts say that they are others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pool_world import make_pool

from apportion.difficulty.pools import Reuse
from apportion.difficulty.together import chosen, together
from apportion.errors import DataError


def dealt(pool, arm):
    """{prompt: its candidates' answers}."""
    deck = pool.deck(arm)
    return {
        prompt: [pool.answers[at][number] if number >= 0 else None for number in deck.answer[begin:end]]
        for at, (prompt, begin, end) in enumerate(zip(pool.ids, deck.begin, deck.begin[1:], strict=False))
    }


def test_the_same_prompts_with_other_arms_are_merged_by_prompt():
    one = make_pool({"a": {"p": [("4", True), ("5", False)], "q": [(None, False)]}}, {"p": "2+2?", "q": "3+3?"})
    two = make_pool({"b": {"q": [("6", True)], "p": [("5", False), ("9", False)]}}, {"p": "2+2?", "q": "3+3?"})
    pool = together([one, two])
    assert pool.ids == ["p", "q"]
    assert pool.texts == ["2+2?", "3+3?"]
    assert dealt(pool, "a") == {"p": ["4", "5"], "q": [None]}
    assert dealt(pool, "b") == {"p": ["5", "9"], "q": ["6"]}
    numbers = pool.deck("a").answer[1], pool.deck("b").answer[0]
    assert numbers[0] == numbers[1], "equal answers of a prompt have one number in all decks"
    assert pool.deck("b").correct.tolist() == [False, False, True]


def test_other_prompts_of_the_same_arm_are_put_together():
    one, two = make_pool({"a": {"p": [("4", True)]}}), make_pool({"a": {"r": [("7", False)], "p": [("8", False)]}})
    assert dealt(together([one, two]), "a") == {"p": ["4", "8"], "r": ["7"]}


def test_the_same_id_with_another_text_is_another_prompt():
    one = make_pool({"a": {"0": [("4", True)]}}, {"0": "2+2?"}, "first")
    two = make_pool({"a": {"0": [("5", True)]}}, {"0": "2+3?"}, "second")
    assert dealt(together([one, two]), "a") == {"0": ["4"], "second/0": ["5"]}


def test_what_is_paid_once_and_how_sure_a_response_was_is_kept():
    """Else the prompt's reading, which `flops` leaves out, would be free, and a vote by self-certainty the majority."""
    one, two = make_pool({"a": {"p": [("4", True)], "q": [("5", True)]}}), make_pool({"a": {"q": [("5", True)] * 2}})
    decks = [
        replace(
            one.deck("a"), flops=np.array([3.0, 3.0]), reuse=Reuse(np.array([5.0, 6.0]), np.ones(2), np.zeros(2, int))
        ),
        replace(
            two.deck("a"),
            flops=np.full(2, 3.0),
            reuse=Reuse(np.array([6.0]), np.full(2, 2.0), np.zeros(2, int)),
            certainty=np.array([7.0, 8.0]),
        ),
    ]
    deck = together([replace(one, decks={"a": decks[0]}), replace(two, decks={"a": decks[1]})]).deck("a")
    assert deck.reuse is not None
    assert deck.reuse.prompt.tolist() == [5.0, 6.0]
    assert deck.reuse.once.tolist() == [1.0, 1.0, 2.0, 2.0]
    # Nobody knows whether responses of two pools are alike.
    assert deck.reuse.like[1] != deck.reuse.like[2] == deck.reuse.like[3]
    assert deck.certainty is not None
    assert np.isnan(deck.certainty[:2]).all()
    assert deck.certainty[2:].tolist() == [7.0, 8.0]
    plain = together([one, replace(two, decks={"a": decks[1]})]).deck("a")
    assert plain.reuse is plain.flops is None, "what leaves the prompt out is not put beside what does not"


def test_arms_are_chosen_by_name():
    one, two = make_pool({"a": {"p": [("4", True)]}, "b": {"p": [("4", True)]}}), make_pool({"c": {"p": [("4", True)]}})
    assert [list(pool.decks) for pool in chosen([one, two], ["a"])] == [["a"]]
    assert chosen([one, two], None) == [one, two]
    with pytest.raises(DataError, match="no pool has an arm 'bb': did you mean 'b'"):
        chosen([one, two], ["bb"])
