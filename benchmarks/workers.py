"""A Ray cluster of several nodes on this machine whose parts can be killed with `kill -9`, as failures.py does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

WORKERS = 3


class Workers:
    """A cluster of several nodes on this machine, of which workers can be killed. Use as a context manager."""

    def __init__(self, workers: int = WORKERS, cpus: int = 2, gpus: int = 0) -> None:
        self._count = workers
        self._size = {"num_cpus": cpus, "num_gpus": gpus}

    def __enter__(self) -> Workers:
        import ray
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.address = self.cluster.address
        for _ in range(self._count):
            self.add()
        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()

    def add(self) -> None:
        """One more worker node."""
        self.cluster.add_node(**self._size)

    def actors(self, model: str) -> list[dict[str, Any]]:
        """The living replicas of a model, as Ray has them."""
        from ray._private.state import actors

        return [one for one in actors().values() if one["State"] == "ALIVE" and one["Name"].startswith(f"{model}/")]

    def kill_actor(self, model: str, order: random.Random) -> bool:
        """Kill a replica's process. False where there is none at this moment."""
        found = self.actors(model)
        if found:
            os.kill(order.choice(sorted(found, key=lambda one: str(one["ActorID"])))["Pid"], signal.SIGKILL)
        return bool(found)

    def kill_node(self, models: Sequence[str], order: random.Random) -> bool:
        """Kill a worker node that runs replicas of some models, with all its processes, and let another one join."""
        busy = {one["Address"]["NodeID"] for model in models for one in self.actors(model)}
        nodes = [node for node in self.cluster.worker_nodes if node.node_id in busy]
        if not nodes:
            return False
        node = order.choice(sorted(nodes, key=lambda node: str(node.node_id)))
        raylet = node.all_processes["raylet"][0].process.pid
        for pid in (raylet, *below(raylet)):
            os.kill(pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.add()
        return True


def below(pid: int) -> list[int]:
    """All processes that descend from one."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [(int(child), int(parent)) for child, parent in map(str.split, listing.splitlines())]
    found, frontier = [], [pid]
    while frontier:
        frontier = [child for child, parent in parents if parent in frontier]
        found += frontier
    return found
