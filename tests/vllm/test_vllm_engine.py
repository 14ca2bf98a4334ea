"""The vLLM policy engine on the lab's model: the suite, and against the embedded engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from vllm_world import story

from apportion.actors.conformance import ask, check_engine, texts
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec
from apportion.errors import EngineError
from apportion.types import Generate, Message, Sampling

Run = Callable[[Any], Any]

WRITTEN = Sampling(temperature=0.0, max_tokens=64)


@pytest.fixture(scope="module")
def embedded(run: Run, policy_spec: ModelSpec) -> Any:
    from apportion.actors.embedded import build_engine

    engine = build_engine(replace(policy_spec, engine="embedded", engine_args={}))
    yield engine
    run(engine.close())


def test_conformance(run: Run, policy: Any, policy_spec: ModelSpec) -> None:
    run(check_engine(policy, describe(policy_spec)))


def test_greedy_answers_are_those_of_the_embedded_engine(run: Run, policy: Any, embedded: Any) -> None:
    """Texts, tokens, reasons for ending and statistics, with a prefix and stop strings too."""
    shapes = [WRITTEN, replace(WRITTEN, stop=("\n",)), replace(WRITTEN, max_tokens=5)]
    asked = [Generate("policy", story(number), (0,), shape) for number in range(10, 30) for shape in shapes]
    asked += [replace(request, prefix="Ann + 3 = 7\n") for request in asked[::4]]

    async def both() -> list[Any]:
        return [await asyncio.gather(*(one.generate(request) for request in asked)) for one in (policy, embedded)]

    ours, theirs = run(both())
    for left, right in zip(ours, theirs, strict=True):
        (a,), (b,) = left.completions, right.completions
        assert (a.text, a.tokens, a.finish) == (b.text, b.tokens, b.finish)
        for name in ("mean_logprob", "mean_entropy", "self_certainty"):
            assert getattr(a.stats, name) == pytest.approx(getattr(b.stats, name), abs=2e-3), name
        assert a.stats.exact


def test_prompts_that_were_run_are_cached(run: Run, policy: Any, policy_spec: ModelSpec) -> None:
    messages = (Message("user", "Dan has 70 pens. He buys 11 more. He gives 5 away. " * 3),)
    request = Generate("policy", messages, (1, 2, 3), Sampling(1.0, max_tokens=4))
    prompt = describe(policy_spec).count_prompt(messages)
    first, second = run(policy.generate(request)), run(policy.generate(request))
    assert first.usage.cached_tokens == 0
    assert 0.5 * prompt < second.usage.cached_tokens < prompt
    assert second.usage.prompt_tokens == prompt - second.usage.cached_tokens
    assert texts(first) == texts(second)


def test_busy_seconds_are_no_more_than_the_time_there_was(run: Run, policy: Any) -> None:
    asked = [ask("policy", range(100 + number, 108 + number), tokens=8 + number) for number in range(40)]

    async def timed() -> tuple[float, float]:
        began = time.perf_counter()
        replies = await asyncio.gather(*map(policy.generate, asked))
        return time.perf_counter() - began, sum(reply.usage.busy_seconds for reply in replies)

    whole, busy = run(timed())
    # What the loop itself takes before the first and after the last token is nobody's.
    assert 0.5 * whole < busy <= whole


def test_a_cancelled_request_frees_the_engine(run: Run, policy: Any) -> None:
    llm = policy._running.llm
    long = ask("policy", range(256), tokens=400)

    async def cancel() -> tuple[int, int]:
        task = asyncio.ensure_future(policy.generate(long))
        while llm.output_processor.get_num_unfinished_requests() < 256:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return llm.output_processor.get_num_unfinished_requests(), policy._running.meter._in_flight

    assert run(cancel()) == (0, 0)
    # Were they still running, none of these would be alone: a hundred steps would take as long as theirs.
    assert run(policy.generate(ask("policy", (1,), tokens=3))).usage.completion_tokens <= 3


def test_what_vllm_refuses_is_named_and_harms_nothing_else(run: Run, policy: Any) -> None:
    async def beside() -> list[Any]:
        hot = policy.generate(ask("policy", temperature=3.0))
        return await asyncio.gather(hot, policy.generate(ask("policy")), return_exceptions=True)

    refused, answered = run(beside())
    assert type(refused) is EngineError
    assert "temperature must be in [0, 2]" in str(refused)
    assert len(answered.completions) == 3
