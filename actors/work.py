"""One request on its way through a pool, and the rule for requests that were there when a replica died.

Nobody can tell which request killed a replica, nor whether one did. So all of them are sent again, and are suspects
until they are answered: a replica runs only a part of them at once, so that the next death tells which part it was, the
others are cleared, and a request that kills is soon alone and only it fails. A batch that the model failed on
(BatchError) is a death for the requests in it, though the replica lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apportion.errors import ApportionError
from apportion.types import Reply, Request

DEATHS_ALONE = 2
# A request that was there at two deaths, alone at the last, is taken to be the cause.

PARTS = 8
# Of the suspects, run one after the other: about as long as loading a large model again, which one more death costs.
# A request that kills is found by its second death among 8 with nothing beside them, by its third among 64, by its
# fourth among 512.


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """What the requests share that were there at one death. A replica runs at most `company` of them at once.

    `apart` says that it runs nothing else beside them: they were suspects before, or the batch as a whole may have been
    too much for the model.
    """

    company: int
    apart: bool


@dataclass(slots=True, eq=False)
class Work:
    """A request, the future that waits for it, and the deaths it has seen. `size` is its load in sequences, `reach`
    the most it may be long (see `watch`).

    `since` is when its replica was given it, by the pool's clock. `overdue` counts replicas that answered others while
    they did not answer it; `avoid` is the last of them.
    """

    number: int
    request: Request
    affinity: int
    size: int
    reach: int
    future: asyncio.Future[Reply]
    deaths: int = 0
    suspicion: Suspicion | None = None
    since: float = 0.0
    overdue: int = 0
    avoid: int | None = None

    @property
    def apart(self) -> bool:
        """Whether it must be kept from requests that are no suspects."""
        return self.suspicion is not None and self.suspicion.apart

    @property
    def alone(self) -> bool:
        """Whether a replica runs it by itself."""
        return self.suspicion is not None and self.suspicion.apart and self.suspicion.company == 1

    def fail(self, error: ApportionError) -> None:
        """Tell whoever still waits for it."""
        if not self.future.done():
            self.future.set_exception(error)

    def clear(self) -> None:
        """Another request is to blame."""
        self.suspicion, self.deaths = None, 0


def accuse(works: Sequence[Work], apart: bool) -> set[Suspicion]:
    """Suspect requests that were there at a death: those that were suspects before, or all where none was.

    Returns the suspicions that this narrows down: who else shares one is to be cleared.
    """
    suspects = [work for work in works if work.suspicion is not None] or works
    before = {work.suspicion for work in suspects if work.suspicion is not None}
    found = Suspicion(-(-len(suspects) // PARTS), apart or bool(before))
    for work in suspects:
        work.deaths += 1
        work.suspicion = found
    return before


def fits(work: Work, running: Iterable[Work]) -> bool:
    """Whether a replica that runs `running` may take `work` too, which is a suspect to be kept apart."""
    together = [work, *running]
    bounds = [one.suspicion.company for one in together if one.suspicion is not None and one.suspicion.apart]
    return len(bounds) == len(together) <= min(bounds)
