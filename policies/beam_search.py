"""Beam search over steps, guided by a process reward model.

Snell et al. 2024 (arXiv 2408.03314, section 5.2) with the step limits of Liu et al. 2025 (arXiv 2502.06703): sample N
first steps, score the prefixes, keep the best N/M, let each write M next steps, and so on to the end.

Invariants and choices:
- Always N finals. A beam that finished stays in the pool and competes by its score with the prefixes at every
  selection. Selection walks down the ranking until N slots are taken: a finished beam takes one slot (it needs no
  more), an unfinished one takes M (the last takes what is left). With nothing finished this is the top N/M, M each;
  what finished beams do not need goes to the next in the ranking, and once all N are finished nothing changes.
- In the last of `depth` rounds there is no stop at the separator: beams write to their end.
- A step is the text up to the separator. Prefixes with the same steps are scored once, finished ones never again.
- Ties in score go to the beam made first, so the same replies give the same requests.
- Tokens of a draft are those of its own path. Its weight is the fair proportion of its path (Redding 2003): the mean
  over its tokens of 1 / (number of finals that share the token), so that N finals with nothing in common weigh N, and
  N that share everything weigh 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from apportion.errors import ConfigError
from apportion.policies.aggregate import score_of
from apportion.policies.steps import split_steps
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate_all, sampled_workload, score
from apportion.types import Completion, Draft, Finish, Generate, LogprobStats, Reply, Request, Score

Steps = tuple[str, ...]
Scores = dict[Steps, tuple[float, ...]]


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


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """N = n beams of width M = `width` (a number, or `sqrt` for the root of N), at most `depth` rounds.

    `aggregate_search` makes the score a prefix is ranked by out of its step scores; `last` is Snell's and Liu's.
    """

    name: ClassVar[str] = "beam_search"
    needs_verifier: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    width: int | Literal["sqrt"] = 4
    depth: int = 40
    aggregate_search: Literal["last", "min", "mean", "product"] = "last"

    def __post_init__(self) -> None:
        if self.width != "sqrt" and self.width < 2:
            raise ConfigError(f"beam_search.width is {self.width}; it must be 2 or more, or sqrt")
        if self.depth < 1:
            raise ConfigError(f"beam_search.depth is {self.depth}; it must be 1 or more")

    def plan(self, task: Task) -> Plan:
        """n drafts, best first; where cut off, the last pool, its prefixes with finish LENGTH."""
        scores: Scores = {}
        shares, pool = [(Beam(), task.n)], list[Beam]()
        for depth in range(self.depth):
            try:
                pool = yield from self._write(task, shares, depth)
                yield from _score(task, pool, scores)
            except CutOff:
                # Also what selection just dropped: a finished beam has an answer, a kept prefix has none yet.
                return _drafts(pool, scores)
            pool = self._ranked(pool, scores)
            if all(beam.ended for beam in pool):
                break
            shares = self.select(pool, task.n)
        return _drafts(pool, scores)

    def select(self, ranked: Sequence[Beam], n: int) -> list[tuple[Beam, int]]:
        """Which beams of a ranking are kept, and how many of the n slots each takes."""
        shares: list[tuple[Beam, int]] = []
        left = n
        for beam in ranked:
            if left == 0:
                break
            slots = 1 if beam.ended else min(self._width(n), left)
            shares.append((beam, slots))
            left -= slots
        return shares

    def check(self, n: int) -> str | None:
        if self.width == "sqrt":
            root = math.isqrt(max(0, n))
            if n >= 4 and root * root == n:
                return None
            near = max(2, root)
            return f"n is {n}, and width sqrt needs a square of at least 4; use n: {near**2} or {(near + 1) ** 2}"
        if n >= self.width and n % self.width == 0:
            return None
        below = max(1, n // self.width) * self.width
        return f"n is {n}, which width {self.width} does not divide; use n: {below} or {below + self.width}"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Every step is written and scored once: engines and scorers keep what they have read of a prefix."""
        return sampled_workload(n, lengths, verified)

    def _width(self, n: int) -> int:
        return max(2, math.isqrt(n)) if self.width == "sqrt" else self.width

    def _ranked(self, pool: Sequence[Beam], scores: Mapping[Steps, tuple[float, ...]]) -> list[Beam]:
        def rank(beam: Beam) -> float:
            value = score_of(scores.get(beam.steps), self.aggregate_search)
            # A beam that has written nothing yet is not promising.
            return -math.inf if value is None else value

        return sorted(pool, key=rank, reverse=True)

    def _write(
        self, task: Task, shares: Sequence[tuple[Beam, int]], depth: int
    ) -> Generator[tuple[Request, ...], tuple[Reply, ...], list[Beam]]:
        """One round: the new pool of n beams, children in their parents' order, finished beams as they are."""
        last = depth == self.depth - 1 or not task.step_separator
        open_shares: list[tuple[Beam, tuple[int, ...]]] = []
        slot = task.drawn
        for beam, slots in shares:
            if not beam.ended:
                open_shares.append((beam, tuple(task.seed(slot + i, depth) for i in range(slots))))
            slot += slots
        stop = task.sampling.stop if last else tuple(dict.fromkeys((*task.sampling.stop, task.step_separator)))
        requests = tuple(
            Generate(
                task.policy,
                task.messages,
                seeds,
                replace(task.sampling, stop=stop, max_tokens=task.sampling.max_tokens - beam.tokens),
                prefix=beam.text,
            )
            for beam, seeds in open_shares
        )
        replies = yield from generate_all(requests)
        written = iter(
            [
                _extended(beam, completion, seed, task, last)
                for (beam, seeds), reply in zip(open_shares, replies, strict=True)
                for seed, completion in zip(seeds, reply.completions, strict=True)
            ]
        )
        pool: list[Beam] = []
        for beam, slots in shares:
            pool.extend([beam] if beam.ended else [next(written) for _ in range(slots)])
        return pool


def _extended(beam: Beam, piece: Completion, node: int, task: Task, last: bool) -> Beam:
    """A beam that can be continued ends at a separator, so the steps of the piece are apart from its own."""
    tokens = beam.tokens + piece.tokens
    ended: Finish | None = piece.finish
    if piece.finish is Finish.STOP and piece.text.endswith(task.step_separator) and not last:
        ended = Finish.LENGTH if tokens >= task.sampling.max_tokens else None
    steps = (*beam.steps, *split_steps(piece.text, task.step_separator))
    return Beam((*beam.pieces, piece), (*beam.nodes, node), steps, ended, beam.text + piece.text, tokens)


def _score(task: Task, pool: Iterable[Beam], scores: Scores) -> Generator[tuple[Request, ...], tuple[Reply, ...], None]:
    """Fill in the scores of every prefix that has none."""
    if task.verifier is None:
        raise ConfigError("beam_search needs a verifier: name one in the arm")
    unread = tuple(dict.fromkeys(beam.steps for beam in pool if beam.steps and beam.steps not in scores))
    if unread:
        reply = yield from score(Score(task.verifier, task.messages, unread))
        scores.update(zip(unread, reply.scores, strict=True))


def _drafts(beams: Sequence[Beam], scores: Mapping[Steps, tuple[float, ...]]) -> tuple[Draft, ...]:
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


def _weight(beam: Beam, shared: Mapping[int, int]) -> float:
    if beam.tokens == 0:
        return 1.0 / max(shared[node] for node in beam.nodes)
    parts = (piece.tokens / shared[node] for piece, node in zip(beam.pieces, beam.nodes, strict=True))
    return math.fsum(parts) / beam.tokens


def _mean_stats(pieces: Sequence[Completion]) -> LogprobStats | None:
    """Statistics of a whole path: means over its tokens; None where a piece has none."""
    known = [(piece.stats, piece.tokens) for piece in pieces if piece.stats is not None]
    total = sum(tokens for _, tokens in known)
    if len(known) < len(pieces) or total == 0:
        return None
    return LogprobStats(
        mean_logprob=math.fsum(stats.mean_logprob * tokens for stats, tokens in known) / total,
        mean_entropy=math.fsum(stats.mean_entropy * tokens for stats, tokens in known) / total,
        self_certainty=math.fsum(stats.self_certainty * tokens for stats, tokens in known) / total,
        exact=all(stats.exact for stats, _ in known),
    )
