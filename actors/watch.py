"""When a replica hangs or lags: judged by what the other replicas of its model take at the same time.

Pure functions over ages in seconds. A stall of the whole cluster slows all replicas alike, so none is late beside the
others; then, and where a replica has no others beside it, only the model's `timeout_s` ends the waiting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_high

LATE = 5.0
# So many times what the others take is late: requests of one model differ by less, as their lengths are bounded alike.

SOONEST_S = 30.0
# Nothing younger is late: garbage collection, a slow network or a compilation may hold a replica up for so long.

TICK_S = 0.5
# Between two looks. Ages grow by at most two ticks a look: when the driver itself was held up, nobody was late.


@dataclass(frozen=True, slots=True)
class Pace:
    """What a replica takes: its longest request so far (0 before the first answer), and its oldest unanswered one."""

    longest: float
    oldest: float


def limit(others: Iterable[Pace], timeout_s: float) -> float:
    """The age at which a request is late on a replica, given the paces of the others that are up."""
    paces = [max(pace.longest, pace.oldest) for pace in others if pace.longest > 0]
    return min(timeout_s, max(SOONEST_S, LATE * median_high(paces))) if paces else timeout_s
