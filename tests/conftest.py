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
    """Tests that start Ray run one after the other, and those of a file together, as they share its fixtures."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            ray = any(item.get_closest_marker(name) for name in ("ray", "cluster"))
            item.add_marker(pytest.mark.xdist_group("ray" if ray else item.path.name))
