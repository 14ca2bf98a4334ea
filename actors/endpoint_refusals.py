"""What an endpoint refuses of every request, whatever its value, and what to do about it.

OpenAI's reasoning models take no temperature, for example: that is found out by the first answer, and holds for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

UNSUPPORTED = re.compile(r"unsupported|not supported|does not support", re.IGNORECASE)
"""How endpoints say that they do not take a parameter, or take it at its default only."""

REMEDIES: Mapping[str, str] = {
    **{name: f"leave it out: add {name} to engine_args.omit" for name in ("seed", "temperature", "top_p", "stop")},
    "max_tokens": "set engine_args.max_tokens_name to max_completion_tokens",
    "max_completion_tokens": "set engine_args.max_tokens_name to max_tokens",
    "top_logprobs": "set engine_args.logprobs to 0",
    "logprobs": "set engine_args.logprobs to 0",
}
"""By parameter."""


def remedy(body: object, said: str) -> str | None:
    """What to do about a refused parameter of ours; None where none is refused. `said` is the body's message."""
    if not UNSUPPORTED.search(said):
        return None
    named = body.get("param") if isinstance(body, Mapping) else None
    if named in REMEDIES:
        return REMEDIES[str(named)]
    return next((REMEDIES[name] for name in REMEDIES if re.search(rf"['\"`]{name}['\"`]", said)), None)
