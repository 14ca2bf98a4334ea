"""A running job's figures as Ray metrics: they appear, with `ray_` before their names, on every Prometheus endpoint of
Ray's that the node of the driver serves.

Invariant: nothing of Ray is imported or touched before the job has connected to it, and never for an inline job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from apportion.actors.protocols import ReplicaHealth
from apportion.scheduler.progress import JobView

SECONDS_BETWEEN_UPDATES = 2.0
"""Ray hands gauges on every ten seconds, and with a thousand replicas an update takes milliseconds."""
JOB_GAUGES = {
    "apportion_prompts": "Prompts of the job.",
    "apportion_prompts_done": "Prompts that are committed.",
    "apportion_in_flight": "Purchases under way.",
    "apportion_queue": "Prompts that wait for capacity, or for a lower price.",
    "apportion_budget": "What the job may spend, in the unit of its tag.",
    "apportion_spent": "What the job has spent, in the unit of its tag.",
    "apportion_price": "Expected objective that a unit of budget must earn.",
    "apportion_tokens_per_second": "Tokens of policies and verifiers a second, since the last look.",
}
"""Tagged with `run`, the name of the run directory, and `unit`, that of the budget."""
REPLICA_GAUGES = {
    "apportion_replica_up": "1 where the replica answers, else 0.",
    "apportion_replica_restarts": "How often the replica was started anew.",
    "apportion_replica_requests": "Requests that the replica holds.",
}
"""Tagged with `run`, `model` and `replica`."""


def ray_is_connected() -> bool:
    """Whether this process has imported Ray and is connected to a cluster."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


class Metrics:
    """The gauges of one job; call it with each look at the job. `clock` is in seconds."""

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._gauges: dict[str, Any] = {}
        self._updated = float("-inf")
        self._last: tuple[float, float] | None = None

    def __call__(self, view: JobView, health: Sequence[ReplicaHealth], ended: bool = False) -> None:
        """Set every gauge where it is time to, or the job has `ended`; nothing happens before Ray is connected."""
        now = self._clock()
        if not ray_is_connected() or (not ended and now - self._updated < SECONDS_BETWEEN_UPDATES):
            return
        self._updated = now
        if not self._gauges:
            self._make()
        values = {
            "apportion_prompts": view.total,
            "apportion_prompts_done": view.done,
            "apportion_in_flight": view.running,
            "apportion_queue": view.waiting,
            "apportion_budget": view.budget,
            "apportion_spent": view.spent,
            "apportion_price": view.price,
            "apportion_tokens_per_second": self._speed(view.tokens, now),
        }
        for name, value in values.items():
            self._gauges[name].set(float(value), {"run": self._run, "unit": view.unit})
        for one in health:
            tags = {"run": self._run, "model": one.model, "replica": str(one.replica)}
            self._gauges["apportion_replica_up"].set(float(one.alive), tags)
            self._gauges["apportion_replica_restarts"].set(float(one.restarts), tags)
            self._gauges["apportion_replica_requests"].set(float(one.in_flight), tags)

    def _speed(self, tokens: float, now: float) -> float:
        last = self._last
        self._last = (now, tokens)
        return (tokens - last[1]) / (now - last[0]) if last is not None and now > last[0] else 0.0

    def _make(self) -> None:
        from ray.util.metrics import Gauge

        for name, about in JOB_GAUGES.items():
            self._gauges[name] = Gauge(name, about, ("run", "unit"))
        for name, about in REPLICA_GAUGES.items():
            self._gauges[name] = Gauge(name, about, ("run", "model", "replica"))
