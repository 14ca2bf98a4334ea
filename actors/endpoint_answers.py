"""Reading an endpoint's answers: bytes in, one completion and its usage out, or NonsenseError with what is wrong.

Nothing is taken on trust: servers that call themselves compatible leave out, rename and null whatever they like. The
client's own models would let all of that through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.actors.endpoint_http import NonsenseError
from apportion.actors.tokens import stop_end
from apportion.actors.top_logprobs import stats_of
from apportion.types import Completion, Finish, LogprobStats

ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
# How servers say that the turn ended, or a stop string came: OpenAI's word first, then Together's and others'.

FULL = ("length", "max_tokens")

FILTERED = ("content_filter", "refusal")
# The endpoint ended the turn; what it let through is the completion.

NOMINAL_VOCABULARY = 2**17
# Of most models of these years. Self-certainty is compared within one model, where the size shifts all values alike.

LEAST = math.log(1e-6)
# Of a token that cannot be drawn, whatever the server writes: statistics must stay finite.

SHOWN_KEYS = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is read against."""

    chat: bool
    stops: tuple[str, ...]
    vocabulary: int = NOMINAL_VOCABULARY


@dataclass(frozen=True, slots=True)
class Answered:
    """One completion, and what the endpoint counted. `prompt` includes `cached`."""

    completion: Completion
    prompt: int
    cached: int


def read_answer(body: bytes, asked: Asked) -> Answered:
    """The completion of an answer. Raises NonsenseError."""
    answer = _object(body)
    if answer.get("error"):
        raise NonsenseError(f"an error under a status of 200: {_brief(answer['error'])}")
    choice = _choice(answer)
    prompt, cached, tokens = _usage(answer)
    text, finish = _text(choice, asked)
    # Whatever the server made of them: a completion ends with its first stop string, and nowhere else.
    cut = stop_end(text, asked.stops)
    if cut is not None:
        text, finish = text[:cut], Finish.STOP
    return Answered(Completion(text, tokens, finish, _stats(choice, asked)), prompt, cached)


def read_models(body: bytes) -> dict[str, Mapping[str, Any]]:
    """What /models lists, by id. Raises NonsenseError."""
    data = _object(body).get("data")
    if not isinstance(data, list):
        raise NonsenseError("no list of models")
    return {card["id"]: card for card in data if isinstance(card, dict) and isinstance(card.get("id"), str)}


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:1000].lower()
        kind = "an HTML page" if b"<html" in start or b"<!doctype" in start else f"broken JSON ({error})"
        raise NonsenseError(kind if body.strip() else "it is empty") from None
    if not isinstance(answer, dict):
        raise NonsenseError(f"{_brief(answer)} instead of a JSON object")
    return answer


def _usage(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    """Prompt tokens, those of them that were cached, and completion tokens.

    Some servers leave hidden reasoning out of the completion and bill it all the same; their total has it.
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        raise NonsenseError(
            "no usage, so that nobody can tell what it costs; turn usage reports on, or use another server"
        )
    prompt, tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if usage.get("total_tokens") is not None:
        tokens = max(tokens, _count(usage, "total_tokens") - prompt)
    details = usage.get("prompt_tokens_details")
    cached = 0
    if isinstance(details, dict) and details.get("cached_tokens") is not None:
        cached = _count(details, "cached_tokens")
    if cached > prompt:
        raise NonsenseError(f"usage of {cached} cached tokens in a prompt of {prompt}")
    return prompt, cached, tokens


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise NonsenseError(f"usage.{name} is {_brief(value)}, not a number of tokens")
    return value


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise NonsenseError(f"no choices; it has {', '.join(list(map(str, answer))[:SHOWN_KEYS]) or 'nothing'}")
    if not isinstance(choices[0], dict):
        raise NonsenseError(f"a choice that is {_brief(choices[0])}")
    return choices[0]


def _text(choice: Mapping[str, Any], asked: Asked) -> tuple[str, Finish]:
    reason = choice.get("finish_reason")
    message = choice.get("message") if asked.chat else choice
    if not isinstance(message, dict):
        raise NonsenseError(f"a message that is {_brief(message)}")
    text = message.get("content" if asked.chat else "text")
    told = isinstance(reason, str)
    thought = message.get("reasoning_content") or message.get("reasoning")
    if text is None and told and (reason in (*FULL, *FILTERED) or message.get("refusal") or thought):
        # A model that reasoned and said no more, or would not answer, wrote nothing.
        text = ""
    if not isinstance(text, str):
        raise NonsenseError(f"content that is {_brief(text)}, not text (finish_reason {_brief(reason)})")
    if told and reason in FULL:
        return text, Finish.LENGTH
    if told and reason in FILTERED:
        return text, Finish.END
    if not told or reason not in ENDED:
        known = ", ".join((*ENDED, *FULL, *FILTERED))
        raise NonsenseError(f"the finish_reason {_brief(reason)}, which is none of {known}")
    # vLLM's word and SGLang's.
    stopped = choice.get("stop_reason") or choice.get("matched_stop")
    if isinstance(stopped, str) and stopped in asked.stops:
        return (text if text.endswith(stopped) else text + stopped), Finish.STOP
    # Most servers do not tell a stop string from the end of the turn: it is then taken for the end.
    return text, Finish.END


def _stats(choice: Mapping[str, Any], asked: Asked) -> LogprobStats | None:
    """Statistics from the log-probabilities of an answer; None where it has none."""
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        return None
    try:
        if asked.chat:
            rows = given.get("content") or []
            drawn = [float(row["logprob"]) for row in rows]
            tops = [[float(top["logprob"]) for top in row["top_logprobs"]] for row in rows]
        else:
            drawn = [float(value) for value in given.get("token_logprobs") or []]
            tops = [[float(value) for value in row.values()] for row in given.get("top_logprobs") or []]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NonsenseError("log-probabilities in a form that cannot be read") from None
    return stats_of(flattened(drawn, tops), len(drawn), asked.vocabulary)


def flattened(drawn: Sequence[float], tops: Sequence[Sequence[float]]) -> list[float]:
    """What `stats_of` reads: for each token its own log-probability and as many of the likeliest as all tokens have."""
    # Servers write -9999 or less for what cannot be drawn, and some tell one more where an unlikely token was drawn.
    rows = [sorted((min(0.0, max(one, LEAST)) for one in top if not math.isnan(one)), reverse=True) for top in tops]
    least = min(map(len, rows), default=0)
    if len(rows) != len(drawn) or not least or not all(map(math.isfinite, drawn)):
        return []
    return [value for own, row in zip(drawn, rows, strict=True) for value in (min(0.0, own), *row[:least])]


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
