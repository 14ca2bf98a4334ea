"""vLLM's arguments, and models that are to run on it, where vLLM is not installed."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import pytest

from apportion.actors import vllm_args
from apportion.actors.host import Host
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.vllm_args import OwnArgs
from apportion.actors.vllm_launch import launch
from apportion.errors import ConfigError, ModelError

SOURCE = """
class EngineArgs:
    model: str = "m"
    max_model_len: int | None = None
    _private: int = 0
class AsyncEngineArgs(EngineArgs):
    enable_log_requests: bool = False
class Other:
    nothing: int = 0
"""


def spec_of(role: Role = Role.POLICY, **engine_args: object) -> ModelSpec:
    return ModelSpec("small", "vllm", role, "lab", engine_args=engine_args)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the name, with the source of its arguments alone."""
    (tmp_path / "vllm" / "engine").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise SystemExit('vLLM was imported')\n")
    (tmp_path / "vllm" / "engine" / "arg_utils.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    vllm_args.vllm_arguments.cache_clear()
    monkeypatch.setattr(vllm_args, "vllm_arguments", vllm_args.vllm_arguments.__wrapped__)


@pytest.mark.usefixtures("installed")
def test_arguments_are_read_without_importing_vllm() -> None:
    assert vllm_args.vllm_arguments() == {"model", "max_model_len", "enable_log_requests"}
    own, theirs = OwnArgs.split(spec_of(max_model_len=64, logprobs=5))
    assert (own.logprobs, theirs) == (5, {"max_model_len": 64})
    with pytest.raises(
        ConfigError, match=r"engine_args\.max_model_lenn: .*no such engine argument; did you mean 'max_mod"
    ):
        OwnArgs.split(spec_of(max_model_lenn=64))


@pytest.mark.usefixtures("installed")
def test_an_argument_of_the_other_role_is_none() -> None:
    with pytest.raises(ConfigError, match=r"engine_args\.logprobs: vLLM has no such"):
        OwnArgs.split(spec_of(Role.SCORER, logprobs=5))
    with pytest.raises(ConfigError, match=r"engine_args\.format: vLLM has no such"):
        OwnArgs.split(spec_of(format="skywork"))


def test_without_vllm_a_model_is_described_and_not_loaded(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else found(name, *more))
    spec = ModelSpec("small", "vllm", Role.POLICY, str(policy_folder))
    assert describe(spec).profile().context == 256
    with pytest.raises(ModelError, match=r"vLLM is not installed here; install apportion\[vllm\].*`engine: embedded`"):
        Host.load(spec)


@pytest.mark.usefixtures("installed")
def test_a_model_without_a_configuration_leaves_no_files_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(ModelError, match=r"config\.json"):
        launch(ModelSpec("small", "vllm", Role.POLICY, str(tmp_path / "model")), tmp_path / "model", {})
    assert list((tmp_path / "temporary").iterdir()) == []
