"""Whole jobs on an endpoint: one dollar budget is kept, failures cost what they cost, and the key is nowhere."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from endpoint_server import KEY, MODEL, EndpointServer, error, hangs_up, refuses, says

from apportion.cli import main
from apportion.configs.build import load_job
from apportion.errors import ClusterLostError, ModelError
from apportion.scheduler.solve import run_job

Capture = pytest.CaptureFixture[str]
INPUT, OUTPUT = 3.0, 12.0
# Dollars per million tokens.

MOST = 40
# Tokens that a lab model's solution may take.


def config(server: EndpointServer, output: Path, **changes: Any) -> dict[str, Any]:
    dataset = output.parent / "stories.jsonl"
    stories = [
        {"id": f"q{n}", "q": f"Ann has {12 + n} boxes. She buys {3 + n} more. How many boxes does Ann have now?"}
        for n in range(8)
    ]
    dataset.write_text("".join(json.dumps({**row, "a": 15 + 2 * n}) + "\n" for n, row in enumerate(stories)))
    args = {"base_url": server.url, "api_key_env": "TEST_KEY", "backoff_s": 0.001, "tokenizer": "lab:small"}
    args |= {"server": "vllm", **changes.pop("engine_args", {})}
    prices = {"dollars_per_million_input": INPUT, "dollars_per_million_output": OUTPUT}
    far = {"engine": "openai", "model": MODEL, "step_separator": "\n", **prices, "engine_args": args}
    vote = {"strategy": "best_of_n", "policy": "far", "n": [1, 2, 4], "max_tokens": MOST}
    return {
        "dataset": {"path": str(dataset), "prompt": "q", "id": "id", "reference": "a"},
        "output": str(output),
        "budget": {"amount": changes.pop("dollars", 0.03), "unit": "dollars"},
        "models": {"far": {**far, **changes.pop("model", {})}},
        "arms": {"vote": vote},
        "cluster": {"address": "inline"},
        **changes,
    }


def run(config: dict[str, Any]) -> dict[str, Any]:
    return run_job(load_job(config))


def paid(server: EndpointServer) -> float:
    """What the endpoint would write on its bill for what it answered."""
    return (server.charged["prompt"] * INPUT + server.charged["completion"] * OUTPUT) / 1e6


def nowhere(folder: Path, *texts: str) -> None:
    """The key is in no file of a folder, in no row of its journal, and in none of the texts."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file
    for journal in folder.rglob("journal.sqlite"):
        with sqlite3.connect(journal) as database:
            assert KEY not in "\n".join(database.iterdump())
    assert not any(KEY in text for text in texts)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_dollar_budget_is_kept_and_the_bill_is_the_endpoints(
    server: EndpointServer, tmp_path: Path, capfd: Capture, api: str
) -> None:
    summary = run(config(server, tmp_path / "run", dollars=0.03, engine_args={"api": api}))
    assert summary["answered"] == 8
    spent = summary["spent"]["dollars"]
    assert 0.0 < spent <= 0.03
    assert spent == pytest.approx(paid(server))
    assert summary["spent"]["samples"] == server.charged["calls"]
    assert summary["spent"]["gpu_seconds"] == 0.0
    nowhere(tmp_path / "run", *capfd.readouterr())


def test_a_budget_without_a_tokenizer_is_kept_though_prompts_are_only_bounded(
    server: EndpointServer, tmp_path: Path
) -> None:
    args = {"tokenizer": None, "server": "plain"}
    summary = run(config(server, tmp_path / "run", dollars=0.03, engine_args=args))
    assert summary["answered"] == 8
    assert summary["spent"]["dollars"] == pytest.approx(paid(server))
    assert paid(server) <= 0.03


def test_nonsense_fails_its_prompt_is_charged_and_the_job_goes_on(
    server: EndpointServer, tmp_path: Path, capfd: Capture
) -> None:
    echo = says(json.dumps({"choices": [], "sent": KEY}))
    server.script.extend([None, echo, echo, hangs_up, hangs_up, refuses(500, KEY), refuses(403, KEY), None])
    job = config(server, tmp_path / "run", dollars=0.03)
    job["arms"]["vote"]["n"] = [1]
    job["execution"] = {"in_flight": 1}
    summary = run(job)
    assert summary["prompts"] == 8
    assert summary["failed"] == 3
    assert summary["answered"] == 5
    assert summary["spent"]["dollars"] <= 0.03
    # Two calls each of two prompts may have been charged: both are, at the most they can have cost.
    lost = summary["spent"]["dollars"] - paid(server)
    assert 4 * MOST * OUTPUT / 1e6 < lost < 4 * (MOST * OUTPUT + 200 * INPUT) / 1e6
    errors = [json.loads(line)["error"] for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    said = " ".join(filter(None, errors))
    for words in ("no choices", "lost the connection", "environment variable TEST_KEY"):
        assert words in said
    nowhere(tmp_path / "run", said, *capfd.readouterr())


def test_a_job_that_nothing_but_failures_come_of_spends_no_more_than_its_budget(
    server: EndpointServer, tmp_path: Path
) -> None:
    server.always = says("{}")
    summary = run(config(server, tmp_path / "run", dollars=0.01))
    assert summary["answered"] == 0
    assert 0.0 < summary["spent"]["dollars"] <= 0.01


def test_a_key_that_is_withdrawn_stops_the_job_which_is_resumed_where_it_was(
    server: EndpointServer, tmp_path: Path, capfd: Capture
) -> None:
    job = config(server, tmp_path / "run", dollars=0.03, execution={"in_flight": 1})
    job["arms"]["vote"]["n"] = [1]
    server.script.extend([None] * 6)
    server.script.extend([refuses(401, f"revoked: {KEY}")] * 200)
    with pytest.raises(
        ClusterLostError, match=r"environment variable TEST_KEY.*same command again to resume"
    ) as caught:
        run(job)
    assert KEY not in str(caught.value)
    nowhere(tmp_path / "run", *capfd.readouterr())
    before = server.charged["calls"]
    assert before > 0
    server.script.clear()
    summary = run(job)
    assert (summary["prompts"], summary["failed"]) == (8, 0)
    assert summary["spent"]["dollars"] <= 0.03
    # What was under way when the job stopped may be charged though it was refused, never the other way round.
    assert paid(server) <= summary["spent"]["dollars"] * (1 + 1e-9)


def command(job: dict[str, Any], folder: Path, capfd: Capture, name: str) -> tuple[int, str]:
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    code = main([name, str(folder / "job.yaml"), *(["--quiet"] if name == "run" else [])])
    return code, " ".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["check", "run"])
def test_what_makes_an_endpoint_useless_is_named_before_anything_is_spent(
    server: EndpointServer,
    tmp_path: Path,
    capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def refusal(**changes: Any) -> str:
        code, shown = command(config(server, tmp_path / "run", **changes), tmp_path, capfd, name)
        assert code == 2, shown
        assert not server.asked
        assert KEY not in shown
        return " ".join(shown.split())

    assert "cannot be reached" in refusal(engine_args={"base_url": "http://127.0.0.1:9/v1", "timeout_s": 5.0})
    server.key = "another"
    assert "environment variable TEST_KEY" in refusal()
    server.key = KEY
    assert "max_model_len to 512" in refusal(engine_args={"max_model_len": 4096})
    monkeypatch.delenv("TEST_KEY")
    assert "TEST_KEY is not set" in refusal()
    monkeypatch.setenv("TEST_KEY", f"{KEY}\x07{KEY}")
    assert "characters that no key has" in refusal()


def test_a_model_that_is_not_listed_is_tried_and_named_with_those_that_are(
    server: EndpointServer, tmp_path: Path, capfd: Capture
) -> None:
    job = config(server, tmp_path / "run", model={"model": "tiny-2"})
    code, shown = command(job, tmp_path, capfd, "check")
    assert code == 2
    assert "did you mean 'tiny-1'" in shown
    assert server.charged["calls"] == 0


def test_check_asks_nothing_but_the_list_of_models(server: EndpointServer, tmp_path: Path, capfd: Capture) -> None:
    code, shown = command(config(server, tmp_path / "run"), tmp_path, capfd, "check")
    assert code == 0, shown
    assert not server.asked
    nowhere(tmp_path, shown)


def test_one_token_is_asked_for_where_no_models_are_listed(server: EndpointServer, tmp_path: Path) -> None:
    server.lists_models = False
    assert run(config(server, tmp_path / "run"))["answered"] == 8
    assert server.asked[0]["max_tokens"] == 1
    server.edit = lambda answer: {**answer, "usage": {"prompt_tokens": 9000, "completion_tokens": 1}}
    with pytest.raises(ModelError, match="template_tokens"):
        run(config(server, tmp_path / "more"))
    server.edit = lambda answer: {**answer, "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
    with pytest.raises(ModelError, match="12 tokens where one was allowed"):
        run(config(server, tmp_path / "more"))
    server.edit = lambda answer: error(200, KEY)
    with pytest.raises(ModelError, match="an error under a status of 200") as caught:
        run(config(server, tmp_path / "more"))
    assert KEY not in str(caught.value)


def test_a_page_in_the_place_of_the_models_is_no_endpoint(
    server: EndpointServer, tmp_path: Path, capfd: Capture
) -> None:
    job = config(server, tmp_path / "run", engine_args={"base_url": server.url.removesuffix("/v1")})
    code, shown = command(job, tmp_path, capfd, "check")
    assert code == 2
    assert "check `model` and engine_args.base_url" in " ".join(shown.split())


def test_beams_over_an_endpoint_with_a_verifier_of_ones_own(server: EndpointServer, tmp_path: Path) -> None:
    job = config(server, tmp_path / "run", engine_args={"api": "completions"})
    job["models"]["prm"] = {"engine": "embedded", "role": "scorer", "model": "lab:prm"}
    job["arms"]["beam"] = {
        "strategy": "beam_search",
        "policy": "far",
        "verifier": "prm",
        "select": "weighted",
        "n": [4],
        "width": 2,
        "max_tokens": MOST,
    }
    del job["arms"]["vote"]
    job["dataset"]["limit"] = 4
    job["budget"] = {"amount": 1e5, "unit": "tokens"}
    summary = run(job)
    assert summary["answered"] == 4
    assert summary["spent"]["tokens"] <= 1e5
    by_model = summary["by_model"]["far"]
    assert by_model["tokens"] == server.charged["prompt"] + server.charged["completion"]
    assert any(asked["stop"] for asked in server.asked)
