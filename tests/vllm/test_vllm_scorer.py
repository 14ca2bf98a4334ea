"""The vLLM scorer on the lab's process reward model: the suite, and against the embedded scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from vllm_world import solution, story

from apportion.actors.conformance import check_scorer
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec
from apportion.costs import attended
from apportion.types import Message, Messages, Score

Run = Callable[[Any], Any]

LONG: Messages = (Message("user", "Eve has 31 coins. She buys 4 more. She loses 9. She doubles them. " * 4),)
"""Of several blocks of the cache."""
STEPS = ("31 + 4 = 35", "35 - 9 = 26", "26 * 2 = 52", "Answer: 52")


def test_conformance(run: Run, prm: Any, prm_spec: ModelSpec) -> None:
    run(check_scorer(prm, describe(prm_spec)))


def test_scores_are_those_of_the_embedded_scorer(run: Run, prm: Any, prm_spec: ModelSpec) -> None:
    from apportion.actors.prm import build_scorer

    embedded = build_scorer(replace(prm_spec, engine="embedded"))
    asked = [
        Score("prm", story(number), (solution(number), solution(number, 1), solution(number)[:1]))
        for number in range(10, 60)
    ]

    async def both() -> list[Any]:
        scorers = (prm, embedded)
        return [await asyncio.gather(*(scorer.score(request) for request in asked)) for scorer in scorers]

    ours, theirs = run(both())
    run(embedded.close())
    flat = [[s for reply in replies for scores in reply.scores for s in scores] for replies in (ours, theirs)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-3)
    assert len(flat[0]) == 5 * len(asked)
    assert min(flat[0]) < 0.1
    assert max(flat[0]) > 0.9


def test_only_what_is_new_is_run(run: Run, prm: Any, prm_spec: ModelSpec) -> None:
    """A search scores longer and longer beginnings; the same response again costs nothing."""
    described = describe(prm_spec)
    prompt = described.count_prompt(LONG)
    length = prompt
    for count in range(1, len(STEPS) + 1):
        length += described.count_text(STEPS[count - 1]) + 1
        reply = run(prm.score(Score("prm", LONG, (STEPS[:count],))))
        assert reply.usage.prompt_tokens + reply.usage.cached_tokens == length
        assert reply.usage.attended == attended(reply.usage.cached_tokens, reply.usage.prompt_tokens)
        if count > 1:
            assert reply.usage.prompt_tokens < 0.5 * prompt
    again = run(prm.score(Score("prm", LONG, (STEPS, STEPS[:2]))))
    assert (again.usage.prompt_tokens, again.usage.attended, again.usage.busy_seconds) == (0, 0, 0.0)
    assert again.scores == (reply.scores[0], reply.scores[0][:2])


def test_responses_asked_together_are_run_once_where_they_are_alike(run: Run, prm: Any) -> None:
    messages: Messages = (Message("user", "Finn has 62 cards. " * 8),)
    one, other = (*STEPS[:3], "Answer: 1"), (*STEPS[:3], "Answer: 2")
    reply = run(prm.score(Score("prm", messages, (one, one, other))))
    alone = run(prm.score(Score("prm", messages, (STEPS[:3],))))
    assert alone.usage.prompt_tokens == 0
    assert reply.scores[0] == reply.scores[1]
    assert reply.scores[2][:3] == reply.scores[0][:3] == alone.scores[0]
    whole = reply.usage.prompt_tokens + reply.usage.cached_tokens
    assert reply.usage.prompt_tokens < 0.5 * whole


def test_a_score_that_was_forgotten_is_found_again(run: Run, prm: Any) -> None:
    """vLLM's cache may still hold what the memory does not: its answer then lacks the place of the score."""
    messages: Messages = (Message("user", "Gus has 18 shells. " * 8),)
    before = run(prm.score(Score("prm", messages, (STEPS,))))
    prm._memory.scores.clear()
    after = run(prm.score(Score("prm", messages, (STEPS,))))
    assert after.scores[0] == pytest.approx(before.scores[0], abs=1e-4)
    assert not prm._under_way


def test_a_cancelled_score_leaves_nothing_waiting(run: Run, prm: Any) -> None:
    asked = Score("prm", story(77), tuple((*solution(77, wrong), str(wrong)) for wrong in range(200)))

    async def cancel() -> int:
        first, second = (asyncio.ensure_future(prm.score(asked)) for _ in range(2))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        scores = (await second).scores
        return len(scores)

    assert run(cancel()) == 200
    assert prm._running.llm.output_processor.get_num_unfinished_requests() == 0
