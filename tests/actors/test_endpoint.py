"""The openai engine against a real HTTP server: conformance, what is asked of it, and what is read from its answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from endpoint_server import KEY, EndpointServer, refuses
from endpoint_world import draw, endpoint, failure, with_engine

from apportion.actors.conformance import ask, check_engine, texts
from apportion.actors.endpoint import EndpointEngine
from apportion.actors.endpoint_describe import describe
from apportion.errors import BatchError, EngineError
from apportion.scheduler.meter import Meter
from apportion.types import Finish, Generated, Message


@pytest.mark.parametrize("shape", ["chat", "completions"])
def test_conformance(server: EndpointServer, shape: str) -> None:
    spec = endpoint(server, shape)
    with_engine(spec, lambda engine: check_engine(engine, describe(spec)))


def test_both_apis_write_what_the_model_writes(server: EndpointServer) -> None:
    request = ask("policy", range(4), prefix="12 + 3 = 15\n")
    chat, completions = (texts(draw(endpoint(server, shape), request)) for shape in ("chat", "completions"))
    assert chat == completions
    assert all("prompt" in asked for asked in server.asked[4:])


def test_each_completion_is_a_call_with_its_own_seed_and_no_more_at_once_than_allowed(server: EndpointServer) -> None:
    spec = endpoint(server, concurrency=3)

    async def many(engine: EndpointEngine) -> list[Generated]:
        return list(await asyncio.gather(*(engine.generate(ask("policy", [seed, seed + 100])) for seed in range(8))))

    replies = with_engine(spec, many)
    assert [len(reply.completions) for reply in replies] == [2] * 8
    assert sorted(asked["seed"] for asked in server.asked) == sorted([*range(8), *range(100, 108)])
    assert 1 < server.most_running <= 3


def test_a_request_says_what_the_arm_and_the_config_say(server: EndpointServer) -> None:
    spec = endpoint(server, "chat", extra_body={"top_k": 7})
    draw(spec, ask("policy", [2**62 + 5], temperature=0.25, top_p=0.5, tokens=9, stop=("zq",)))
    (asked,) = server.asked
    expected = {"seed": 2**62 + 5, "temperature": 0.25, "top_p": 0.5, "max_tokens": 9, "stop": ["zq"], "top_k": 7}
    assert expected.items() <= asked.items()
    assert asked["include_stop_str_in_output"] is True


def test_the_other_name_of_the_limit(server: EndpointServer) -> None:
    server.always = refuses(400, "no")
    failure(endpoint(server, max_tokens_name="max_completion_tokens"), ask("policy", [1], tokens=9))
    assert server.asked[0]["max_completion_tokens"] == 9
    assert "max_tokens" not in server.asked[0]


def test_a_plain_chat_endpoint_refuses_prefixes_with_what_to_do(server: EndpointServer) -> None:
    wrong = failure(endpoint(server), ask("policy", prefix="12 + 3 = 15\n"))
    assert "api: completions" in str(wrong)
    assert not server.asked


@pytest.mark.parametrize("trims", [False, None])
def test_a_step_that_the_template_keeps_is_continued(server: EndpointServer, trims: bool | None) -> None:
    server.trims = trims
    draw(endpoint(server, "chat"), ask("policy", [1, 2], prefix="12 + 3 = 15\n"))
    assert [sent["messages"][-1]["content"] for sent in server.asked] == ["12 + 3 = 15\n"] * 2


def test_a_template_that_cuts_the_end_of_a_step_ends_the_job(server: EndpointServer) -> None:
    """As Llama's does: every draw would give the end of the step again."""
    server.trims = True
    wrong = failure(endpoint(server, "chat"), ask("policy", [1], prefix="12 + 3 = 15\n"))
    assert isinstance(wrong, BatchError)
    assert wrong.broken
    assert "use `api: completions`" in str(wrong)
    assert not server.asked
    draw(endpoint(server, "chat"), ask("policy", [1], prefix="12 + 3"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("vllm", [True, False])
def test_a_stop_string_that_a_server_takes_away_is_put_back_where_told(server: EndpointServer, vllm: bool) -> None:
    server.vllm = vllm
    free = texts(draw(endpoint(server), ask("policy", range(6), tokens=16)))
    stop = free[0][3:5]
    stopped = draw(endpoint(server), ask("policy", range(6), tokens=16, stop=(stop,)))
    for completion, text in zip(stopped.completions, free, strict=True):
        found = text.find(stop)
        if found < 0:
            assert completion.text == text
        elif vllm:
            assert (completion.text, completion.finish) == (text[: found + len(stop)], Finish.STOP)
        else:
            # Nobody can tell it from the end of the turn.
            assert (completion.text, completion.finish) == (text[:found], Finish.END)


def test_what_is_omitted_is_not_sent(server: EndpointServer) -> None:
    stop = texts(draw(endpoint(server), ask("policy", [0], tokens=16)))[0][3:5]
    for omit in ([], ["seed", "temperature", "top_p", "stop"]):
        server.asked.clear()
        draw(endpoint(server, omit=omit), ask("policy", [1], tokens=16, stop=(stop,)))
        (sent,) = server.asked
        assert {"seed", "temperature", "top_p", "stop"} & set(sent) == {"seed", "temperature", "top_p", "stop"} - set(
            omit
        )


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            "Unsupported parameter: 'temperature' is not supported with this model.",
            "add temperature to engine_args.omit",
        ),
        ("Unsupported value: 'top_p' does not support 0.9 with this model.", "add top_p to engine_args.omit"),
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", "max_tokens_name to max_completion"),
    ],
)
def test_a_parameter_that_is_always_refused_ends_the_job_with_its_remedy(
    server: EndpointServer, message: str, remedy: str
) -> None:
    """Nothing is answered whatever is asked next; nothing was charged either."""
    server.always = refuses(400, message, "unsupported_parameter")
    wrong = failure(endpoint(server), ask("policy", [1, 2]))
    assert isinstance(wrong, BatchError)
    assert wrong.broken
    assert remedy in str(wrong)


def test_a_server_that_knows_no_stop_strings_is_cut_here(server: EndpointServer) -> None:
    server.edit = lambda answer: answer
    free = texts(draw(endpoint(server), ask("policy", [1], tokens=16)))[0]
    stop = free[3:5]

    def ignore(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= {"message": {"content": free}, "finish_reason": "length", "stop_reason": None}
        return answer

    server.edit = ignore
    (completion,) = draw(endpoint(server), ask("policy", [1], tokens=16, stop=(stop,))).completions
    assert completion.text == free[: free.find(stop) + 2]
    assert completion.finish is Finish.STOP


def test_what_an_endpoint_counts_is_what_is_charged(server: EndpointServer) -> None:
    spec = endpoint(server, "chat")
    request = ask("policy", range(5))
    reply = draw(spec, request)
    assert reply.usage.prompt_tokens == server.charged["prompt"] == 5 * describe(spec).count_prompt(request.messages)
    assert reply.usage.completion_tokens == server.charged["completion"]
    dollars = (server.charged["prompt"] * 2.0 + server.charged["completion"] * 8.0) / 1e6
    assert Meter({"policy": describe(spec)}).charge(request, reply).dollars == pytest.approx(dollars)


@pytest.mark.parametrize(("price", "expected"), [(None, 2.0), (0.5, 0.5)])
def test_cached_tokens_are_told_apart_and_cost_what_the_config_says(
    server: EndpointServer, price: float | None, expected: float
) -> None:
    def cache(answer: dict[str, Any]) -> dict[str, Any]:
        answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 10, "audio_tokens": None}
        return answer

    server.edit = cache
    spec = endpoint(server, "chat", **({} if price is None else {"dollars_per_million_cached": price}))
    reply = draw(spec, ask("policy", [1]))
    assert reply.usage.cached_tokens == 10
    assert reply.usage.prompt_tokens == server.charged["prompt"] - 10
    paid = reply.usage.prompt_tokens * 2.0 + 10 * expected + reply.usage.completion_tokens * 8.0
    assert Meter({"policy": describe(spec)}).charge(ask("policy", [1]), reply).dollars == pytest.approx(paid / 1e6)


def test_an_endpoint_that_counts_more_than_was_reserved_is_asked_nothing_more(server: EndpointServer) -> None:
    def overcount(answer: dict[str, Any]) -> dict[str, Any]:
        answer["usage"]["completion_tokens"] = 5000
        return answer

    server.edit = overcount

    async def twice(engine: EndpointEngine) -> tuple[EngineError, EngineError]:
        first, second = await asyncio.gather(engine.generate(ask("policy", [1])), return_exceptions=True), None
        second = await asyncio.gather(engine.generate(ask("policy", [1])), return_exceptions=True)
        return first[0], second[0]  # type: ignore[return-value]

    first, second = with_engine(endpoint(server), twice)
    assert "no budget could be kept" in str(first)
    assert first.usage is not None
    assert first.usage.completion_tokens == 5000
    assert isinstance(second, BatchError)
    assert len(server.asked) == 1


def test_a_prompt_too_long_for_a_bounded_count_is_refused_by_the_endpoint_alone(server: EndpointServer) -> None:
    # A vLLM server, but nothing is known here of its tokenizer.
    spec = endpoint(server, "chat", tokenizer=None)
    long = "many boxes " * 400
    wrong = failure(spec, replace(ask("policy"), messages=(Message("user", long),)))
    assert "maximum context length" in str(wrong)
    full = draw(spec, ask("policy", [1, 2], prefix=long))
    assert [(c.text, c.tokens, c.finish) for c in full.completions] == [("", 0, Finish.LENGTH)] * 2


def test_log_probabilities_become_statistics(server: EndpointServer) -> None:
    def tell(answer: dict[str, Any]) -> dict[str, Any]:
        tops = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -9999.0}]
        rows = [{"token": "a", "logprob": -0.5, "top_logprobs": tops}] * 3
        answer["choices"][0]["logprobs"] = {"content": rows}
        return answer

    server.edit = tell
    (completion,) = draw(endpoint(server, logprobs=2), ask("policy", [1])).completions
    assert server.asked[0]["logprobs"] is True
    assert server.asked[0]["top_logprobs"] == 2
    assert completion.stats is not None
    assert completion.stats.mean_logprob == pytest.approx(-0.5)
    assert completion.stats.mean_entropy > 0
    assert completion.stats.self_certainty > 0
    assert not completion.stats.exact
    server.edit = lambda answer: answer
    assert draw(endpoint(server, logprobs=2), ask("policy", [1])).completions[0].stats is None


def test_the_key_is_struck_from_what_a_model_writes(server: EndpointServer) -> None:
    def echo(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0]["message"]["content"] = f"I was sent {KEY}."
        return answer

    server.edit = echo
    assert texts(draw(endpoint(server), ask("policy", [1]))) == ["I was sent ***."]
