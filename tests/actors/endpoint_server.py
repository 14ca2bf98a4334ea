"""A real HTTP server that plays an OpenAI-compatible one, over the embedded engine and a lab model or over the fake.

It runs in a thread with an event loop of its own, checks the key, counts what it was asked, and misbehaves on demand:
`script` holds what the next completions are answered with (None: properly), `always` what all of them are.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from apportion.actors.batching import Job
from apportion.actors.embedded import EmbeddedEngine
from apportion.actors.protocols import Engine
from apportion.actors.registry import build_engine
from apportion.actors.replies import Waiter
from apportion.actors.spec import ModelSpec
from apportion.types import Finish, Generate, Generated, Message, Sampling

KEY = "sk-test-9f8e7d6c5b4a39281706fedcba"
MODEL = "tiny-1"

Misbehaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class EndpointServer:
    """A server on a free port; use it as a context manager."""

    def __init__(self, spec: ModelSpec, context: int = 512) -> None:
        self.url = ""
        self.context = context
        self.running = 0
        self.behave()
        self._spec = spec
        self._thread = threading.Thread(target=self._main, name="endpoint-server", daemon=True)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._failed: BaseException | None = None

    def behave(self) -> None:
        """Forget what was asked, and do nothing wrong."""
        self.key: str | None = KEY
        self.vllm = True
        self.trims: bool | None = None
        """of /tokenize: whether its template cuts the end of a text; None where it is not offered"""
        self.lists_models: bool | Misbehaviour = True
        self.script: deque[Misbehaviour | None] = deque()
        self.always: Misbehaviour | None = None
        self.edit: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.asked: list[dict[str, Any]] = []
        self.charged = {"prompt": 0, "completion": 0, "calls": 0}
        self.most_running = 0

    def __enter__(self) -> EndpointServer:
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *ignored: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failed = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        engine = await asyncio.to_thread(build_engine, self._spec)
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/v1/{api:chat/completions|completions}", lambda request: self._complete(request, engine))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()
        await engine.close()

    def _refused(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.key is None or given == f"Bearer {self.key}":
            return None
        # As careless as a server can be: it says what it was sent.
        return error(401, f"Incorrect API key provided: {given}")

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if callable(self.lists_models):
            return await self.lists_models(request, {})
        if not self.lists_models:
            return error(404, "no such page")
        card = {"id": MODEL, "object": "model", "max_model_len": self.context}
        return self._refused(request) or web.json_response({"object": "list", "data": [card]})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        if self.trims is None:
            return error(404, "no such page")
        body = await request.json()
        assert body["continue_final_message"]
        assert not body["add_generation_prompt"]
        text = body["messages"][-1]["content"]
        tokens = list((text.rstrip() if self.trims else text).encode())
        return self._refused(request) or web.json_response({"count": len(tokens), "tokens": tokens})

    async def _complete(self, request: web.Request, engine: Engine) -> web.StreamResponse:
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = await request.json()
        self.asked.append(body)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if body["model"] != MODEL:
                return error(404, f"The model {body['model']} does not exist")
            wrong = self.always or (self.script.popleft() if self.script else None)
            return await wrong(request, body) if wrong is not None else await self._answer(request, body, engine)
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], engine: Engine) -> web.Response:
        chat = request.path.endswith("/chat/completions")
        wanted = generate_of(body, chat)
        try:
            if chat:
                reply = await engine.generate(wanted)
            else:
                reply = await run_tokens(engine, wanted, body["prompt"], self.context)
        except Exception as failure:
            return error(400, f"This model's maximum context length is {self.context} tokens. {failure}")
        prompt = reply.usage.prompt_tokens + reply.usage.cached_tokens
        (completion,) = reply.completions
        if completion.tokens == 0:
            return error(400, f"This model's maximum context length is {self.context} tokens.")
        self.charged["prompt"] += prompt
        self.charged["completion"] += completion.tokens
        self.charged["calls"] += 1
        text, stopped = completion.text, None
        if completion.finish is Finish.STOP:
            stopped = next(stop for stop in wanted.sampling.stop if text.endswith(stop))
            if not (self.vllm and body.get("include_stop_str_in_output")):
                text = text.removesuffix(stopped)
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "length" if completion.finish is Finish.LENGTH else "stop",
            **({"stop_reason": stopped} if self.vllm else {}),
            **({"message": {"role": "assistant", "content": text}} if chat else {"text": text}),
        }
        usage = {"prompt_tokens": prompt, "completion_tokens": completion.tokens}
        if reply.usage.cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": reply.usage.cached_tokens}  # type: ignore[assignment]
        answer = {"id": "x", "object": "y", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
        edited = self.edit(answer)
        return web.json_response(edited) if not isinstance(edited, web.Response) else edited


def generate_of(body: dict[str, Any], chat: bool) -> Generate:
    """The request behind an HTTP request."""
    turns = [Message(turn["role"], turn["content"]) for turn in body.get("messages", ())]
    prefix = turns.pop().content if chat and body.get("continue_final_message") else ""
    heat, nucleus, stops = body.get("temperature", 1.0), body.get("top_p", 1.0), tuple(body.get("stop") or ())
    sampling = Sampling(heat, nucleus, body["max_tokens"], stops)
    return Generate("policy", tuple(turns), (body.get("seed", 0),), sampling, prefix)


async def run_tokens(engine: Engine, wanted: Generate, prompt: Sequence[int], context: int) -> Generated:
    """A completion of token ids, as the completions API takes them."""
    assert isinstance(engine, EmbeddedEngine)
    limit = min(wanted.sampling.max_tokens, context - len(prompt))
    job = Job(wanted, list(prompt), limit, Waiter.here())
    engine._batcher.submit(job)
    return await job.waiter.future


def error(status: int, message: str, code: str | None = None, **headers: str) -> web.Response:
    """An error as OpenAI words it."""
    body = {"error": {"message": message, "type": "test", "param": None, "code": code}}
    return web.json_response(
        body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def answers(response: Callable[[], web.StreamResponse]) -> Misbehaviour:
    """A misbehaviour that gives one response."""

    async def misbehave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return response()

    return misbehave


def refuses(status: int, message: str = "no", code: str | None = None, **headers: str) -> Misbehaviour:
    """A misbehaviour that answers with an error."""
    return answers(lambda: error(status, message, code, **headers))


def says(text: str, content_type: str = "application/json") -> Misbehaviour:
    """A misbehaviour that answers 200 with any text."""
    return answers(lambda: web.Response(text=text, content_type=content_type))


async def hangs(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Never answers."""
    await asyncio.sleep(600)
    return web.Response()


async def drips(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answers a byte at a time, for ever."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def hangs_up(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Closes the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def floods(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answers with more than any answer can be."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for _ in range(64):
        await response.write(b" " * 2**20)
    return response
