"""When a replica hangs or lags: judged by what the other replicas of its model take at the same time.

Pure functions over ages in seconds. A stall of the whole cluster slows all replicas alike, so none is late beside the
others; then, and where a replica has no others beside it, only the model's `timeout_s` ends the waiting. Answers are
of very different lengths: a request that may become twenty times as long as any that the others answered has twenty
times as long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from apportion.types import Embed, Generate, Generated, Reply, Request

LATE = 5.0
# So many times what the others take for the same length is late.

SOONEST_S = 30.0
# Nothing younger is late: garbage collection, a slow network or a compilation may hold a replica up for so long.

TICK_S = 0.5
# Between two looks. Ages grow by at most two ticks a look: when the driver itself was held up, nobody was late.


def reach_of(request: Request, max_batch: int) -> int:
    """The most a request may be long: tokens written one after the other, or of a scorer characters read; at least 1.

    A hidden state is one pass over a prompt, as short as one token beside what a policy model writes.
    """
    if isinstance(request, Generate):
        return max(1, request.sampling.max_tokens * _waves(request, max_batch))
    if isinstance(request, Embed):
        return 1
    turns = (message.content for message in request.messages)
    steps = (step for response in request.responses for step in response)
    return max(1, sum(map(len, turns)) + sum(map(len, steps)))


def length_of(request: Request, reach: int, reply: Reply, max_batch: int) -> int:
    """How long it was, counted as its `reach` is (see `reach_of`)."""
    if isinstance(request, Generate) and isinstance(reply, Generated):
        written = max((completion.tokens for completion in reply.completions), default=0)
        return max(1, written * _waves(request, max_batch))
    return reach


def _waves(request: Generate, max_batch: int) -> int:
    """How many times a replica must run its batch full for all completions."""
    return -(-len(request.seeds) // max_batch)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a replica takes: the time of its slowest request so far (0 before the first answer), the length of its
    longest one (see `length_of`), and the age of its oldest unanswered one."""

    longest: float
    length: int
    oldest: float

    def expected(self, reach: int) -> float:
        """What a request that may be so long may take here: none of the longest took more than the slowest."""
        return max(self.longest * max(1.0, reach / self.length), self.oldest)


class Usual:
    """What is usual among the replicas of a model that are up, by their numbers, at one moment."""

    def __init__(self, paces: Mapping[int, Pace], timeout_s: float) -> None:
        # One that never answered says nothing.
        self._paces = {replica: pace for replica, pace in paces.items() if pace.longest > 0}
        self._timeout_s = timeout_s
        self._ordered: dict[int, list[float]] = {}

    def limit(self, replica: int, reach: int) -> float:
        """The age at which a request that may be so long is late on a replica: by the median of the others."""
        ordered = self._ordered.get(reach)
        if ordered is None:
            ordered = self._ordered[reach] = sorted(pace.expected(reach) for pace in self._paces.values())
        own = self._paces.get(replica)
        others = len(ordered) - (own is not None)
        if not others:
            return self._timeout_s
        middle = others // 2
        if own is not None and middle >= bisect_left(ordered, own.expected(reach)):
            # Its own place in the order is passed over.
            middle += 1
        return min(self._timeout_s, max(SOONEST_S, LATE * ordered[middle]))
