"""The list that vLLM is installed from for CPUs holds all that apportion itself requires, as it is installed alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
TESTS_NEED = {"pytest", "pytest-timeout", "hypothesis"}


def plain(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]).lower()


def test_nothing_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-vllm-cpu.txt").read_text().splitlines()
    pinned = {plain(line) for line in lines if line and not line.startswith("#")}
    required = {plain(line) for line in [*project["dependencies"], *project["optional-dependencies"]["vllm-cpu"]]}
    assert required | TESTS_NEED <= pinned
    assert not pinned & LEFT_OUT
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    (wanted,) = project["optional-dependencies"]["vllm-cpu"]
    assert wanted in lines
