"""The bound of a request is never below what it turns out to cost: the ledger's law rests on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.actors.protocols import Describer, Embedder
from apportion.actors.registry import build_engine, build_scorer, describe
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.lab import lab_path
from apportion.scheduler.meter import MADE, Meter
from apportion.types import Embed, Generate, Message, Request, Sampling, Score

SMALL = ModelSpec("small", "fake", Role.POLICY, "fake", engine_args={"max_model_len": 160})
PRM = ModelSpec("prm", "fake", Role.SCORER, "fake", engine_args={"max_model_len": 160})
BOUNDED = (Unit.TOKENS, Unit.FLOPS, Unit.SAMPLES)
words = st.lists(st.sampled_from(["Ann", "has", "12", "boxes.", "a+b", "é"]), min_size=1, max_size=20).map(" ".join)
STORY = "Ann has 12 boxes. She buys 5 more. She loses 3. How many boxes does Ann have now?"


def costs_no_more_than_its_bound(specs: tuple[ModelSpec, ModelSpec], request: Request) -> None:
    meter = Meter({spec.name: describe(spec) for spec in specs})

    async def ask() -> tuple[float, ...]:
        if isinstance(request, Generate):
            engine = build_engine(specs[0])
            reply = await engine.generate(request)
            await engine.close()
            charged = meter.charge(request, reply)
        elif isinstance(request, Embed):
            looking = build_engine(specs[0])
            assert isinstance(looking, Embedder)
            charged = meter.charge(request, await looking.embed(request))
            await looking.close()
        else:
            scorer = build_scorer(specs[1])
            scored = await scorer.score(request)
            await scorer.close()
            charged = meter.charge(request, scored)
        return tuple(charged.of(unit) for unit in BOUNDED)

    bound = meter.bound(request)
    for unit, charged in zip(BOUNDED, asyncio.run(ask()), strict=True):
        assert charged <= bound.of(unit), unit


@settings(max_examples=60)
@given(
    text=words,
    prefix=st.sampled_from(["", "1 + 1 = 2\n"]),
    seeds=st.lists(st.integers(0, 2**62), min_size=1, max_size=5, unique=True),
    most=st.integers(1, 200),
    stop=st.sampled_from([(), ("\n",)]),
)
def test_generate_on_the_fake(text: str, prefix: str, seeds: list[int], most: int, stop: tuple[str, ...]) -> None:
    sampling = Sampling(max_tokens=most, stop=stop)
    request = Generate("small", (Message("user", text),), tuple(seeds), sampling, prefix)
    costs_no_more_than_its_bound((SMALL, PRM), request)


@settings(max_examples=60)
@given(text=words, responses=st.lists(st.lists(words, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4))
def test_score_on_the_fake(text: str, responses: list[tuple[str, ...]]) -> None:
    costs_no_more_than_its_bound((SMALL, PRM), Score("prm", (Message("user", text),), tuple(responses)))


@pytest.mark.parametrize("cache", [0, 16])
def test_real_models(cache: int) -> None:
    real = (
        replace(SMALL, engine="embedded", path=str(lab_path("lab:small")), engine_args={"prefix_cache_mb": cache}),
        replace(PRM, engine="embedded", path=str(lab_path("lab:prm")), engine_args={"prefix_cache_mb": cache}),
    )
    asked = (Message("user", STORY),)
    for prefix, most in (("", 40), ("12 + 5 = 17\n", 12), ("", 1)):
        sampling = Sampling(temperature=1.0, max_tokens=most)
        costs_no_more_than_its_bound(real, Generate("small", asked, (1, 2, 3), sampling, prefix))
    costs_no_more_than_its_bound(real, Embed("small", asked))
    steps = ("12 + 5 = 17", "17 - 3 = 14", "Answer: 14")
    costs_no_more_than_its_bound(real, Score("prm", asked, (steps, steps[:1], (*steps, "what? ~ é"))))


pieces = st.lists(st.sampled_from(["Ann ", "12", "+", "\n", "é", "ﷺ", "  ", "Answer: ", "x" * 9]), max_size=12).map(
    "".join
)


@settings(max_examples=60)
@given(prefix=pieces, steps=st.lists(pieces, min_size=1, max_size=3))
def test_a_bound_without_counting_is_never_below_the_counted_one(prefix: str, steps: list[str]) -> None:
    specs = [ModelSpec("small", "embedded", Role.POLICY, str(lab_path("lab:small")))]
    specs.append(ModelSpec("prm", "embedded", Role.SCORER, str(lab_path("lab:prm"))))
    meter = Meter({spec.name: describe(spec) for spec in specs})
    asked = (Message("user", STORY),)
    for request in (
        Generate("small", asked, (1, 2), Sampling(max_tokens=9), prefix),
        Score("prm", asked, (tuple(steps),)),
    ):
        loose, counted = meter.bound(request), meter.bound(request, exact=True)
        assert all(counted.of(unit) <= loose.of(unit) for unit in BOUNDED)


def test_a_conversation_that_a_strategy_made_is_counted_once_and_not_kept_for_ever() -> None:
    """Counting renders and tokenizes it on the driver: nothing else about a request takes as long."""
    described, asked = describe(SMALL), Counter[str]()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(described, name)

        def count_prompt(self, messages: tuple[Message, ...]) -> int:
            asked[messages[0].content] += 1
            return described.count_prompt(messages)

    meter = Meter({"small": cast("Describer", Counting())})
    for at in range(MADE + 1):
        made = (Message("user", f"question {at}"),)
        room = meter.room_beside("small", made)
        for exact in (False, True):
            bound = meter.bound(Generate("small", made, (1,), Sampling(max_tokens=1)), exact)
        assert bound.tokens == 160 - room + 1
    assert set(asked.values()) == {1}
    meter.room_beside("small", (Message("user", "question 0"),))
    assert asked["question 0"] == 2
