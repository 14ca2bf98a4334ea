"""Model folders and an OpenAI-compatible server, made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from actor_world import write_policy, write_prm
from endpoint_server import KEY, EndpointServer

from apportion.actors.spec import ModelSpec, Role
from apportion.lab import lab_path


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("models") / "policy")


@pytest.fixture(scope="session")
def prm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prm(tmp_path_factory.mktemp("models") / "prm")


@pytest.fixture(scope="session")
def policy(policy_folder: Path) -> ModelSpec:
    return ModelSpec("policy", "embedded", Role.POLICY, str(policy_folder))


@pytest.fixture(scope="session")
def prm(prm_folder: Path) -> ModelSpec:
    return ModelSpec("prm", "embedded", Role.SCORER, str(prm_folder))


@pytest.fixture(scope="session")
def lab_server() -> Iterator[EndpointServer]:
    lab = ModelSpec("lab", "embedded", Role.POLICY, str(lab_path("lab:small")), engine_args={"prefix_cache_mb": 0})
    with EndpointServer(lab) as server:
        yield server


@pytest.fixture
def server(lab_server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    """A server over a lab model that behaves until it is told otherwise; its key is in TEST_KEY."""
    monkeypatch.setenv("TEST_KEY", KEY)
    lab_server.behave()
    yield lab_server
    lab_server.behave()
