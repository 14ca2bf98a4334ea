"""What searches share that keep a population of n paths: each round writes, scores, and shares the slots out anew.

Where beam search keeps a fixed number of the best (`apportion.policies.beams`), these give every unfinished path a
number of children that follows from its score.

Invariants and choices:
- Always n finals, in the order of their slots: the slots that are shared out are as many as there were.
- A prefix with no step yet has the lowest score there is, 0.
- Rounds, seeds, scores and the weights of finals are those of `beams`; where cut off, the last population is returned,
  its prefixes with the finish LENGTH.
- The finals of 4 are no part of those of 16, so a later purchase is another population, from other seeds, whose finals
  join those there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from apportion.errors import ConfigError
from apportion.policies.aggregate import score_of
from apportion.policies.beams import Beam, Ranking, Scores, Share, drafts_of, score_beams, write_round
from apportion.policies.settings import one_or_more
from apportion.policies.strategy import CutOff, Plan, Task

Sharing = Callable[[Sequence[Beam], Sequence[float], int], list[Share]]
"""From a population, the score of each path in [0, 1], and the round to the slots of each path, n in all."""


def populate(task: Task, rounds: int, ranking: Ranking, share: Sharing) -> Plan:
    """n drafts by at most `rounds` rounds; `share` decides after each but the last which paths go on how often."""
    scores: Scores = {}
    shares: list[Share] = [(Beam(), task.n)]
    pool: list[Beam] = []
    for depth in range(rounds):
        try:
            pool = yield from write_round(task, shares, depth, last=depth == rounds - 1)
            yield from score_beams(task, pool, scores)
        except CutOff:
            break
        if all(beam.ended for beam in pool):
            break
        shares = share(pool, [score_of(scores.get(beam.steps), ranking) or 0.0 for beam in pool], depth)
        if all(beam.ended for beam, _ in shares):
            pool = [beam for beam, _ in shares]
            break
    return drafts_of(pool, scores)


def shared_out(pool: Sequence[Beam], among: Sequence[int], children: Sequence[int]) -> list[Share]:
    """The slots of a population: `children` for the paths at the places `among`, and one for each other path.

    A finished path is written down once for each of its slots, since it is kept and not continued.
    """
    slots = dict(zip(among, children, strict=True))
    shares: list[Share] = []
    for at, beam in enumerate(pool):
        count = slots.get(at, 1)
        if beam.ended:
            shares.extend([(beam, 1)] * count)
        elif count:
            shares.append((beam, count))
    return shares


def softmax(values: Sequence[float], temperature: float) -> list[float]:
    """Weights proportional to exp(value / temperature), the greatest of which is 1."""
    top = max(values)
    return [math.exp((value - top) / temperature) for value in values]


def check_population(name: str, depth: int, temperature: float) -> None:
    """ConfigError for a depth or a softmax temperature that no population can have."""
    one_or_more(f"{name}.depth", depth)
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise ConfigError(
            f"{name}.softmax_temperature is {temperature:g}; it must be above 0 and finite: near 0 the best path takes "
            "all, and where it is large all paths get the same"
        )


def check_size(name: str, n: int) -> str | None:
    """Why n paths are no population, with the fix; None where they are."""
    if n >= 2:
        return None
    return f"n is {n}, and {name} shares its slots among at least 2 paths; use n: 2 or more, or best_of_n"
