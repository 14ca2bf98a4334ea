"""A cluster of four nodes for the tests here: a head without CPUs, and three workers with logical GPUs.

One for each file, as a process is in one cluster at a time and the tests that follow need others.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workers import Workers


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(cpus=4, gpus=2) as workers:
        yield workers
