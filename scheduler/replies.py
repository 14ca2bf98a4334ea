"""What a reply must be before it is journaled: complete, finite, and of text that every file can hold.

A reply that is not is the engine's fault, raised as EngineError, so it costs one request and never a run directory. The
work was done all the same, and is charged as far as its usage can be believed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from apportion.codec import VECTOR
from apportion.errors import EngineError
from apportion.types import (
    Completion,
    Embed,
    Embedded,
    Generate,
    Generated,
    LogprobStats,
    Reply,
    Request,
    Score,
    Scored,
    Usage,
)

MOST = float(np.finfo(VECTOR).max)
"""of the numbers of a hidden state, as the journal keeps them"""


def checked(request: Request, reply: Reply) -> Reply:
    """The reply, lone surrogates in its texts replaced by `?` and statistics that are no numbers dropped.

    Hidden states are rounded to the numbers that the journal keeps.

    Raises EngineError, charged with its usage, for a reply that cannot be right.
    """
    _check_usage(request, reply.usage)
    try:
        return _sound(request, reply)
    except EngineError as error:
        raise error.charged(reply.usage) from None


def _sound(request: Request, reply: Reply) -> Reply:
    if isinstance(request, Generate) and isinstance(reply, Generated):
        if len(reply.completions) != len(request.seeds):
            raise _fault(request, f"gave {len(reply.completions)} completions for {len(request.seeds)} seeds")
        for completion in reply.completions:
            if not _is_clean(completion):
                return replace(reply, completions=tuple(_clean(completion) for completion in reply.completions))
        return reply
    if isinstance(request, Score) and isinstance(reply, Scored):
        if len(reply.scores) != len(request.responses):
            raise _fault(request, f"scored {len(reply.scores)} of {len(request.responses)} responses")
        for steps, scores in zip(request.responses, reply.scores, strict=True):
            # No score at all stands for a response that does not fit the scorer's context, one for a response that was
            # scored as a whole.
            if len(scores) not in (0, 1, len(steps)):
                raise _fault(request, f"gave {len(scores)} scores for {len(steps)} steps")
            if not all(0.0 <= score <= 1.0 for score in scores):
                raise _fault(request, f"gave a score outside of [0, 1]: {scores}")
        return reply
    if isinstance(request, Embed) and isinstance(reply, Embedded):
        if not reply.vector or not all(map(math.isfinite, reply.vector)):
            raise _fault(request, f"gave a hidden state of {len(reply.vector)} numbers, not all of them finite")
        largest = max(map(abs, reply.vector))
        if largest > MOST:
            raise _fault(request, f"gave a hidden state with {largest:g}, beyond those of a 16-bit float ({MOST:g})")
        # As it is read again from the journal.
        return replace(reply, vector=tuple(np.array(reply.vector, VECTOR).astype(np.float64).tolist()))
    raise _fault(request, f"answered a {type(request).__name__} with a {type(reply).__name__}")


def _check_usage(request: Request, usage: Usage) -> None:
    if not (
        0 <= usage.prompt_tokens < math.inf
        and 0 <= usage.completion_tokens < math.inf
        and 0 <= usage.attended < math.inf
        and 0 <= usage.cached_tokens < math.inf
        and 0 <= usage.busy_seconds < math.inf
    ):
        raise _fault(request, f"reported usage that cannot be: {usage}")


def _is_clean(completion: Completion) -> bool:
    text, stats = completion.text, completion.stats
    return (text.isascii() or _encodable(text) == text) and (stats is None or _is_finite(stats))


def _clean(completion: Completion) -> Completion:
    stats = completion.stats if completion.stats is not None and _is_finite(completion.stats) else None
    return replace(completion, text=_encodable(completion.text), stats=stats)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_finite(stats: LogprobStats) -> bool:
    return math.isfinite(stats.mean_logprob + stats.mean_entropy + stats.self_certainty)


def _fault(request: Request, what: str) -> EngineError:
    return EngineError(f"model {request.model!r} {what}; the engine is at fault, the request is given up")
