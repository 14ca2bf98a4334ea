"""What a config may say of an endpoint: everything else is refused before anything is asked, and no key is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from endpoint_server import KEY
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.actors.endpoint_describe import describe, most_tokens
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.configs.build import load_job
from apportion.costs import Unit, worst_case
from apportion.errors import ConfigError, ModelError
from apportion.lab import lab_path
from apportion.types import Generate, Message, Sampling

URL = "http://127.0.0.1:9/v1"


def job(unit: str = "dollars", arms: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    args = {"base_url": URL, **model.pop("engine_args", {})}
    prices = {"dollars_per_million_input": 1.0, "dollars_per_million_output": 4.0}
    vote = {"strategy": "best_of_n", "policy": "far", "n": [1, 2]}
    return {
        "dataset": {"path": "lab:test", "prompt": "problem", "id": "id"},
        "output": "runs/x",
        "budget": {"amount": 1, "unit": unit},
        "models": {
            "far": {"engine": "openai", "model": "tiny-1", **prices, **model, "engine_args": args},
            "prm": {"engine": "fake", "role": "scorer", "model": "x", "dollars_per_hour": 1.0},
        },
        "arms": arms or {"vote": vote},
        "cluster": {"address": "inline"},
    }


BEAM = {"beam": {"strategy": "beam_search", "policy": "far", "verifier": "prm", "select": "weighted", "n": [4]}}
CHAIN = {"chain": {"strategy": "qalign", "policy": "far", "verifier": "prm", "select": "majority", "n": [4]}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no address": ({"engine_args": {"base_url": None}}, "base_url"),
    "an address that is none": ({"engine_args": {"base_url": "localhost:8000"}}, "base_url is no web address"),
    "a user in the address": ({"engine_args": {"base_url": f"http://u:{KEY}@h/v1"}}, "api_key_env"),
    "a key in the address": ({"engine_args": {"base_url": f"http://h/v1?key={KEY}"}}, "api_key_env"),
    "a key": ({"engine_args": {"api_key": KEY}}, "environment variable"),
    "a key where its variable's name belongs": ({"engine_args": {"api_key_env": KEY}}, "in capitals"),
    "a key that could be a name": ({"engine_args": {"api_key_env": KEY.replace("-", "_")}}, "in capitals"),
    "a key in another setting": ({"engine_args": {"headers": KEY}}, "has no such setting"),
    "the key in extra_body": (
        {"engine_args": {"api_key_env": "TEST_KEY", "extra_body": {"auth": KEY}}},
        "holds the key",
    ),
    "a misspelt setting": ({"engine_args": {"timout_s": 3}}, "did you mean 'timeout_s'"),
    "a word for a number": ({"engine_args": {"retries": "many"}}, "an integer"),
    "an unknown api": ({"engine_args": {"api": "responses"}}, "'chat' or 'completions'"),
    "no time": ({"engine_args": {"timeout_s": 0}}, "at least 0.001"),
    "no slot": ({"engine_args": {"concurrency": 0}}, "at least 1"),
    "too many slots": ({"engine_args": {"concurrency": 5000}}, "at most 1000"),
    "more charged retries than retries": ({"engine_args": {"retries": 1, "charged_retries": 2}}, "raise retries"),
    "cached tokens that cost more": ({"engine_args": {"dollars_per_million_cached": 2}}, "at most 1"),
    "completions without a tokenizer": ({"engine_args": {"api": "completions"}}, "tokenizer is missing"),
    "a context without a tokenizer": ({"engine_args": {"max_model_len": 4096}}, "needs engine_args.tokenizer"),
    "what apportion sets itself": ({"engine_args": {"extra_body": {"n": 4}}}, "set by apportion"),
    "extra_body that is a list": ({"engine_args": {"extra_body": [1]}}, "must be a mapping"),
    "gpus": ({"gpus": 1}, "computes elsewhere"),
    "an hourly price": ({"dollars_per_hour": 2}, "paid by token"),
    "a verifier": ({"role": "scorer"}, "runs no scorer models"),
    "dollars without a price": ({"dollars_per_million_input": 0, "dollars_per_million_output": 0}, "_input is missing"),
    "dollars without a price of completions": (
        {"dollars_per_million_output": 0},
        "dollars_per_million_output is missing",
    ),
    "gpu_seconds": ({"unit": "gpu_seconds"}, "use budget.unit dollars, tokens or samples"),
    "flops of an unknown model": ({"unit": "flops"}, "active_parameters is missing"),
    "flops of a model half known": ({"unit": "flops", "engine_args": {"active_parameters": 1e9}}, "layers is missing"),
    "beams over plain chat": ({"arms": BEAM}, "api: completions"),
    "steps that nobody tells from turns": (
        {"arms": BEAM, "engine_args": {"api": "completions", "tokenizer": "lab:small"}},
        "engine_args.server: a strategy of this job searches over steps",
    ),
    "omitting what cost depends on": ({"engine_args": {"omit": ["max_tokens"]}}, "some of seed, temperature"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_when_the_config_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, why = REFUSED[name]
    monkeypatch.setenv("TEST_KEY", KEY)
    config = job(**changes)
    if name == "a verifier":
        config["arms"] = {**BEAM, **config["arms"]}
        config["arms"]["beam"] = {**BEAM["beam"], "policy": "prm", "verifier": "far"}
        config["models"]["prm"]["role"] = "policy"
        config["arms"]["vote"]["policy"] = "prm"
    if name == "no address":
        del config["models"]["far"]["engine_args"]["base_url"]
    with pytest.raises(ConfigError) as caught:
        load_job(config)
    assert why in str(caught.value)
    assert KEY not in str(caught.value)
    assert KEY.replace("-", "_") not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unit": "tokens", "dollars_per_million_input": 0, "dollars_per_million_output": 0},
        {"unit": "samples"},
        {"unit": "flops", "engine_args": {"active_parameters": 1e9, "layers": 16, "attention_width": 2048}},
        {"arms": BEAM, "engine_args": {"server": "vllm"}},
        {"arms": BEAM, "engine_args": {"server": "sglang", "api": "completions", "tokenizer": "lab:small"}},
        {"arms": CHAIN, "engine_args": {"api": "completions", "tokenizer": "lab:small"}},
        {"engine_args": {"omit": ["seed", "temperature"], "max_tokens_name": "max_completion_tokens"}},
    ],
)
def test_what_can_work_is_taken(changes: dict[str, Any]) -> None:
    assert load_job(job(**changes)).models["far"].path == "tiny-1"


def test_the_packaged_example_is_a_job() -> None:
    far = load_job("endpoint").models["far"]
    assert describe(far).profile().dollars_per_million_output == 0.60


def spec(**args: Any) -> ModelSpec:
    return ModelSpec("far", "openai", Role.POLICY, "tiny-1", engine_args={"base_url": URL, **args})


def test_a_tokenizer_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="no-such-folder"):
        describe(spec(tokenizer="no-such-folder", max_model_len=100))
    with pytest.raises(ConfigError, match="lab:smal"):
        describe(spec(tokenizer="lab:smal"))


def test_a_context_that_nothing_tells(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        file = lab_path("lab:small") / name
        if file.exists():
            (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="max_model_len is missing"):
        describe(spec(tokenizer=str(tmp_path)))
    assert describe(spec(tokenizer=str(tmp_path), max_model_len=300)).profile().context == 300


TOKENIZER = ChatTokenizer(lab_path("lab:small"))


@settings(max_examples=200)
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_count_without_a_tokenizer_is_never_too_small(question: str, prefix: str) -> None:
    messages = (Message("system", "Be brief."), Message("user", question))
    bounded = describe(spec())
    assert bounded.count_prompt(messages) >= len(TOKENIZER.encode_prompt(messages))
    assert bounded.count_text(prefix) >= len(TOKENIZER.encode(prefix))


@pytest.mark.parametrize("text", ["ﷺ", "\U0001d160", "é" * 9, "日本語", "a b", "\u0344", "ㅤ", "½"])
def test_normalisation_may_make_texts_longer(text: str) -> None:
    from tokenizers import normalizers

    for normal in (normalizers.NFC(), normalizers.NFKC(), normalizers.NFD()):
        if not isinstance(normal, normalizers.NFD):
            assert most_tokens(text) >= len(normal.normalize_str(text).encode())


@given(
    prompt=st.integers(1, 400),
    seeds=st.integers(1, 9),
    most=st.integers(1, 300),
    retries=st.integers(0, 3),
)
def test_a_reservation_covers_every_call_that_may_be_charged(prompt: int, seeds: int, most: int, retries: int) -> None:
    profile = describe(spec(charged_retries=retries)).profile()
    request = Generate("far", (Message("user", "x"),), tuple(range(seeds)), Sampling(max_tokens=most))
    bound = worst_case(request, profile, prompt, 0, 1.0)
    assert bound.of(Unit.TOKENS) == seeds * (1 + retries) * (prompt + most)
    assert bound.of(Unit.SAMPLES) == seeds
