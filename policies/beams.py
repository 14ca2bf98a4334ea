"""What searches over steps share: beams, the rounds in which they are written and scored, and their finals.

A search keeps a pool of n beams: each round it writes the next steps, scores what is new and shares the n slots among
what is worth going on with. `search` is that loop for every search that keeps the best.

Invariants and choices:
- Always n finals. A beam that finished stays in the pool and competes by its score with the prefixes at every
  selection, where it takes one slot; it needs no more.
- In the last of the rounds there is no stop at the separator: beams write to their end.
- A step is the text up to the separator. A stop string of the arm ends a beam, also one that a step's end cuts in two,
  which no engine sees. Prefixes with the same steps are scored once, finished ones never again.
- Ties in score go to the beam made first, so the same replies give the same requests.
- The seed of a step is that of its slot, which counts from `Task.drawn`, and its round.
- Tokens of a draft are those of its own path. Its weight is the fair proportion of its path (Redding 2003): the mean
  over its tokens of 1 / (number of finals that share the token), so that n finals with nothing in common weigh n, and
  n that share everything weigh 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from apportion.errors import ConfigError
from apportion.policies.aggregate import score_of
from apportion.policies.settings import one_or_more
from apportion.policies.steps import split_steps, steps_of
from apportion.policies.strategy import CutOff, Plan, Task, generate_all, score
from apportion.types import Completion, Draft, Finish, Generate, LogprobStats, Reply, Request, Score

Steps = tuple[str, ...]
Scores = dict[Steps, tuple[float, ...]]
Ranking = Literal["last", "min", "mean", "product"]


@dataclass(frozen=True, slots=True)
class Beam:
    """A path of pieces of text from the first step on. `ended` is None while it can be continued.

    `nodes` names each piece by the seed that drew it: beams that share a piece share its number.
    """

    pieces: tuple[Completion, ...] = ()
    nodes: tuple[int, ...] = ()
    steps: Steps = ()
    ended: Finish | None = None
    text: str = ""
    tokens: int = 0


Share = tuple[Beam, int]
"""A beam and how many slots it takes."""
Round = Generator[tuple[Request, ...], tuple[Reply, ...], list[Beam]]
Look = Callable[[Sequence[Beam], int], Round]
"""From a pool and its round to the beams it is judged by, one each: where a beam's future may lead."""


def search(task: Task, trees: int, width: int, rounds: int, ranking: Ranking, look: Look | None = None) -> Plan:
    """n drafts by `trees` searches side by side; in each round the best beams of each tree go on `width` ways.

    Best first within each tree. Where cut off, the last pool: prefixes have the finish LENGTH, and one that was looked
    ahead of to the end is returned with that end.
    """
    scores: Scores = {}
    size = task.n // trees
    # One request for the first steps of all trees, so that the prompt is read once.
    shares: list[Share] = [(Beam(), task.n)]
    pool, seen = list[Beam](), list[Beam]()
    for depth in range(rounds):
        try:
            seen = pool = yield from write_round(task, shares, depth, last=depth == rounds - 1)
            if look is not None:
                seen = yield from look(pool, depth)
            yield from score_beams(task, seen, scores)
        except CutOff:
            # Also what selection just dropped: a finished beam has an answer, a kept prefix has none yet.
            break
        orders = [_ranked(seen, range(at, at + size), scores, ranking) for at in range(0, task.n, size)]
        pool, seen = ([beams[at] for order in orders for at in order] for beams in (pool, seen))
        if all(beam.ended for beam in pool):
            break
        shares = [share for at in range(0, task.n, size) for share in select(pool[at : at + size], size, width)]
    return drafts_of([there if there.ended else beam for beam, there in zip(pool, seen, strict=True)], scores)


def select(ranked: Sequence[Beam], n: int, width: int) -> list[Share]:
    """Which beams of a ranking are kept, and how many of the n slots each takes.

    Down the ranking until all are taken: a finished beam takes one, an unfinished one `width`, the last what is left.
    """
    shares: list[Share] = []
    left = n
    for beam in ranked:
        if left == 0:
            break
        slots = 1 if beam.ended else min(width, left)
        shares.append((beam, slots))
        left -= slots
    return shares


def write_round(task: Task, shares: Sequence[Share], depth: int, last: bool) -> Round:
    """One round: the new pool of n beams, children in their parents' order, finished beams as they are."""
    last = last or not task.step_separator
    open_shares: list[tuple[Beam, tuple[int, ...]]] = []
    slot = task.drawn
    for beam, slots in shares:
        if not beam.ended:
            open_shares.append((beam, tuple(task.seed(slot + i, depth) for i in range(slots))))
        slot += slots
    replies = yield from generate_all(tuple(continuation(task, beam, seeds, last) for beam, seeds in open_shares))
    written = iter(
        [
            extended(beam, completion, seed, task, last)
            for (beam, seeds), reply in zip(open_shares, replies, strict=True)
            for seed, completion in zip(seeds, reply.completions, strict=True)
        ]
    )
    pool: list[Beam] = []
    for beam, slots in shares:
        pool.extend([beam] if beam.ended else [next(written) for _ in range(slots)])
    return pool


def continuation(task: Task, beam: Beam, seeds: tuple[int, ...], last: bool) -> Generate:
    """The request for one next step of a beam from each seed; in the `last` round for all that is left."""
    stop = task.sampling.stop if last else tuple(dict.fromkeys((*task.sampling.stop, task.step_separator)))
    sampling = replace(task.sampling, stop=stop, max_tokens=task.sampling.max_tokens - beam.tokens)
    return Generate(task.policy, task.messages, seeds, sampling, prefix=beam.text)


def extended(beam: Beam, piece: Completion, node: int, task: Task, last: bool) -> Beam:
    """A beam that can be continued ends at a separator, so the steps of the piece are apart from its own."""
    piece = up_to_stop(beam.text, piece, task.sampling.stop)
    text, tokens = beam.text + piece.text, beam.tokens + piece.tokens
    ended: Finish | None = piece.finish
    steps = (*beam.steps, *split_steps(piece.text, task.step_separator))
    if text.endswith(task.sampling.stop):
        steps = steps_of(text, task.step_separator, task.sampling.stop)
    elif piece.finish is Finish.STOP and piece.text.endswith(task.step_separator) and not last:
        ended = Finish.LENGTH if tokens >= task.sampling.max_tokens else None
    return Beam((*beam.pieces, piece), (*beam.nodes, node), steps, ended, text, tokens)


def up_to_stop(before: str, piece: Completion, stops: Sequence[str]) -> Completion:
    """A piece that continues a text, up to the first stop string that the two make together."""
    seen = before[max(0, len(before) - max(map(len, stops), default=0)) :]
    text = seen + piece.text
    ends = [at + len(stop) - len(seen) for stop in stops if (at := text.find(stop)) >= 0]
    return replace(shortened(piece, min(ends)), finish=Finish.STOP) if ends else piece


def shortened(piece: Completion, length: int) -> Completion:
    """The first `length` characters of a piece, with their share of its tokens and its statistics, not exact then."""
    if length >= len(piece.text):
        return piece
    stats = replace(piece.stats, exact=False) if piece.stats is not None else None
    tokens = round(piece.tokens * length / len(piece.text))
    return Completion(piece.text[:length], tokens, piece.finish, stats)


def score_beams(
    task: Task, pool: Iterable[Beam], scores: Scores
) -> Generator[tuple[Request, ...], tuple[Reply, ...], None]:
    """Fill in the scores of every prefix that has none. ConfigError for a task without a verifier."""
    if task.verifier is None:
        raise ConfigError("a search needs a verifier: name one in the arm")
    unread = tuple(dict.fromkeys(beam.steps for beam in pool if beam.steps and beam.steps not in scores))
    if unread:
        reply = yield from score(Score(task.verifier, task.messages, unread))
        scores.update(zip(unread, reply.scores, strict=True))


def drafts_of(beams: Sequence[Beam], scores: Mapping[Steps, tuple[float, ...]]) -> tuple[Draft, ...]:
    """Beams as drafts, in their order; one that was not scored has no step scores."""
    shared = Counter(node for beam in beams for node in beam.nodes)
    return tuple(
        Draft(
            text=beam.text,
            steps=beam.steps,
            tokens=beam.tokens,
            finish=beam.ended or Finish.LENGTH,
            stats=_mean_stats(beam.pieces),
            step_scores=scores.get(beam.steps) if beam.steps else (),
            weight=_weight(beam, shared),
        )
        for beam in beams
    )


def check_settings(name: str, width: int | str, depth: int) -> None:
    """ConfigError for a width or a depth that no search can have."""
    if isinstance(width, int) and width < 2:
        raise ConfigError(f"{name}.width is {width}; it must be 2 or more, for 1 leaves nothing to choose")
    one_or_more(f"{name}.depth", depth)


def check_divides(n: int, width: int) -> str | None:
    """Why n beams cannot go on `width` ways from each that is kept, with the fix; None where they can."""
    if n >= width and n % width == 0:
        return None
    below = max(1, n // width) * width
    return f"n is {n}, which width {width} does not divide; use n: {below} or {below + width}"


def _ranked(pool: Sequence[Beam], places: range, scores: Scores, ranking: Ranking) -> list[int]:
    def rank(at: int) -> float:
        value = score_of(scores.get(pool[at].steps), ranking)
        # A beam that has written nothing yet is not promising.
        return -math.inf if value is None else value

    return sorted(places, key=rank, reverse=True)


def _weight(beam: Beam, shared: Mapping[int, int]) -> float:
    if beam.tokens == 0:
        return 1.0 / max(shared[node] for node in beam.nodes)
    parts = (piece.tokens / shared[node] for piece, node in zip(beam.pieces, beam.nodes, strict=True))
    return math.fsum(parts) / beam.tokens


def _mean_stats(pieces: Sequence[Completion]) -> LogprobStats | None:
    """Statistics of a whole path: means over its tokens; None where a token has none, and where it has no token."""
    known = [(piece.stats, piece.tokens) for piece in pieces if piece.stats is not None]
    total = sum(tokens for _, tokens in known)
    if total < sum(piece.tokens for piece in pieces) or total == 0:
        return None
    return LogprobStats(
        mean_logprob=math.fsum(stats.mean_logprob * tokens for stats, tokens in known) / total,
        mean_entropy=math.fsum(stats.mean_entropy * tokens for stats, tokens in known) / total,
        self_certainty=math.fsum(stats.self_certainty * tokens for stats, tokens in known) / total,
        exact=all(stats.exact for stats, _ in known),
    )
