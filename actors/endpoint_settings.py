"""What a config may say of an OpenAI-compatible endpoint, checked when it is read.

Invariant: no message shows a value that may be a key. A key is in an environment variable, which the config names.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from apportion.actors.spec import ModelSpec
from apportion.costs import Unit
from apportion.errors import ConfigError, nearest
from apportion.lab import lab_path
from apportion.policies.settings import build

MOST_CONNECTIONS = 1000
# The official client keeps no more; calls beyond would wait inside it, where no timeout of ours is fair.

MOST_TOP_LOGPROBS = 20
# What OpenAI and vLLM give at most.

TELLING_KEY = 8
# A key of fewer characters is a dummy such as EMPTY or x, which may stand anywhere by chance.

OURS = frozenset(
    (
        *("model", "messages", "prompt", "seed", "n", "best_of", "temperature", "top_p", "stop", "echo"),
        *("max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stream", "stream_options"),
        *("continue_final_message", "add_generation_prompt", "include_stop_str_in_output"),
    )
)
# What a request, its cost and its bound are made of: nobody else may set it.

MAY_OMIT = ("seed", "temperature", "top_p", "stop")
# How a completion is drawn: nobody's cost or bound depends on it.

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
# Capitals only: some services' keys would otherwise pass for a name, and would be shown as one.


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What `engine_args` may hold."""

    base_url: str
    """as the official client takes it: https://api.openai.com/v1, http://HOST:8000/v1"""
    api_key_env: str | None = None
    """the environment variable with the key, where the replicas run; without it no key is sent"""
    api: Literal["chat", "completions"] = "chat"
    """`completions` renders the chat template here and sends token ids: exact counts, and text goes on on any server"""
    server: Literal["plain", "vllm", "sglang"] = "plain"
    """what the server is, where its own parameters may be used: then chat continues prefixes, and the end of a step is
    told from the end of the turn, which a search over steps needs"""
    tokenizer: str | None = None
    """a local folder with the model's tokenizer and chat template, on the driver and on the replicas' nodes: prompts
    are counted exactly. Without it they are bounded: one token a byte, and `template_tokens`"""
    chat_template: str | None = None
    max_model_len: int | None = None
    """tokens that the model's context holds; with a tokenizer only, read from its folder's config.json unless given"""
    template_tokens: int = 256
    """without a tokenizer: tokens that the server's chat template may add to a conversation, beside 16 for a message"""
    concurrency: int | None = None
    """HTTP requests one replica has under way at once; max_batch unless given"""
    timeout_s: float = 600.0
    """of one HTTP request, from its first byte to the last one of its answer"""
    retries: int = 8
    """after 429, 5xx, refused connections, and what `charged_retries` says"""
    charged_retries: int = 1
    """of these: after a timeout, a lost connection or an answer that makes no sense, which an endpoint may charge for.
    Each such attempt is charged in full, and every reservation covers so many"""
    backoff_s: float = 0.5
    """the first wait before a retry, which doubles up to a minute; a Retry-After is waited for instead"""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """what the endpoint calls the limit of a completion; OpenAI's reasoning models know the second name only"""
    omit: tuple[str, ...] = ()
    """of seed, temperature, top_p and stop those that the endpoint refuses, as OpenAI's reasoning models do. They are
    not sent, and what arms say of them does not hold (texts are cut at their stop strings all the same)"""
    logprobs: int = 0
    """so many top log-probabilities are asked for, and give a completion its statistics (not exact ones)"""
    dollars_per_million_cached: float | None = None
    """what prompt tokens cost that the endpoint had cached; as others unless given"""
    active_parameters: float | None = None
    layers: int | None = None
    attention_width: int | None = None
    """these three count FLOPs, where they are known"""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """further parameters of each request, as the endpoint takes them"""

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """Read `engine_args`. Raises ConfigError for unknown keys and for values that cannot be."""
        key, given = f"models.{spec.name}.engine_args", dict(spec.engine_args)
        _no_keys(key, given)
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                # Its value is not shown: it may be a key.
                raise ConfigError(f"{key}.{name}: the openai engine has no such setting; {nearest(name, known)}")
        extra, omit = given.pop("extra_body", None), given.pop("omit", ())
        settings = replace(build(cls, given, key), extra_body=_extra(key, extra), omit=_omitted(key, omit))
        settings._check(key, spec)
        return settings

    def _check(self, key: str, spec: ModelSpec) -> None:
        _check_url(f"{key}.base_url", self.base_url)
        least = {"max_model_len": 2, "template_tokens": 0, "retries": 0, "charged_retries": 0}
        least |= {"layers": 1, "attention_width": 1, "active_parameters": 1}
        for name, bound in least.items():
            _within(f"{key}.{name}", getattr(self, name), bound, math.inf)
        _within(f"{key}.timeout_s", self.timeout_s, 1e-3, math.inf)
        _within(f"{key}.backoff_s", self.backoff_s, 1e-3, 60.0)
        _within(f"{key}.concurrency", self.concurrency, 1, MOST_CONNECTIONS)
        _within(f"{key}.logprobs", self.logprobs, 0, MOST_TOP_LOGPROBS)
        _within(f"{key}.dollars_per_million_cached", self.dollars_per_million_cached, 0, spec.dollars_per_million_input)
        if self.charged_retries > self.retries:
            raise ConfigError(
                f"{key}.charged_retries is {self.charged_retries}, more than the {self.retries} retries it is part of; "
                "lower it or raise retries"
            )
        if self.tokenizer is None:
            for name, value in (("chat_template", self.chat_template), ("max_model_len", self.max_model_len)):
                if value is not None:
                    raise ConfigError(f"{key}.{name} needs engine_args.tokenizer, the folder of the model's tokenizer")
            if self.api == "completions":
                raise ConfigError(
                    f"{key}.tokenizer is missing: the completions API is sent tokens, so give the folder with the "
                    "model's tokenizer and chat template, or use `api: chat`"
                )
        for name in ("gpus", "dollars_per_hour"):
            if getattr(spec, name) > 0.0:
                raise ConfigError(
                    f"models.{spec.name}.{name} is {getattr(spec, name):g}, but an endpoint computes elsewhere and is "
                    "paid by token; remove it, and give dollars_per_million_input and dollars_per_million_output"
                )

    @property
    def folder(self) -> Path | None:
        """The tokenizer's folder."""
        if self.tokenizer is None:
            return None
        if not self.tokenizer.startswith("lab:"):
            return Path(self.tokenizer).expanduser()
        try:
            return lab_path(self.tokenizer)
        except ValueError as error:
            raise ConfigError(f"engine_args.tokenizer: {error}") from error

    @property
    def continues(self) -> bool:
        """Whether assistant text can be continued."""
        return self.api == "completions" or self.server != "plain"


def check(spec: ModelSpec, unit: Unit, prefixes: bool, steps: bool) -> None:
    """What a job can know to be wrong before it starts: settings, and whether this endpoint can count in `unit`.

    `prefixes` says that some strategy continues text already written, `steps` that it goes by steps. Raises
    ConfigError.
    """
    settings, key = EndpointSettings.of(spec), f"models.{spec.name}"
    if prefixes and not settings.continues:
        raise ConfigError(
            f"{key}.engine_args: a strategy of this job continues text (as beam search does), and a plain chat "
            "endpoint always begins a new turn; use `api: completions` with a tokenizer, `server: vllm` (or sglang) "
            "where the endpoint is one, or best_of_n"
        )
    if steps and settings.server == "plain":
        raise ConfigError(
            f"{key}.engine_args.server: a strategy of this job searches over steps, and a plain server does not say "
            "whether a text ended with a step or with its turn, so that every search would end after one step; set it "
            "to vllm or sglang where the endpoint is one, or use best_of_n"
        )
    if unit is Unit.DOLLARS:
        for name in ("dollars_per_million_input", "dollars_per_million_output"):
            if not getattr(spec, name) > 0.0:
                raise ConfigError(
                    f"{key}.{name} is missing: a budget in dollars needs what the endpoint takes for prompt and for "
                    "completion tokens; give both from its price list"
                )
    if unit is Unit.GPU_SECONDS:
        raise ConfigError(
            f"{key}: an endpoint does not say how long its accelerators work, so no budget in gpu_seconds can be kept; "
            "use budget.unit dollars, tokens or samples"
        )
    unknown = [name for name in ("active_parameters", "layers", "attention_width") if getattr(settings, name) is None]
    if unit is Unit.FLOPS and unknown:
        raise ConfigError(
            f"{key}.engine_args.{unknown[0]} is missing: a budget in flops needs the size of the endpoint's model; "
            f"give {', '.join(unknown)}, or use budget.unit dollars, tokens or samples"
        )
    secret = os.environ.get(settings.api_key_env or "", "").strip()
    if len(secret) >= TELLING_KEY and secret in json.dumps(spec.engine_args, default=str):
        raise ConfigError(
            f"{key}.engine_args holds the key that is in {settings.api_key_env}, and a config is copied to the run "
            "directory; remove it from the config"
        )


def _no_keys(key: str, given: Mapping[str, Any]) -> None:
    if "api_key" in given:
        raise ConfigError(
            f"{key}.api_key: a key does not belong in a config, which is copied to the run directory; put it into an "
            "environment variable and name that in api_key_env"
        )
    variable = given.get("api_key_env")
    if variable is not None and not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
        raise ConfigError(
            f"{key}.api_key_env must be the name of an environment variable, in capitals, such as OPENAI_API_KEY (what "
            "was given is not shown here: it may be the key itself)"
        )


def _extra(key: str, extra: Any) -> Mapping[str, Any]:
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise ConfigError(f"{key}.extra_body must be a mapping from parameters to values, not {type(extra).__name__}")
    taken = sorted(OURS.intersection(extra))
    if taken:
        raise ConfigError(
            f"{key}.extra_body.{taken[0]} is set by apportion, from the arm and the request; remove it there, and set "
            "temperature, top_p, max_tokens and stop in the arm"
        )
    try:
        json.dumps(extra)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}.extra_body is no JSON ({error}); give plain numbers, texts and lists") from error
    return dict(extra)


def _omitted(key: str, omit: Any) -> tuple[str, ...]:
    names = [omit] if isinstance(omit, str) else list(omit) if isinstance(omit, list | tuple) else None
    if names is None or not set(map(str, names)) <= set(MAY_OMIT):
        raise ConfigError(f"{key}.omit is {omit!r}, but must be a list of some of {', '.join(MAY_OMIT)}")
    return tuple(map(str, names))


def _check_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(f"{key} holds more than an address (a user, a key or a query); use api_key_env for a key")
    if parts.scheme not in ("http", "https") or not host:
        # Its value is not shown either: keys get pasted into the wrong line.
        raise ConfigError(f"{key} is no web address; give one such as https://api.openai.com/v1 or http://HOST:8000/v1")


def _within(key: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        upto = f" and at most {most:g}" if math.isfinite(most) else ""
        raise ConfigError(f"{key} is {value:g}, but must be a number of at least {least:g}{upto}")
