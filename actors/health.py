"""What a backend shows of its replicas."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """One replica (see `protocols.ReplicaHealth`). `in_flight` counts requests;
    `cause` is what ended it last."""

    model: str
    replica: int
    alive: bool
    restarts: int
    in_flight: int
    cause: str | None = None
