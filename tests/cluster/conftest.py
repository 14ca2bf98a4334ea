"""A cluster of four nodes for the tests here: a head without CPUs, and three workers with logical GPUs.

One for each file, as a process is in one cluster at a time and the tests that follow need others.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def failures() -> ModuleType:
    """benchmarks/failures.py: the cluster, the job, the kills, and the check of its books."""
    return _load("failures")


@pytest.fixture(scope="module")
def workers(failures: ModuleType) -> Iterator[object]:
    with failures.Workers(cpus=4, gpus=2) as workers:
        yield workers
