"""The engine of OpenAI-compatible endpoints: a hosted model, or a server of one's own, behind the Engine protocol.

One HTTP request a completion, with the completion's own seed; at most `concurrency` at once. An endpoint charges each
for its whole prompt, so does the ledger. Stop strings stay in the text: a vLLM server is asked to keep them, and where
an answer says which one it stopped at, it is put back. A search over steps needs one of the two.

What is spent is bounded and told: completions are limited to what was reserved, failed attempts that an endpoint may
charge for are charged in full, to the request that caused them, whether or not it was answered in the end. An endpoint
that counts more than was reserved, or refuses the key, ends the job instead of spending on: it can be resumed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from apportion.actors.endpoint_answers import NOMINAL_VOCABULARY, Answered, Asked, read_answer
from apportion.actors.endpoint_describe import EndpointDescriber
from apportion.actors.endpoint_http import Caller, Posted, Secret, Trouble
from apportion.actors.endpoint_reach import completion_fields, reach_described, secret_of
from apportion.actors.endpoint_settings import MOST_CONNECTIONS
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import no_room
from apportion.costs import attended
from apportion.errors import BatchError, EngineError
from apportion.types import Completion, Finish, Generate, Generated, Usage

CONTEXT_FULL = ("context_length", "context length", "maximum context", "context window", "max_model_len", "too long")
# How servers say, under a 400, that prompt and completion do not fit.

LOST_IN_A_ROW = 16
# An endpoint that answers nothing readable would be paid all of the budget for it.

KEEPS_STOPS = {"vllm": "include_stop_str_in_output", "sglang": "no_stop_trim"}
# The parameter by which each kind of server leaves the stop string in the text.


class EndpointEngine:
    """An Engine (see `protocols`) over one Caller."""

    def __init__(self, spec: ModelSpec, describer: EndpointDescriber, secret: Secret) -> None:
        settings = describer.settings
        self._spec = spec
        self._describer = describer
        self._settings = settings
        self._secret = secret
        self._profile = describer.profile()
        concurrency = settings.concurrency or min(spec.max_batch, MOST_CONNECTIONS)
        self._caller = Caller(spec.name, settings, secret, concurrency)
        tokenizer = describer.tokenizer
        self._vocabulary = NOMINAL_VOCABULARY if tokenizer is None else tokenizer.size
        self._over: str | None = None
        self._lost = 0
        """requests in a row of which nothing came, and which may be charged"""
        self._ends_kept: asyncio.Task[bool] | None = None

    async def generate(self, request: Generate) -> Generated:
        """Completions for one request, each by a call of its own.

        Raises EngineError, with what the failed work may cost, and BatchError where nothing more can be asked.
        """
        if self._over is not None:
            raise BatchError(self._over, broken=True)
        turns = self._describer.count_prompt(request.messages)
        prompt = turns + (self._describer.count_text(request.prefix) if request.prefix else 0)
        limit = min(request.sampling.max_tokens, self._profile.context - prompt)
        self._check(request, turns)
        if limit < 1:
            return no_room(request)
        await self._check_ends(request)
        # Every call is let go to its end: one that is dropped would be charged all the same.
        posted = await asyncio.gather(*(self._draw(request, seed, limit) for seed in request.seeds))
        usage = Usage()
        for one in posted:
            usage = _sum(usage, self._usage(one, prompt, limit))
        self._check_bound(request, usage, prompt, limit)
        troubles = [one.trouble for one in posted if one.trouble is not None]
        self._lost = 0 if len(troubles) < len(posted) else self._lost + any(trouble.chargeable for trouble in troubles)
        if troubles and all(self._is_full(request, trouble) for trouble in troubles):
            posted = [one if one.trouble is None else _filled(one) for one in posted]
        elif troubles:
            raise self._error(troubles, usage)
        return Generated(tuple(one.value.completion for one in posted if one.value is not None), usage)

    async def close(self) -> None:
        """Close the connections."""
        await self._caller.close()

    def _check(self, request: Generate, turns: int) -> None:
        if request.sampling.max_tokens < 1 or turns >= self._profile.context:
            raise EngineError(
                f"model {self._spec.name!r} was asked for {request.sampling.max_tokens} tokens after a conversation of "
                f"{turns}; both must be at least 1 and the context holds {self._profile.context}: shorten the prompt"
            )
        if request.prefix and not self._settings.continues:
            raise EngineError(
                f"model {self._spec.name!r} is a plain chat endpoint, which cannot continue text as beam search does; "
                "use `api: completions` with a tokenizer, `server: vllm` (or sglang) where it is one, or best_of_n"
            )

    async def _check_ends(self, request: Generate) -> None:
        """A chat template that cuts the end of what it continues would draw the ends of steps again and again.

        Raises BatchError. vLLM tells what tokens it makes of a conversation, which costs nothing; it is asked once.
        """
        bare = request.prefix.rstrip()
        if self._settings.api != "chat" or bare == request.prefix:
            return
        if self._ends_kept is None:
            self._ends_kept = asyncio.ensure_future(self._keeps_ends(request, bare))
        if not await asyncio.shield(self._ends_kept):
            self._over = (
                f"model {self._spec.name!r}: the chat template of {self._settings.base_url} cuts the end of the text "
                "that it continues, so that a search never gets on from the end of a step; use `api: completions` with "
                "engine_args.tokenizer, or give the server another chat template"
            )
            raise BatchError(self._over, broken=True)

    async def _keeps_ends(self, request: Generate, bare: str) -> bool:
        read = []
        for prefix in (request.prefix, bare):
            fields = completion_fields(self._describer, self._spec.path, request.messages, prefix, 1)
            said = {name: fields[name] for name in ("model", "messages")} | fields["extra_body"]
            read.append(await self._caller.tokens(said))
        return read[0] is None or read[0] != read[1]

    async def _draw(self, request: Generate, seed: int, limit: int) -> Posted[Answered]:
        """One completion."""
        sampling, settings = request.sampling, self._settings
        fields = completion_fields(self._describer, self._spec.path, request.messages, request.prefix, limit)
        drawn: dict[str, Any] = {"seed": seed, "temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.stop:
            drawn["stop"] = list(sampling.stop)
            if settings.server != "plain":
                fields["extra_body"][KEEPS_STOPS[settings.server]] = True
        fields |= {name: value for name, value in drawn.items() if name not in settings.omit}
        if settings.logprobs:
            chat: dict[str, Any] = {"logprobs": True, "top_logprobs": settings.logprobs}
            fields |= chat if settings.api == "chat" else {"logprobs": settings.logprobs}
        asked = Asked(settings.api == "chat", sampling.stop, self._vocabulary)
        return await self._caller.post(fields, lambda body: self._read(body, asked), limit)

    def _read(self, body: bytes, asked: Asked) -> Answered:
        answered = read_answer(body, asked)
        text = self._secret.strike_content(answered.completion.text)
        return replace(answered, completion=replace(answered.completion, text=text))

    def _usage(self, posted: Posted[Answered], prompt: int, limit: int) -> Usage:
        """What one completion used: what the endpoint counted, and its lost attempts in full."""
        reach = float(attended(0, prompt) + attended(prompt, limit)) * posted.lost
        lost = Usage(prompt * posted.lost, limit * posted.lost, int(reach), 0, posted.seconds)
        answered = posted.value
        if answered is None:
            return lost
        read, written = answered.prompt - answered.cached, answered.completion.tokens
        reach = float(attended(answered.cached, read) + attended(answered.prompt, written))
        return _sum(lost, Usage(read, written, int(reach), answered.cached))

    def _check_bound(self, request: Generate, usage: Usage, prompt: int, limit: int) -> None:
        """An endpoint that counts more than was reserved breaks the budget: nothing more is asked of it."""
        calls = len(request.seeds) * self._profile.attempts
        if usage.prompt_tokens + usage.cached_tokens <= prompt * calls and usage.completion_tokens <= limit * calls:
            return
        self._over = (
            f"model {self._spec.name!r}: the endpoint {self._settings.base_url} counted "
            f"{usage.prompt_tokens + usage.cached_tokens} prompt and {usage.completion_tokens} completion tokens where "
            f"at most {prompt * calls} and {limit * calls} were reserved, so no budget could be kept; give engine_args "
            "tokenizer, raise template_tokens, or try the other max_tokens_name"
        )
        raise EngineError(self._over).charged(usage)

    def _is_full(self, request: Generate, trouble: Trouble) -> bool:
        """Whether the endpoint refused because the prefix fills its context, which is no error (see `protocols`)."""
        said = trouble.body.lower()
        return bool(request.prefix) and trouble.status == 400 and any(words in said for words in CONTEXT_FULL)

    def _error(self, troubles: list[Trouble], usage: Usage) -> EngineError:
        """The error of a request some of whose completions failed, with what it cost."""
        worst = next((trouble for trouble in troubles if trouble.final), troubles[0])
        cost = usage if usage.prompt_tokens + usage.completion_tokens + usage.cached_tokens else None
        if self._lost >= LOST_IN_A_ROW:
            worst = replace(
                worst,
                message=f"{worst.message}; {self._lost} requests in a row came to nothing and may be charged, so no "
                "more are asked: mend the cause and run the same command again",
                final=True,
            )
        if worst.final:
            self._over = worst.message
            if cost is None:
                return BatchError(worst.message, broken=True)
        failed = f" ({len(troubles)} completions of the request failed)" if len(troubles) > 1 else ""
        return EngineError(f"{worst.message}{failed}").charged(cost)


def _filled(posted: Posted[Answered]) -> Posted[Answered]:
    return replace(posted, value=Answered(Completion("", 0, Finish.LENGTH), 0, 0), trouble=None)


def _sum(left: Usage, right: Usage) -> Usage:
    return Usage(
        left.prompt_tokens + right.prompt_tokens,
        left.completion_tokens + right.completion_tokens,
        left.attended + right.attended,
        left.cached_tokens + right.cached_tokens,
        left.busy_seconds + right.busy_seconds,
    )


def build_engine(spec: ModelSpec) -> EndpointEngine:
    """An endpoint's engine, once the endpoint was reached; ModelError where it cannot be used."""
    describer = EndpointDescriber(spec)
    secret = secret_of(describer)
    reach_described(spec, describer, secret)
    return EndpointEngine(spec, describer, secret)
