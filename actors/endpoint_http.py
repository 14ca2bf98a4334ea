"""Calls to an endpoint through the official client: how many at once, how long each, and what is tried again.

Whether a failed call costs money decides what follows. Refusals (429 and other 4xx), 5xx and connections that were
never made cost nothing and are tried again where that can help. Timeouts, lost connections and answers that make no
sense may be charged by the endpoint: they are tried again `charged_retries` times, and each is reported, to be charged
in full.

Invariants: no exception of the client leaves this module (they hold the request, and the request holds the key), and
the key is struck from every text of the endpoint, before anything is cut off from it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_random_exponential

from apportion.actors.endpoint_refusals import remedy
from apportion.actors.endpoint_settings import TELLING_KEY, EndpointSettings

T = TypeVar("T")

LONGEST_WAIT = 60.0
# Between retries of our own choosing.

LONGEST_ASKED_WAIT = 600.0
# A Retry-After beyond this means that the day's quota is used up: the user should know, not wait.

SHOWN = 300
# Characters of an endpoint's text in a message.

CHARGEABLE = frozenset({408, 504, 524})
# Timeouts of a proxy between: the endpoint may have written, and counted, an answer that nobody got.

TRANSIENT = frozenset({409, 425, 429})
# Of the 4xx, the ones that another attempt may get over.

NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
# Causes of a connection error, by class name, after which no request had left.

KEY_WORN = frozenset({401, 402, 404})
# No key, no credit, no such model: whatever is asked next is refused too.

BYTES_PER_TOKEN = 16384
BYTES_BESIDE = 4 * 2**20
# No honest answer is longer: a token with twenty alternatives takes about 4 KB of JSON.


class Secret:
    """A key that is shown nowhere. An empty one stands for an endpoint that wants none."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key, for the client alone."""
        return self._value

    def strike(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._value, "***") if self._value else text

    def strike_content(self, text: str) -> str:
        """What a model wrote, without the key; a dummy key may be a word like others."""
        return self.strike(text) if len(self._value) >= TELLING_KEY else text

    def __repr__(self) -> str:
        return "Secret(***)"


class NonsenseError(Exception):
    """An answer that is none. Raised by readers of answers, and only for `Caller.post`."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a call failed. `chargeable`: the endpoint may charge for it. `wait` is what the endpoint asks for."""

    message: str
    status: int | None = None
    again: bool = False
    chargeable: bool = False
    wait: float | None = None
    final: bool = False
    """whatever is asked next fails in the same way"""
    body: str = ""
    """what the endpoint said, for those who look for a reason in it"""


@dataclass(frozen=True, slots=True)
class Posted(Generic[T]):
    """How a request went. `lost` counts attempts that failed and may be charged."""

    value: T | None
    trouble: Trouble | None
    lost: int
    seconds: float


class Caller:
    """One endpoint. To be used in one event loop."""

    def __init__(self, name: str, settings: EndpointSettings, secret: Secret, concurrency: int) -> None:
        self._name = name
        self._settings = settings
        self._secret = secret
        self._slots = asyncio.Semaphore(concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            # Without a value the client would send OPENAI_API_KEY, to whatever address this is.
            api_key=secret.reveal() or "none",
            max_retries=0,
            timeout=settings.timeout_s,
        )

    async def post(self, fields: Mapping[str, Any], read: Callable[[bytes], T], most_tokens: int) -> Posted[T]:
        """One completion: its parameters in, what `read` makes of the answer out. Waits for a slot, and tries again."""
        api = self._client.chat.completions if self._settings.api == "chat" else self._client.completions
        create: Any = api.with_streaming_response.create
        return await self._retried(
            lambda: self._call(create, fields, read, BYTES_BESIDE + most_tokens * BYTES_PER_TOKEN)
        )

    async def models(self, read: Callable[[bytes], T]) -> Posted[T]:
        """GET /models."""
        create: Any = self._client.models.with_streaming_response.list
        return await self._retried(lambda: self._call(create, {}, read, BYTES_BESIDE))

    async def tokens(self, fields: Mapping[str, Any]) -> object:
        """A conversation's tokens by vLLM's own /tokenize; None where that is not offered."""
        url = self._settings.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        try:
            async with self._slots, asyncio.timeout(self._settings.timeout_s):
                answer: Any = await self._client.post(url, cast_to=object, body=dict(fields))
        except Exception:
            # Whoever asks has nothing to lose; and the client's exceptions hold the key.
            return None
        return answer.get("tokens") if isinstance(answer, Mapping) else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _retried(self, call: Callable[[], Any]) -> Posted[T]:
        lost = 0

        async def attempt() -> T | Trouble:
            nonlocal lost
            outcome: T | Trouble = await call()
            lost += isinstance(outcome, Trouble) and outcome.chargeable
            return outcome

        def again(outcome: T | Trouble) -> bool:
            return isinstance(outcome, Trouble) and outcome.again and lost <= self._settings.charged_retries

        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self._settings.retries),
            wait=self._wait,
            retry=retry_if_result(again),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        async with self._slots:
            begun = time.monotonic()
            outcome: T | Trouble = await retrying(attempt)
            seconds = time.monotonic() - begun
        if isinstance(outcome, Trouble):
            return Posted(None, outcome, lost, seconds)
        return Posted(outcome, None, lost, seconds)

    def _wait(self, state: RetryCallState) -> float:
        outcome = state.outcome.result() if state.outcome else None
        if isinstance(outcome, Trouble) and outcome.wait is not None:
            # Not all at the same moment.
            return outcome.wait * (1.0 + 0.1 * random.random())
        return float(wait_random_exponential(multiplier=self._settings.backoff_s, max=LONGEST_WAIT)(state))

    async def _call(
        self, create: Any, fields: Mapping[str, Any], read: Callable[[bytes], T], most_bytes: int
    ) -> T | Trouble:
        """One attempt. Its failures are returned, not raised, so that none carries the client's exception along."""
        limit = self._settings.timeout_s
        try:
            # The client's own limit is of silence: an endpoint that drips would never reach it.
            async with asyncio.timeout(limit), create(**fields) as response:
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most_bytes:
                        raise NonsenseError(f"its answer is longer than {most_bytes:,} bytes")
                return read(bytes(body))
        except NonsenseError as error:
            why = self._secret.strike(str(error))
            return self._trouble(f"gave an answer that makes no sense: {why}", again=True, chargeable=True)
        except (TimeoutError, openai.APITimeoutError) as error:
            if type(error.__cause__).__name__ in NEVER_SENT:
                return self._trouble(f"cannot be reached within {limit:g} s", again=True)
            return self._trouble(
                f"did not answer within {limit:g} s; raise engine_args.timeout_s where that is too little",
                again=True,
                chargeable=True,
            )
        except openai.APIStatusError as error:
            return self._refused(error)
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            if cause in NEVER_SENT:
                return self._trouble(f"cannot be reached ({cause}: {self._shown(error.__cause__)})", again=True)
            return self._trouble(f"lost the connection ({cause})", again=True, chargeable=True)
        except Exception as error:
            # A body that does not decompress, a chunk that is no chunk: errors of the transport under the client.
            what = f"{type(error).__name__}: {self._shown(error)}"
            return self._trouble(f"broke its answer off ({what})", again=True, chargeable=True)

    def _refused(self, error: openai.APIStatusError) -> Trouble:
        status = error.status_code
        said = self._shown(_message(error.body))
        variable = self._settings.api_key_env
        quota = status == 429 and "insufficient_quota" in (error.code, error.type)
        wait = retry_after(error.response.headers)
        always = remedy(error.body, said) if status in (400, 422) else None
        if status in (401, 403):
            advice = f"check the key in the environment variable {variable}" if variable else "set api_key_env"
            advice += " and what it may use"
        elif status == 404:
            advice = "check `model` and engine_args.base_url"
        elif status == 402 or quota:
            advice = "the account has no credit left: add some, then run the same command again"
        elif wait is not None and wait > LONGEST_ASKED_WAIT:
            advice = f"it asks to wait {wait:,.0f} s: run the same command again then"
        elif status == 429:
            advice = "lower engine_args.concurrency or raise engine_args.retries"
        elif status >= 500:
            advice = "try again later, or raise engine_args.retries"
        elif always is not None:
            advice = always
        else:
            advice = "change the request: the arm's settings, engine_args.extra_body or the prompt"
        patient = wait is None or wait <= LONGEST_ASKED_WAIT
        return self._trouble(
            f"answered {status}: {said}; {advice}",
            status=status,
            again=(status >= 500 or status in TRANSIENT or status in CHARGEABLE) and patient and not quota,
            chargeable=status in CHARGEABLE,
            wait=wait,
            final=status in KEY_WORN or quota or not patient or always is not None,
            body=said,
        )

    def _trouble(self, what: str, **facts: Any) -> Trouble:
        return Trouble(f"model {self._name!r}: the endpoint {self._settings.base_url} {what}", **facts)

    def _shown(self, text: object) -> str:
        """An endpoint's text as a message may hold it: no key, no control characters, one line, not long."""
        clean = "".join(c if c.isprintable() else " " for c in self._secret.strike(str(text)))
        words = " ".join(clean.split())
        return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."


def _message(body: object) -> str:
    if isinstance(body, Mapping):
        return str(body.get("message") or body.get("detail") or dict(body))
    text = str(body or "no reason given")
    return "an HTML page" if "<html" in text[:1000].lower() else text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's headers ask to wait; None where they ask for nothing that can be read."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds >= 0.0:
            return seconds
    return None
