"""Which replica takes a request: the one that holds its prefix, unless that one is far behind.

Pure functions over loads. A prompt's home is chosen by rendezvous hashing (Thaler and Ravishankar 1998), so that a
replica that is lost moves only its own prompts and one that comes back gets exactly those again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from apportion.types import Generate, Request


def load_of(request: Request) -> int:
    """Sequences a request occupies a replica with."""
    return max(1, len(request.seeds) if isinstance(request, Generate) else len(request.responses))


def home(affinity: int, replicas: Mapping[int, int]) -> int:
    """The replica of `replicas` that a prompt belongs to, whatever their loads are."""
    return max(replicas, key=lambda replica: hashlib.blake2b(f"{affinity}:{replica}".encode(), digest_size=8).digest())


def choose(affinity: int, loads: Mapping[int, int], slack: int) -> int:
    """The replica for a request.

    `loads` maps each replica that can take work to the sequences it has in flight. The prompt's home is chosen unless
    it has more than `slack` sequences more than the least loaded one, which is then chosen (lowest number on ties).
    """
    own = home(affinity, loads)
    least = min(loads, key=lambda replica: (loads[replica], replica))
    return own if loads[own] <= loads[least] + slack else least
