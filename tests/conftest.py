"""How the tests share a machine when several run at once (`pytest -n 2 --dist loadgroup`)."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numpy look: as many threads in each process as there are cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that start several nodes run one after the other, the others of a file together, as they share fixtures."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            several = item.get_closest_marker("cluster") is not None
            item.add_marker(pytest.mark.xdist_group("cluster" if several else item.nodeid.partition("::")[0]))
