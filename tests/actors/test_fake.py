"""The fake: reproducible, with pass rates a test can choose, and a verifier that is worth listening to."""

from __future__ import annotations

import asyncio
import statistics

import pytest
from actor_world import conversation, fake

from apportion.actors.conformance import check_engine, check_scorer
from apportion.actors.fake import FakeEngine, FakeScorer
from apportion.actors.registry import build_engine, build_scorer, describe
from apportion.actors.spec import Role
from apportion.errors import ConfigError, EngineError
from apportion.types import Finish, Generate, Sampling, Score


def generate(text: str, seeds: range, prefix: str = "", **sampling: object) -> list[str]:
    engine = FakeEngine(fake())
    request = Generate("policy", conversation(text), tuple(seeds), Sampling(**sampling), prefix)  # type: ignore[arg-type]
    return [completion.text for completion in asyncio.run(engine.generate(request)).completions]


def test_conformance() -> None:
    async def run() -> None:
        await check_engine(build_engine(fake()), describe(fake()))
        scorer = fake("prm", Role.SCORER)
        await check_scorer(build_scorer(scorer), describe(scorer))

    asyncio.run(run())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_pass_rate_is_the_one_the_prompt_names(rate: float) -> None:
    texts = generate(f"How many? p={rate} answer=17", range(2000))
    right = sum(text.endswith("\nAnswer: 17") for text in texts) / len(texts)
    assert right == pytest.approx(rate, abs=0.04)


def test_prompts_differ_in_pass_rate() -> None:
    rates = []
    for number in range(40):
        finals = [text.split("\n")[-1] for text in generate(f"How many boxes has box {number}? answer=5", range(50))]
        rates.append(finals.count("Answer: 5") / 50)
    assert min(rates) < 0.2
    assert max(rates) > 0.8


def test_wrong_answers_agree_with_each_other() -> None:
    finals = {text.split("\n")[-1] for text in generate("p=0 answer=50", range(300))}
    assert finals == {"Answer: 51", "Answer: 60", "Answer: 48"}


def test_step_by_step_equals_the_tree_a_beam_search_walks() -> None:
    text, steps = "p=1 answer=9", []
    while not steps or not steps[-1].startswith("Answer:"):
        (step,) = generate(text, range(len(steps), len(steps) + 1), prefix="".join(steps), stop=("\n",))
        steps.append(step)
    assert len(steps) >= 3
    assert [step.endswith("\n") for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[-1] == "Answer: 9"
    assert generate(text, range(1), prefix="".join(steps)) == [""]


def test_a_wrong_step_is_not_forgotten() -> None:
    (right,) = generate("p=1 answer=9", range(1), stop=("\n",))
    value = int(right.split()[-1].rstrip("."))
    wrong = right.replace(str(value), str(value + 10))
    finals = {text.split("\n")[-1] for text in generate("p=1 answer=9", range(20), prefix=wrong)}
    assert finals == {"Answer: 19"}


def test_scores_tell_right_from_wrong_with_noise() -> None:
    right_scores, wrong_scores = [], []
    for number in range(60):
        text = f"prompt {number} p=0.5 answer=17"
        responses = tuple(tuple(text.split("\n")) for text in generate(text, range(8)))
        scored = asyncio.run(FakeScorer(fake("prm", Role.SCORER)).score(Score("prm", conversation(text), responses)))
        for steps, scores in zip(responses, scored.scores, strict=True):
            (right_scores if steps[-1] == "Answer: 17" else wrong_scores).append(scores[-1])
    assert statistics.mean(right_scores) > statistics.mean(wrong_scores) + 0.2
    assert min(right_scores) < max(wrong_scores)


def test_max_tokens_cuts() -> None:
    request = Generate("policy", conversation("p=1"), (1,), Sampling(max_tokens=4))
    (completion,) = asyncio.run(FakeEngine(fake()).generate(request)).completions
    assert (completion.tokens, completion.finish) == (4, Finish.LENGTH)


def test_failure_knobs() -> None:
    async def ask(engine: FakeEngine, text: str) -> str:
        try:
            await engine.generate(Generate("policy", conversation(text), (1,), Sampling()))
        except EngineError:
            return "failed"
        return "answered"

    async def run() -> None:
        every = FakeEngine(fake(fail_every=3))
        assert [await ask(every, "x") for _ in range(6)] == ["answered", "answered", "failed"] * 2
        poisoned = FakeEngine(fake(poison="cyanide"))
        assert [await ask(poisoned, text) for text in ("tea", "tea with cyanide")] == ["answered", "failed"]

    asyncio.run(run())


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"latencey.*did you mean 'latency'"):
        FakeEngine(fake(latencey=1.0))
