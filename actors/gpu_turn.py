"""Engines that share a GPU start one after the other.

vLLM sizes its key-value cache by how much of the GPU's memory is gone while it starts, whoever took it: two that start
at once on one GPU would each count the other's weights as their own (vllm-project/vllm issue 55827).
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.actors.spec import ModelSpec

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Set by Ray to the GPU that an actor has a share of."""


@contextmanager
def turn_on_gpu(spec: ModelSpec) -> Iterator[None]:
    """Hold the GPU of a model that has a share of one; waits for whoever of this user starts there on this machine."""
    if not 0.0 < spec.gpus < 1.0:
        yield
        return
    gpu = re.sub(r"\W", "-", os.environ.get(VISIBLE, "all"))
    path = Path(tempfile.gettempdir()) / f"apportion-gpu-{os.getuid()}-{gpu}.lock"
    with path.open("w") as file:
        # Freed with the process, too. By its end alone it would not be: vLLM's processes may hold the file as well.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
