"""One request on its way through a pool, and the rule for requests that were there when a replica died.

Nobody can tell which request killed a replica. So what was in flight is sent again; what has seen two deaths goes on
in ever smaller company, so that a request that kills is soon alone and only it fails, not those beside it. A batch that
the model failed on (BatchError) counts as a death for the requests in it, though the replica lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from apportion.types import Reply, Request

DEATHS_ALONE = 2
# A request that was alone when two replicas died under it is taken to be the cause.

COMPANY = (None, None, 16, 1)
# How many requests a replica runs at once while one of them has seen 0, 1, 2, 3 or more deaths; None is no bound.


@dataclass(slots=True, eq=False)
class Work:
    """A request, the future that waits for it, and the deaths it has seen. `size` is its load in sequences.

    `since` is when its replica was given it, by the pool's clock. `overdue` counts replicas that answered others while
    they did not answer it; `avoid` is the last of them.
    """

    number: int
    request: Request
    affinity: int
    size: int
    future: asyncio.Future[Reply]
    deaths: int = 0
    since: float = 0.0
    overdue: int = 0
    avoid: int | None = None

    @property
    def suspect(self) -> bool:
        """Whether it must be kept from fresh requests."""
        return company(self.deaths) is not None


def company(deaths: int) -> int | None:
    """The most requests to run at once with one that has seen so many deaths."""
    return COMPANY[min(deaths, len(COMPANY) - 1)]


def fits(work: Work, running: Iterable[Work]) -> bool:
    """Whether a replica that runs `running` may take `work` too."""
    together = [work, *running]
    bounds = [bound for item in together if (bound := company(item.deaths)) is not None]
    return not bounds or len(together) <= min(bounds)
