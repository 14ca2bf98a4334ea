"""Choosing where a job's models run."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.actors.inline import InlineBackend
from apportion.actors.protocols import Backend
from apportion.actors.spec import ModelSpec

INLINE = "inline"


def backend_for(cluster: str, specs: Sequence[ModelSpec], wait_s: float = 0.0) -> Backend:
    """The backend of a config's `cluster`.

    `inline` runs every model in this process; anything else is a Ray cluster: `local` starts one on this machine,
    `auto` and `HOST:PORT` join one that runs, and wait up to `wait_s` seconds for nodes that it does not have yet.
    Nothing is started or connected before `Backend.start`.
    """
    if cluster == INLINE:
        return InlineBackend(specs)
    from apportion.actors.ray_backend import RayBackend

    return RayBackend(cluster, specs, wait_s)
