"""The table of engines."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from actor_world import fake

from apportion.actors.registry import (
    ENGINES,
    EngineKind,
    build_embedder,
    build_engine,
    build_model,
    build_scorer,
    describe,
    kind_of,
)
from apportion.actors.spec import Role
from apportion.errors import ConfigError


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'embeded'.*did you mean 'embedded'.*known: embedded, fake"):
        kind_of(replace(fake(), engine="embeded"))


def test_a_role_an_engine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "apportion.actors.registry.ENGINES", {"none": EngineKind(None, None, None, ENGINES["fake"].describe)}
    )
    spec = replace(fake(), engine="none")
    with pytest.raises(ConfigError, match="runs no policy models"):
        build_engine(spec)
    with pytest.raises(ConfigError, match="runs no scorer models"):
        build_scorer(spec)
    with pytest.raises(ConfigError, match="runs no embedder models"):
        build_embedder(spec)


def test_an_engine_of_another_role_is_named() -> None:
    with pytest.raises(ConfigError, match=r"fake runs no embedder models; these do: embedded, vllm"):
        build_model(fake("probe", Role.EMBEDDER))


def test_the_role_decides_what_is_built() -> None:
    assert hasattr(build_model(fake()), "generate")
    assert hasattr(build_model(fake("prm", Role.SCORER)), "score")
    assert describe(fake()).profile().name == "policy"


def test_the_table_and_the_backends_import_no_framework() -> None:
    code = (
        "import sys, apportion.actors.registry, apportion.actors.backends, apportion.actors.fake, "
        "apportion.actors.describe; print(sorted({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
