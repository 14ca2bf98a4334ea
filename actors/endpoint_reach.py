"""One cheap look at an endpoint before a budget is spent on it: is it there, does it take the key, has it the model.

GET /models costs nothing. Only where that is not offered, or does not list the model, is a single token asked for: some
endpoints keep their list short, or from keys that may do no more than write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from apportion.actors.endpoint_answers import Answered, Asked, read_answer, read_models
from apportion.actors.endpoint_describe import EndpointDescriber
from apportion.actors.endpoint_http import Caller, Secret, Trouble
from apportion.actors.spec import ModelSpec
from apportion.errors import ModelError, nearest
from apportion.types import Message

HELLO = (Message("user", "Hi"),)
LOOK_SECONDS = 30.0
LOOK_RETRIES = 2
# An endpoint that is slower to say hello is not ready for a job; one that is restarting may be in a moment.

LISTED = 20
# Models named in a message.


def secret_of(describer: EndpointDescriber) -> Secret:
    """The key of an endpoint, from the environment of this process. Raises ModelError where it is not there."""
    name, variable = describer.profile().name, describer.settings.api_key_env
    if variable is None:
        return Secret("")
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ModelError(
            f"models.{name}: the environment variable {variable} is not set in the process that runs this model; put "
            "the endpoint's key into it (on a cluster: on every node, before Ray is started there)"
        )
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ModelError(
            f"models.{name}: what the environment variable {variable} holds has characters that no key has; set it anew"
        )
    return Secret(value)


def reach(spec: ModelSpec) -> None:
    """Ask an endpoint for its models, in this process. Raises ModelError where a job on it could not run."""
    describer = EndpointDescriber(spec)
    reach_described(spec, describer, secret_of(describer))


def reach_described(spec: ModelSpec, describer: EndpointDescriber, secret: Secret) -> None:
    """`reach` where the model is described already."""
    # The caller may be in an event loop of its own, which must not be blocked by another one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, look(spec, describer, secret)).result()


async def look(spec: ModelSpec, describer: EndpointDescriber, secret: Secret) -> None:
    """`reach_described` within an event loop."""
    settings = replace(
        describer.settings,
        timeout_s=min(describer.settings.timeout_s, LOOK_SECONDS),
        retries=LOOK_RETRIES,
        charged_retries=0,
    )
    caller = Caller(spec.name, settings, secret, 1)
    try:
        listed = await caller.models(read_models)
        if listed.value is not None and spec.path in listed.value:
            _check_context(spec, describer, listed.value[spec.path])
            return
        if listed.trouble is not None and (listed.trouble.status == 401 or not _answers(listed.trouble)):
            raise ModelError(_named(spec, listed.trouble.message))
        fields = completion_fields(describer, spec.path, HELLO, "", 1)
        asked = Asked(settings.api == "chat", ())
        greeted = await caller.post(fields, lambda body: read_answer(body, asked), 1)
    finally:
        await caller.close()
    if greeted.trouble is not None:
        known = f"; {_listing(spec.path, listed.value)}" if listed.value is not None else ""
        raise ModelError(_named(spec, f"{greeted.trouble.message}{known}"))
    if greeted.value is not None:
        _check_greeting(spec, describer, greeted.value)


def completion_fields(
    describer: EndpointDescriber, model: str, messages: tuple[Message, ...], prefix: str, max_tokens: int
) -> dict[str, Any]:
    """What every request for a completion says: the model, what it continues, and the limit."""
    settings, extra = describer.settings, dict(describer.settings.extra_body)
    fields: dict[str, Any] = {"model": model, settings.max_tokens_name: max_tokens}
    if settings.api == "completions" and describer.tokenizer is not None:
        if settings.max_tokens_name != "max_tokens":
            # The client knows the old API by its old parameters only.
            extra[settings.max_tokens_name] = fields.pop(settings.max_tokens_name)
        fields["prompt"] = describer.tokenizer.encode_prompt(messages) + describer.tokenizer.encode(prefix)
    else:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if prefix:
            turns.append({"role": "assistant", "content": prefix})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        fields["messages"] = turns
    fields["extra_body"] = extra
    return fields


def _answers(trouble: Trouble) -> bool:
    """Whether somebody is there, who only does not list models."""
    return trouble.status in (400, 403, 404, 405, 501) or trouble.chargeable


def _listing(model: str, cards: Mapping[str, Any]) -> str:
    names = sorted(cards)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    shown = nearest(model, names) if not more else f"it lists {', '.join(names[:LISTED])}{more}"
    return f"the endpoint's models, {shown}"


def _check_context(spec: ModelSpec, describer: EndpointDescriber, card: Mapping[str, Any]) -> None:
    """vLLM tells how long its context is: a longer one of ours would make it refuse what we count on."""
    holds = card.get("max_model_len")
    context = describer.profile().context
    if describer.tokenizer is not None and isinstance(holds, int) and 0 < holds < context:
        raise ModelError(
            f"models.{spec.name}.engine_args.max_model_len is {context}, but the endpoint says that its context holds "
            f"{holds} tokens; set max_model_len to {holds}"
        )


def _check_greeting(spec: ModelSpec, describer: EndpointDescriber, answered: Answered) -> None:
    """The one token must be one, and its prompt no longer than was counted, or no budget could be kept."""
    if answered.completion.tokens > 1:
        raise ModelError(
            f"models.{spec.name}: the endpoint wrote {answered.completion.tokens} tokens where one was allowed, so no "
            "budget could be kept; try the other engine_args.max_tokens_name"
        )
    most = describer.count_prompt(HELLO)
    if answered.prompt > most:
        raise ModelError(
            f"models.{spec.name}: the endpoint counts {answered.prompt} tokens in a prompt that was counted as {most}; "
            "give the tokenizer and chat template that it uses, or raise engine_args.template_tokens"
        )


def _named(spec: ModelSpec, message: str) -> str:
    return f"models.{spec.name}.model {spec.path!r} cannot be used: {message}"
