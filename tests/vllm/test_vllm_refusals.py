"""Models that vLLM does not start: what is said, before anything is asked of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apportion.actors.host import Host
from apportion.actors.spec import ModelSpec
from apportion.errors import ConfigError, ModelError


def with_args(spec: ModelSpec, **engine_args: Any) -> ModelSpec:
    return replace(spec, engine_args=engine_args)


def test_what_does_not_fit_says_what_to_change(policy_spec: ModelSpec) -> None:
    """vLLM finds it out in a process of its own; the cause is found all the same."""
    with pytest.raises(ModelError, match=r"KV cache.*it does not fit: lower engine_args\.max_model_len"):
        Host.load(with_args(policy_spec, kv_cache_memory_bytes=2**16))


def test_a_value_that_vllm_does_not_take_is_named(policy_spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"models\.policy: vLLM does not start .*float31"):
        Host.load(with_args(policy_spec, dtype="float31"))
    with pytest.raises(ConfigError, match=r"max_model_length: vLLM has no such engine argument; did you mean 'max_mod"):
        Host.load(with_args(policy_spec, max_model_length=64))


def test_an_architecture_that_vllm_lacks_is_named(policy_spec: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(policy_spec.path, folder)
    text = (folder / "config.json").read_text().replace("Qwen2ForCausalLM", "OddForCausalLM")
    (folder / "config.json").write_text(text.replace('"qwen2"', '"odd"'))
    with pytest.raises(ModelError, match=r"vLLM does not start .*odd.*check engine_args and that vLLM supports"):
        Host.load(replace(policy_spec, path=str(folder)))


def test_a_model_that_is_nowhere_is_named(policy_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"models\.policy\.model: 'nobody/nothing' is (not|neither)"):
        Host.load(replace(policy_spec, path="nobody/nothing"))
