"""Model folders, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from actor_world import write_policy, write_prm

from apportion.actors.spec import ModelSpec, Role


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
