"""Replies as JSON text and back: what the journal stores. Exact: floats and text survive the trip unchanged.

A hidden state is written as base64 of its 16-bit floats: shorter than its decimal digits, and there is one a prompt.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import orjson

from apportion.errors import JournalError
from apportion.types import Completion, Embedded, Finish, Generated, LogprobStats, Reply, Scored, Usage

VECTOR = np.dtype("<f2")
EMBEDDED = '{"embedded":'
"""What the text of a hidden state begins with."""


def encode_reply(reply: Reply) -> str:
    """One line of JSON. Lone surrogates, which a model can write, are kept as escapes. Numbers must be finite."""
    usage = encode_usage(reply.usage)
    if isinstance(reply, Generated):
        completions = [
            [c.text, c.tokens, c.finish.value, _encode_stats(c.stats) if c.stats else None] for c in reply.completions
        ]
        body: dict[str, Any] = {"generated": completions, "usage": usage}
    elif isinstance(reply, Embedded):
        packed = np.array(reply.vector, dtype=VECTOR).tobytes()
        body = {"embedded": base64.b64encode(packed).decode(), "usage": usage}
    else:
        body = {"scored": [list(scores) for scores in reply.scores], "usage": usage}
    try:
        return orjson.dumps(body).decode()
    except TypeError:  # orjson writes neither lone surrogates nor integers of more than 64 bits
        return json.dumps(body, separators=(",", ":"))


def decode_reply(text: str) -> Reply:
    """The reply that `encode_reply` wrote. Raises JournalError for anything else."""
    try:
        body = _parsed(text)
        usage = Usage(*body["usage"])
        if "generated" in body:
            return Generated(tuple(_decode_completion(row) for row in body["generated"]), usage)
        if "embedded" in body:
            vector = np.frombuffer(base64.b64decode(body["embedded"], validate=True), dtype=VECTOR)
            return Embedded(tuple(vector.astype(np.float64).tolist()), usage)
        return Scored(tuple(tuple(float(s) for s in scores) for scores in body["scored"]), usage)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"a journaled reply cannot be read ({error}): {text[:80]!r}. Start again in a new run directory."
        ) from error


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def encode_usage(usage: Usage) -> list[float]:
    """The fields of a usage, in order: `Usage(*list)` is it again."""
    return [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.attended,
        usage.cached_tokens,
        usage.busy_seconds,
    ]


def _encode_stats(stats: LogprobStats) -> list[float | bool]:
    return [stats.mean_logprob, stats.mean_entropy, stats.self_certainty, stats.exact]


def _decode_completion(row: list[Any]) -> Completion:
    text, tokens, finish, stats = row
    return Completion(text, tokens, Finish(finish), LogprobStats(*stats) if stats else None)
