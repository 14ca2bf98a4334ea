"""Answers that make no sense: each is a named error of its request, charged in full, and the engine goes on."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from endpoint_server import KEY, EndpointServer, says
from endpoint_world import draw, endpoint, failure, with_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.actors.conformance import ask, texts
from apportion.actors.endpoint import LOST_IN_A_ROW, EndpointEngine
from apportion.actors.endpoint_answers import Answered, Asked, flattened, read_answer, read_models
from apportion.actors.endpoint_describe import describe
from apportion.actors.endpoint_http import NonsenseError, Secret, retry_after
from apportion.actors.top_logprobs import stats_of
from apportion.errors import BatchError, EngineError
from apportion.types import Finish, Generated


def answer(**changes: Any) -> str:
    """A good answer with parts replaced; `...` leaves one out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Answer: 15"}, "finish_reason": "stop"}
    whole = {"choices": [choice], "usage": {"prompt_tokens": 30, "completion_tokens": 5}}
    for path, value in changes.items():
        part: Any = whole
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        for step in parents:
            part = part[step]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    return json.dumps(whole)


PAGE = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>nginx</body></html>"
NONSENSE = {
    "no choices": (answer(choices=...), "no choices"),
    "empty choices": (answer(choices=[]), "no choices"),
    "null choices": (answer(choices=None), "no choices"),
    "a choice that is text": (answer(choices=["Answer: 15"]), "a choice that is 'Answer: 15'"),
    "broken JSON": ('{"choices": [', "broken JSON"),
    "nothing": ("", "it is empty"),
    "a list": ("[1, 2]", r"\[1, 2\] instead of a JSON object"),
    "nested without end": ("[" * 100000, "broken JSON"),
    "a page": (PAGE, "an HTML page"),
    "an error that says 200": (json.dumps({"error": {"message": "upstream"}}), "an error under a status of 200"),
    "null content": (answer(choices__0__message__content=None), "content that is None"),
    "content that is a number": (answer(choices__0__message__content=15), "content that is 15"),
    "content in parts": (answer(choices__0__message__content=[{"type": "text"}]), "content that is"),
    "no message": (answer(choices__0__message=...), "a message that is None"),
    "no finish reason": (answer(choices__0__finish_reason=None), "finish_reason None"),
    "tools": (answer(choices__0__finish_reason="tool_calls"), "finish_reason 'tool_calls'"),
    "a finish reason that is a list": (answer(choices__0__finish_reason=["stop"]), "finish_reason"),
    "no usage": (answer(usage=...), "no usage"),
    "null usage": (answer(usage=None), "no usage"),
    "no completion tokens": (answer(usage__completion_tokens=...), "usage.completion_tokens is None"),
    "tokens in words": (answer(usage__prompt_tokens="thirty"), "usage.prompt_tokens is 'thirty'"),
    "tokens with a point": (answer(usage__prompt_tokens=30.5), "usage.prompt_tokens is 30.5"),
    "true tokens": (answer(usage__prompt_tokens=True), "usage.prompt_tokens is True"),
    "tokens below zero": (answer(usage__completion_tokens=-1), "usage.completion_tokens is -1"),
    "more cached than read": (answer(usage__prompt_tokens_details={"cached_tokens": 31}), "31 cached tokens"),
    "logprobs of another form": (answer(choices__0__logprobs={"content": [{"p": 1}]}), "log-probabilities"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_named_and_the_next_request_is_answered(server: EndpointServer, name: str) -> None:
    body, why = NONSENSE[name]
    spec = endpoint(server, retries=0, charged_retries=0, logprobs=1)
    server.script.extend([says(body), None])

    async def both(engine: EndpointEngine) -> list[Generated | BaseException]:
        first = await asyncio.gather(engine.generate(ask("policy", [1], tokens=20)), return_exceptions=True)
        return [*first, await engine.generate(ask("policy", [1]))]

    wrong, right = with_engine(spec, both)
    assert isinstance(wrong, EngineError)
    assert not getattr(wrong, "broken", False)
    with pytest.raises(EngineError, match=f"makes no sense: .*{why}"):
        raise wrong
    assert wrong.usage is not None
    assert wrong.usage.completion_tokens == 20
    assert wrong.usage.prompt_tokens == describe(spec).count_prompt(ask("policy").messages)
    assert isinstance(right, Generated)


def test_a_page_may_call_itself_html(server: EndpointServer) -> None:
    server.always = says(PAGE, "text/html")
    assert "an HTML page" in str(failure(endpoint(server, retries=0, charged_retries=0), ask("policy", [1])))


def test_nonsense_does_not_show_the_key(server: EndpointServer) -> None:
    server.always = says(f'["you sent {KEY}"]')
    assert "you sent ***" in str(failure(endpoint(server), ask("policy", [1])))


@pytest.mark.parametrize(
    ("changes", "text", "finish"),
    [
        ({"choices__0__message__content": ""}, "", Finish.END),
        ({"choices__0__message__content": "a", "choices__0__finish_reason": "length"}, "a", Finish.LENGTH),
        ({"choices__0__message__content": None, "choices__0__finish_reason": "length"}, "", Finish.LENGTH),
        ({"choices__0__message__content": "a", "choices__0__finish_reason": "content_filter"}, "a", Finish.END),
        ({"choices__0__message": {"content": None, "refusal": "I will not"}}, "", Finish.END),
        ({"choices__0__message": {"content": None, "reasoning_content": "Hm."}}, "", Finish.END),
        ({"choices__0__message": {"content": None, "reasoning": "Hm."}}, "", Finish.END),
        ({"choices__0__finish_reason": "eos"}, "Answer: 15", Finish.END),
        ({"choices__0__finish_reason": "max_tokens"}, "Answer: 15", Finish.LENGTH),
        ({"choices__0__message__content": "a\ud800", "choices__0__stop_reason": 7}, "a\ud800", Finish.END),
        ({"usage__prompt_tokens_details": None}, "Answer: 15", Finish.END),
    ],
)
def test_odd_answers_that_make_sense(changes: dict[str, Any], text: str, finish: Finish) -> None:
    answered = read_answer(answer(**changes).encode(), Asked(True, ()))
    assert (answered.completion.text, answered.completion.finish, answered.completion.tokens) == (text, finish, 5)


def test_reasoning_that_only_the_total_holds_is_counted() -> None:
    """As some servers bill it: 5 tokens were shown, and 100 reasoned before."""
    counts = {"prompt_tokens": 7, "completion_tokens": 5}
    assert read_answer(answer(usage={**counts, "total_tokens": 112}).encode(), Asked(True, ())).completion.tokens == 105
    assert read_answer(answer(usage={**counts, "total_tokens": 12}).encode(), Asked(True, ())).completion.tokens == 5
    assert read_answer(answer(usage={**counts, "total_tokens": None}).encode(), Asked(True, ())).completion.tokens == 5


def test_sglang_tells_its_stop_string_by_another_name() -> None:
    completion = read_answer(answer(choices__0__matched_stop="\n").encode(), Asked(True, ("\n",))).completion
    assert (completion.text, completion.finish) == ("Answer: 15\n", Finish.STOP)
    ended = read_answer(answer(choices__0__matched_stop=151645).encode(), Asked(True, ("\n",))).completion
    assert (ended.text, ended.finish) == ("Answer: 15", Finish.END)


def test_an_endpoint_that_only_answers_nonsense_is_not_paid_the_whole_budget(server: EndpointServer) -> None:
    server.always = says(answer(choices__0__finish_reason="tool_calls"))

    async def ask_on(engine: EndpointEngine) -> list[EngineError]:
        found: list[EngineError] = []
        while not isinstance(found[-1] if found else None, BatchError):
            try:
                await engine.generate(ask("policy", [len(found)]))
            except EngineError as error:
                found.append(error)
        return found

    *before, last = with_engine(endpoint(server), ask_on)
    assert len(before) == LOST_IN_A_ROW
    assert "run the same command again" in str(last)


def test_an_empty_completion_is_one(server: EndpointServer) -> None:
    server.always = says(answer(choices__0__message__content=""))
    assert texts(draw(endpoint(server), ask("policy", [1, 2]))) == ["", ""]


KEYS = """choices message content text usage prompt_tokens completion_tokens data finish_reason logprobs
top_logprobs token_logprobs error id prompt_tokens_details cached_tokens refusal stop_reason"""
PLACES = ("choices", "choices__0__message", "choices__0__finish_reason", "choices__0__logprobs", "usage")
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=6),
    max_leaves=30,
)


def outcome(read: Callable[[], object]) -> object:
    """What a reader makes of an answer, or why it makes nothing of it."""
    try:
        return read()
    except NonsenseError as error:
        return f"nonsense: {error}"


@settings(max_examples=300)
@given(anything, st.booleans())
def test_whatever_comes_is_an_answer_or_named(value: Any, chat: bool) -> None:
    body = json.dumps(value).encode()
    assert isinstance(outcome(lambda: read_answer(body, Asked(chat, ("x",)))), Answered | str)
    assert isinstance(outcome(lambda: read_models(body)), dict | str)


@settings(max_examples=300)
@given(changes=st.dictionaries(st.sampled_from(PLACES), anything))
def test_a_good_answer_with_a_part_replaced_is_an_answer_or_named(changes: dict[str, Any]) -> None:
    # The innermost parts first, as what holds them may go.
    body = answer(**dict(sorted(changes.items(), key=lambda item: -len(item[0])))).encode()
    assert isinstance(outcome(lambda: read_answer(body, Asked(True, ()))), Answered | str)


logprob = st.floats(-20.0, 0.0)
positions = st.lists(st.tuples(logprob, st.lists(logprob, min_size=1, max_size=5)), min_size=1, max_size=6)


@given(
    st.lists(st.tuples(logprob, st.lists(logprob, min_size=1, max_size=5)), min_size=1, max_size=6),
    st.integers(6, 10**6),
)
def test_statistics_keep_to_their_ranges(rows: list[tuple[float, list[float]]], vocabulary: int) -> None:
    stats = stats_of(flattened([drawn for drawn, _ in rows], [top for _, top in rows]), len(rows), vocabulary)
    assert stats is not None
    assert stats.mean_logprob <= 0.0
    assert stats.mean_entropy >= 0.0
    assert stats.self_certainty >= 0.0
    assert all(map(math.isfinite, (stats.mean_logprob, stats.mean_entropy, stats.self_certainty)))


def test_statistics_of_a_known_distribution() -> None:
    # Two tokens are told, half and a quarter; the last quarter is spread over the other two of four.
    top = [math.log(0.5), math.log(0.25)]
    stats = stats_of(flattened([math.log(0.5)], [top]), 1, 4)
    assert stats is not None
    entropy = -(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 0.25 * math.log(0.125))
    certainty = -(math.log(0.5) + math.log(0.25) + 2 * math.log(0.125)) / 4 - math.log(4)
    assert stats.mean_entropy == pytest.approx(entropy)
    assert stats.self_certainty == pytest.approx(certainty)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_waits_that_are_asked_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_secret_is_shown_nowhere() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret!r}{secret}"
    assert secret.strike(f"a {KEY} b") == "a *** b"
    # A dummy may be a word of the answer.
    assert Secret("EMPTY").strike_content("THE BOX IS EMPTY") == "THE BOX IS EMPTY"
