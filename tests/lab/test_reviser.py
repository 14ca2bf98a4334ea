"""The reviser: what it is trained on, its shape, and a chain of it through the real engine."""

from __future__ import annotations

import asyncio
import json
import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from apportion.actors.embedded import build_engine
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED
from apportion.lab.models import SHAPES, config_of, parameter_count
from apportion.lab.paths import lab_path
from apportion.lab.reviser_data import MAX_ATTEMPTS, Tried, conversation_text, edit_distance, make_row, row_batches
from apportion.lab.revisions import judge, talk
from apportion.lab.sampling import MAX_TOKENS, Completion
from apportion.policies import conformance
from apportion.policies.revise import Revise
from apportion.types import Draft, Finish, Generate, Generated, Message, Sampling

PROBLEM = "Ann has 12 boxes. She buys 5 more. She loses 3. How many boxes does Ann have now?"
RIGHT = "12 + 5 = 17\n17 - 3 = 14\nAnswer: 14"
WRONG = tuple(f"12 + 5 = {one}\n{one} - 3 = {one - 3}\nAnswer: {one - 3}" for one in (16, 18, 22, 117, 7, 27))
NEAR = "12 + 5 = 17\n17 - 3 = 15\nAnswer: 14"


def distance_by_definition(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    @cache
    def of(left: int, right: int) -> int:
        if left == 0 or right == 0:
            return left + right
        changed = of(left - 1, right - 1) + (one[left - 1] != other[right - 1])
        return min(of(left - 1, right) + 1, of(left, right - 1) + 1, changed)

    return of(len(one), len(other))


@given(one=st.lists(st.integers(0, 3), max_size=9), other=st.lists(st.integers(0, 3), max_size=9))
def test_edit_distance(one: list[int], other: list[int]) -> None:
    assert edit_distance(one, other) == distance_by_definition(tuple(one), tuple(other))


def test_rows_are_wrong_attempts_the_nearest_last_and_then_the_right_one() -> None:
    built, rng = lab_tokenizer.build(), random.Random(0)
    rows = [make_row(Tried(PROBLEM, RIGHT, (*WRONG, NEAR)), built, rng, right_share=0.0) for _ in range(200)]
    assert {len(row.attempts) for row in rows} == set(range(MAX_ATTEMPTS + 1))
    for row in rows:
        assert row.solution == RIGHT
        assert len(set(row.attempts)) == len(row.attempts)
        assert set(row.attempts) <= {*WRONG, NEAR}
        assert NEAR not in row.attempts or row.attempts[-1] == NEAR


def test_a_story_has_no_more_attempts_than_were_wrong() -> None:
    built, rng = lab_tokenizer.build(), random.Random(0)
    assert {make_row(Tried(PROBLEM, RIGHT, ()), built, rng, 0.0).attempts for _ in range(20)} == {()}
    assert {len(make_row(Tried(PROBLEM, RIGHT, WRONG[:2]), built, rng, 0.0).attempts) for _ in range(50)} == {0, 1, 2}


def test_some_rows_have_a_right_attempt_last_where_that_is_wanted() -> None:
    built, rng = lab_tokenizer.build(), random.Random(0)
    for wrong in (WRONG, ()):
        rows = [make_row(Tried(PROBLEM, RIGHT, wrong), built, rng, right_share=0.5) for _ in range(300)]
        right = [row for row in rows if RIGHT in row.attempts]
        assert 0.3 < len(right) / len(rows) < 0.5
        assert all(row.attempts[-1] == RIGHT and row.attempts.count(RIGHT) == 1 for row in right)


def test_the_loss_is_on_the_last_alone() -> None:
    built = lab_tokenizer.build()
    rng = random.Random(1)
    rows = [make_row(Tried(PROBLEM, RIGHT, WRONG), built, rng, 0.0) for _ in range(30)]
    (batch,) = row_batches(rows, built, 10**6, rng)
    wanted = built.encode(RIGHT + lab_tokenizer.EOS).ids
    for targets in batch.targets:
        assert targets[targets != IGNORED].tolist() == wanted


def test_shape_and_size() -> None:
    folder = lab_path("lab:reviser")
    assert parameter_count(folder) <= 1_000_000
    assert json.loads((folder / "config.json").read_text()) == config_of(SHAPES["reviser"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == parameter_count(folder)
    assert model.config.max_position_embeddings > 2 * lab_tokenizer.CONTEXT


def test_revise_says_a_chain_as_the_reviser_was_trained() -> None:
    tokens = ChatTokenizer(lab_path("lab:reviser"))
    task = conformance.task(1, verified=False)
    said = Revise(instruction="").conversation(task, [Draft(text, (), 1, Finish.END) for text in WRONG])
    trained = conversation_text(task.messages[0].content, WRONG[-MAX_ATTEMPTS:])
    assert tokens.encode_prompt(said) == tokens.encode(trained)
    assert tokens.encode(trained) == lab_tokenizer.build().encode(trained).ids


def test_a_chain_of_the_real_engine_reads_its_attempts() -> None:
    spec = ModelSpec("reviser", Role.POLICY, "embedded", str(lab_path("lab:reviser")))

    async def written() -> list[str]:
        engine = build_engine(spec)
        texts: list[str] = []
        try:
            for talked in ((), WRONG[:1], (RIGHT,), WRONG[:3]):
                turns = [turn for text in talked for turn in (Message("assistant", text), Message("user", ""))]
                request = Generate("reviser", (Message("user", PROBLEM), *turns), (1,), Sampling(0.0, 1.0, 60))
                reply: Generated = await engine.generate(request)
                texts.append(reply.completions[0].text)
        finally:
            await engine.close()
        return texts

    first, *revised = asyncio.run(written())
    assert all("Answer: " in text for text in (first, *revised))
    assert any(text != first for text in revised)


def test_a_talk_has_room_for_an_answer() -> None:
    built = lab_tokenizer.build()
    long = [Completion("1" * 255 + str(at), 256, False) for at in range(5)]
    said = talk(PROBLEM, long, built)
    assert len(built.encode(said).ids) + 1 + MAX_TOKENS <= SHAPES["reviser"].context
    assert said.split("\n")[1:] == [one.text for one in long[-3:]]
    short = [Completion(str(at), 2, True) for at in range(6)]
    assert talk(PROBLEM, short, built) == "\n".join([PROBLEM, "2", "3", "4", "5"])


def test_figures_of_known_chains() -> None:
    right = np.array([[True, True, False], [False, False, True], [True, True, True], [False, True, True]])
    texts = [["a", "a", "b"], ["b", "b", "a"], ["a", "a", "a"], ["b", "a", "a"]]
    found = judge(right, texts, alone=0.5, per_story=2)
    assert found.pass_at_1 == pytest.approx((0.5, 0.75, 0.75))
    # Of five right attempts with a next one, one was lost; of three wrong ones, two were mended.
    assert (found.lost, found.gained) == pytest.approx((1 / 5, 2 / 3))
    assert found.repeated == pytest.approx(5 / 8)


def test_independent_attempts_are_worth_one_each() -> None:
    right = np.random.default_rng(0).random((20_000, 5)) < 0.4
    alike = np.repeat(right[:, :1], 5, axis=1)
    assert judge(right, [["a", "b"]], 0.4, 4).worth == pytest.approx(5.0, rel=0.05)
    assert judge(alike, [["a", "b"]], 0.4, 4).worth == pytest.approx(1.0, rel=0.05)
