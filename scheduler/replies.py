"""What a reply must be before it is journaled: complete, finite, and of text that every file can hold.

A reply that is not is the engine's fault, raised as EngineError, so it costs one request and never a run directory.
"""

from __future__ import annotations

import math
from dataclasses import replace

from apportion.errors import EngineError
from apportion.types import Completion, Generate, Generated, Reply, Request, Score, Scored, Usage


def checked(request: Request, reply: Reply) -> Reply:
    """The reply, with lone surrogates in its texts replaced by `?`. Raises EngineError for one that cannot be right."""
    _check_usage(request, reply.usage)
    if isinstance(request, Generate) and isinstance(reply, Generated):
        if len(reply.completions) != len(request.seeds):
            raise _fault(request, f"gave {len(reply.completions)} completions for {len(request.seeds)} seeds")
        return replace(reply, completions=tuple(_clean(completion) for completion in reply.completions))
    if isinstance(request, Score) and isinstance(reply, Scored):
        if len(reply.scores) != len(request.responses):
            raise _fault(request, f"scored {len(reply.scores)} of {len(request.responses)} responses")
        for steps, scores in zip(request.responses, reply.scores, strict=True):
            # No score at all stands for a response that does not fit the scorer's context.
            if scores and len(scores) != len(steps):
                raise _fault(request, f"gave {len(scores)} scores for {len(steps)} steps")
            if not all(0.0 <= score <= 1.0 for score in scores):
                raise _fault(request, f"gave a score outside of [0, 1]: {scores}")
        return reply
    raise _fault(request, f"answered a {type(request).__name__} with a {type(reply).__name__}")


def _check_usage(request: Request, usage: Usage) -> None:
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.attended, usage.cached_tokens, usage.busy_seconds)
    if not all(math.isfinite(count) and count >= 0 for count in counts):
        raise _fault(request, f"reported usage that cannot be: {usage}")


def _clean(completion: Completion) -> Completion:
    text = completion.text.encode("utf-8", "replace").decode("utf-8")
    return completion if text == completion.text else replace(completion, text=text)


def _fault(request: Request, what: str) -> EngineError:
    return EngineError(f"model {request.model!r} {what}; the engine is at fault, the request is given up")
