"""What a job says of itself on Ray's Prometheus endpoint."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from test_solve import config, rows

import apportion
from apportion.actors.health import Health
from apportion.scheduler.metrics import JOB_GAUGES, REPLICA_GAUGES, Metrics
from apportion.scheduler.progress import JobView

SECONDS = 120
"""Ray's agent takes its time on a busy machine."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield f"http://127.0.0.1:{port}/metrics"
    ray.shutdown()


def scrape(url: str) -> dict[str, list[tuple[str, float]]]:
    """Our metrics by name: tags and value of each series."""
    try:
        text = urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return {}
    found: dict[str, list[tuple[str, float]]] = {}
    for name, tags, value in re.findall(r"^(ray_apportion_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        found.setdefault(name.removeprefix("ray_"), []).append((tags, float(value)))
    return found


@pytest.mark.cluster
def test_a_job_on_ray_is_seen_on_the_prometheus_endpoint(endpoint: str) -> None:
    slow = {"small": {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.5}, "replicas": 2}}
    job = config(
        models=slow,
        cluster={"address": "local"},
        budget={"amount": 1e6, "unit": "tokens"},
        execution={"in_flight": 2},
    )
    results = apportion.solve(rows(2000), job)
    next(results)
    wanted = {*JOB_GAUGES, *REPLICA_GAUGES}
    deadline = time.monotonic() + SECONDS
    found = scrape(endpoint)
    while not wanted <= found.keys() or found["apportion_prompts_done"][0][1] < 1:
        assert time.monotonic() < deadline, f"only {sorted(found)}"
        time.sleep(0.5)
        found = scrape(endpoint)
    results.close()  # type: ignore[attr-defined]
    assert found["apportion_prompts"][0][1] == 2000
    assert found["apportion_budget"][0][1] == 1e6
    assert 0 < found["apportion_spent"][0][1] <= 1e6
    assert 'unit="tokens"' in found["apportion_spent"][0][0]
    assert {value for _, value in found["apportion_replica_up"]} == {1.0}
    assert len(found["apportion_replica_up"]) == 2
    assert all('model="small"' in tags for tags, _ in found["apportion_replica_up"])


def test_without_ray_nothing_is_imported_or_set() -> None:
    code = (
        "import sys\n"
        "from apportion.scheduler.metrics import Metrics\n"
        "Metrics('run')(None, ())\n"
        "assert 'ray' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_speed_is_that_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gauges(dict[str, "Gauges"]):
        def set(self, value: float, tags: dict[str, str]) -> None:
            self.last = (value, tags)

    now = [0.0]
    metrics = Metrics("run", clock=lambda: now[0])
    gauges = {name: Gauges() for name in (*JOB_GAUGES, *REPLICA_GAUGES)}
    monkeypatch.setattr("apportion.scheduler.metrics.ray_is_connected", lambda: True)
    monkeypatch.setattr(metrics, "_make", lambda: metrics._gauges.update(gauges))
    for at, tokens in ((0.0, 100.0), (0.5, 110.0), (2.0, 300.0)):
        now[0] = at
        metrics(view(tokens), (Health("small", 0, False, 3, 7),))
    assert gauges["apportion_tokens_per_second"].last == (100.0, {"run": "run", "unit": "tokens"})
    assert gauges["apportion_replica_restarts"].last == (3.0, {"run": "run", "model": "small", "replica": "0"})
    assert gauges["apportion_replica_up"].last[0] == 0.0
    now[0] = 2.5
    metrics(view(400.0), ())
    assert gauges["apportion_tokens_per_second"].last[0] == 100.0, "not yet time for another"
    metrics(view(400.0), (), ended=True)
    assert gauges["apportion_tokens_per_second"].last[0] == 200.0


def view(tokens: float) -> JobView:
    return JobView(9, 4, 2, 3, 0, 1e3, 5e2, "tokens", 0.1, tokens, 0, 0, 1.0)
