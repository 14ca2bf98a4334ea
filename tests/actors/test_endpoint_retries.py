"""What the openai engine tries again, what that costs, and what no other attempt can change."""

from __future__ import annotations

import pytest
from aiohttp import web
from endpoint_server import (
    KEY,
    EndpointServer,
    Misbehaviour,
    answers,
    drips,
    floods,
    hangs,
    hangs_up,
    refuses,
    says,
)
from endpoint_world import draw, endpoint, failure

from apportion.actors.conformance import ask, texts
from apportion.actors.endpoint_describe import describe
from apportion.costs import Unit
from apportion.errors import BatchError
from apportion.scheduler.meter import Meter

UNCHARGED: dict[str, Misbehaviour] = {
    "429": refuses(429, "slow down", Retry_After="0"),
    "429 with milliseconds": refuses(429, "slow down", Retry_After_Ms="3"),
    "500": refuses(500, "oops"),
    "503": refuses(503, "overloaded"),
    "529": refuses(529, "overloaded"),
}
CHARGED: dict[str, Misbehaviour] = {
    "hangs": hangs,
    "drips": drips,
    "floods": floods,
    "hangs up": hangs_up,
    "504": refuses(504, "gateway timeout"),
    "half of it": says('{"choices": [{"message": {"content": "A'),
}


@pytest.mark.parametrize("name", UNCHARGED)
def test_refusals_that_cost_nothing_are_tried_again_for_nothing(server: EndpointServer, name: str) -> None:
    spec, request = endpoint(server, "chat", retries=3, charged_retries=0), ask("policy", [4])
    expected = draw(spec, request)
    server.script.extend([UNCHARGED[name]] * 3)
    again = draw(spec, request)
    assert texts(again) == texts(expected)
    assert again.usage.prompt_tokens == expected.usage.prompt_tokens
    server.script.extend([UNCHARGED[name]] * 4)
    wrong = failure(spec, request)
    assert name.split()[0] in str(wrong)
    assert wrong.usage is None


@pytest.mark.parametrize("name", CHARGED)
def test_what_may_have_been_charged_is_charged_in_full_and_tried_again_once(server: EndpointServer, name: str) -> None:
    spec, request = endpoint(server, "chat", timeout_s=1.0), ask("policy", [4], tokens=20)
    expected = draw(spec, request)
    prompt = describe(spec).count_prompt(request.messages)
    server.script.append(CHARGED[name])
    again = draw(spec, request)
    assert texts(again) == texts(expected)
    assert again.usage.prompt_tokens == 2 * prompt
    assert again.usage.completion_tokens == expected.usage.completion_tokens + 20
    asked = len(server.asked)
    server.script.extend([CHARGED[name]] * 2)
    wrong = failure(spec, request)
    assert len(server.asked) - asked == 2
    assert wrong.usage is not None
    assert (wrong.usage.prompt_tokens, wrong.usage.completion_tokens) == (2 * prompt, 40)
    meter = Meter({"policy": describe(spec)})
    for unit in (Unit.TOKENS, Unit.DOLLARS, Unit.SAMPLES):
        assert meter.cost(request, wrong.usage).of(unit) <= meter.bound(request).of(unit)


def test_completions_that_came_are_charged_where_one_of_them_failed(server: EndpointServer) -> None:
    server.script.extend([refuses(400, "this one no"), None, None])
    wrong = failure(endpoint(server, "chat"), ask("policy", [1, 2, 3]))
    assert "400: this one no" in str(wrong)
    assert wrong.usage is not None
    assert wrong.usage.prompt_tokens == server.charged["prompt"] > 0
    assert wrong.usage.completion_tokens == server.charged["completion"] > 0


@pytest.mark.parametrize(
    ("status", "code", "says_what"),
    [
        (400, None, "change the request"),
        (401, None, "environment variable TEST_KEY"),
        (403, None, "environment variable TEST_KEY"),
        (404, None, "check `model`"),
        (402, None, "no credit"),
        (429, "insufficient_quota", "no credit"),
    ],
)
def test_what_another_attempt_cannot_change_is_not_tried_again(
    server: EndpointServer, status: int, code: str | None, says_what: str
) -> None:
    server.always = refuses(status, f"no {KEY}", code)
    wrong = failure(endpoint(server), ask("policy", [1]))
    assert says_what in str(wrong)
    assert len(server.asked) == 1
    assert wrong.usage is None
    # Whoever asks next would be refused too: the job had better stop, and be resumed.
    assert isinstance(wrong, BatchError) == (status not in (400, 403))


def test_a_wait_longer_than_any_job_ends_it(server: EndpointServer) -> None:
    server.always = refuses(429, "come back tomorrow", Retry_After="86400")
    wrong = failure(endpoint(server), ask("policy", [1]))
    assert "86,400 s" in str(wrong)
    assert isinstance(wrong, BatchError)


def test_an_error_page_in_the_place_of_an_error(server: EndpointServer) -> None:
    page = f"<!DOCTYPE html><html><body>{'Bad Gateway' * 500}</body></html>"
    server.always = answers(lambda: web.Response(status=502, text=page, content_type="text/html"))
    wrong = failure(endpoint(server, retries=1), ask("policy", [1]))
    assert "502: an HTML page" in str(wrong)
    assert len(str(wrong)) < 500
