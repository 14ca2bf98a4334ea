"""QAlign: chains of responses, each of which regenerates the end of the one before and keeps what its reward likes.

Faria and Smith 2025 (arXiv 2504.03790, "Sample, Don't Search"), with the proposals of QUEST (Faria et al. 2024,
arXiv 2406.00049): Markov chains over whole responses whose states go towards p(y) exp(r(y) / beta), p being the policy
as it samples. A move cuts the response at one of its K(y) places, uniformly, keeps what is before the cut, writes the
rest anew, and is accepted with min(1, exp((r' - r) / beta) K(y) / K(y')). The answers of all states vote.

Choices the papers leave open:
- A strategy sees text and no tokens, so a response is cut between words: at 0, and before the blank, or after the line
  break, with which a further word begins. Tokenizers that split at words first, as byte-level BPE does, have a boundary
  there whatever follows, so an engine reads the kept text as the tokens it was written as. K counts these places, one a
  word, where the papers count tokens. A move that wrote on at the last kept word has no cut to go back by, and is
  rejected; so the states go to the same target.
- r is the logit of the verifier's score, which is what a reward model says before it makes a probability of it: with
  beta 1 a response is taken at its odds. Any verifier will do; where it scores steps, `aggregate_search` makes one
  score of them. A response without a score has the least there is.
- A purchase of n is n states, n / `chains` of each chain, round by round; a rejected move repeats the state. A later
  purchase goes on from the last state of each chain. Where cut off, whole rounds are returned, and of the first one
  of all also what was not scored yet.
- Tokens and statistics of the kept part of a text are its share, by characters, of the whole's; such statistics are
  not exact.
- As evidence a token counts once, however many states of its chain hold it (the fair proportion of `beams`), and one
  that an earlier purchase returned counts no more.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from apportion.errors import ConfigError
from apportion.policies.aggregate import logit, score_of
from apportion.policies.beams import Beam, Ranking, Scores, drafts_of, score_beams, shortened, up_to_stop
from apportion.policies.settings import one_or_more
from apportion.policies.steps import steps_of
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate_all, sampled_workload
from apportion.types import Completion, Draft, Generate

MOST_LOG_RATIO = 20.0
"""The authors' bound of the log of an acceptance ratio: beyond it a move is all but certain, or all but impossible."""
CUT, ACCEPT = 1, 2
"""End the paths of the seeds that decide where to cut and whether to accept; those that write end with the state."""
LEAST_WEIGHT = 1e-3
"""Of a state that is no new evidence: a candidate must weigh something."""

_GAP = re.compile(r"(?<=\S)\s+(?=\S)")


@dataclass(frozen=True, slots=True)
class QAlign:
    """`chains` chains side by side, in which exp(reward / `beta`) makes a response likelier; the authors' beta is 1.

    `aggregate_search` makes the score of a response out of its step scores.
    """

    name: ClassVar[str] = "qalign"
    needs_verifier: ClassVar[bool] = True
    scores_whole: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    chains: int = 4
    beta: float = 1.0
    aggregate_search: Ranking = "last"

    def __post_init__(self) -> None:
        one_or_more("qalign.chains", self.chains)
        if not (math.isfinite(self.beta) and self.beta > 0.0):
            raise ConfigError(
                f"qalign.beta is {self.beta:g}; it must be above 0 and finite: near 0 a chain only climbs, and where "
                "it is large the verifier hardly matters"
            )

    def plan(self, task: Task) -> Plan:
        """n drafts, the states of all chains round by round, after those of `Task.earlier`."""
        scores: Scores = {}
        now = self._begun(task, scores)
        known = frozenset(state.nodes[0] for state in now)
        states: list[Beam] = []
        for slot in range(task.drawn, task.drawn + task.n, self.chains):
            kept = [beginning(state, _cut(task, slot + chain, state.text)) for chain, state in enumerate(now)]
            written: list[Beam] = []
            try:
                replies = yield from generate_all(self._requests(task, kept, slot))
                pieces = [piece for reply in replies for piece in reply.completions]
                written = [
                    _extended(task, kept[chain] if kept else Beam(), piece, slot + chain)
                    for chain, piece in enumerate(pieces)
                ]
                yield from score_beams(task, [*now, *written], scores)
            except CutOff:
                if not now:
                    states = written
                break
            if now:
                moves = zip(now, kept, written, strict=True)
                now = [self._moved(task, slot + at, *move, scores) for at, move in enumerate(moves)]
            else:
                now = written
            states += now
        return self._drafts(states, known, scores)

    def check(self, n: int) -> str | None:
        if n >= 1 and n % self.chains == 0:
            return None
        below = max(1, n // self.chains) * self.chains
        return f"n is {n}, which {self.chains} chains cannot share equally; use n: {below} or {below + self.chains}"

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """Whole responses first; a move keeps half of a response and reads it again, and writes the other half.

        A later purchase, which begins none, costs less, and so does an engine that has kept what it wrote; both are
        learned from what purchases cost.
        """
        again = (n - min(n, self.chains)) * lengths.completion_tokens / 2.0
        work = sampled_workload(n, lengths, verified)
        return replace(
            work,
            prompt_tokens=work.prompt_tokens + again,
            completion_tokens=work.completion_tokens - again,
            unshared_prompt_tokens=n * work.prompt_tokens + again,
        )

    def _begun(self, task: Task, scores: Scores) -> list[Beam]:
        """The last states of earlier purchases, whose scores are known; none where there are none."""
        last = task.earlier[-self.chains :] if len(task.earlier) >= self.chains else ()
        scores.update({draft.steps: draft.step_scores for draft in last if draft.step_scores is not None})
        return [
            Beam(
                pieces=(Completion(draft.text, draft.tokens, draft.finish, draft.stats),),
                nodes=(task.seed(task.drawn - self.chains + chain),),
                steps=draft.steps,
                ended=draft.finish,
                text=draft.text,
                tokens=draft.tokens,
            )
            for chain, draft in enumerate(last)
        ]

    def _requests(self, task: Task, kept: Sequence[Beam], slot: int) -> tuple[Generate, ...]:
        """What all chains write in one round; at first whole responses, for which the prompt is read once."""
        seeds = tuple(task.seed(slot + chain) for chain in range(self.chains))
        if not kept:
            return (Generate(task.policy, task.messages, seeds, task.sampling),)
        left = [max(1, task.sampling.max_tokens - state.tokens) for state in kept]
        return tuple(
            Generate(task.policy, task.messages, (seed,), replace(task.sampling, max_tokens=room), prefix=state.text)
            for seed, room, state in zip(seeds, left, kept, strict=True)
        )

    def _moved(self, task: Task, slot: int, here: Beam, kept: Beam, there: Beam, scores: Scores) -> Beam:
        """The next state of a chain: `there` where the move is accepted, else `here`."""
        back = cuts(there.text)
        if len(kept.text) not in back:
            return here
        gain = (self._reward(there, scores) - self._reward(here, scores)) / self.beta
        log_ratio = gain + math.log(len(cuts(here.text)) / len(back))
        return there if task.chance(slot, ACCEPT) < math.exp(_clamped(log_ratio)) else here

    def _reward(self, state: Beam, scores: Scores) -> float:
        return logit(score_of(scores.get(state.steps), self.aggregate_search) or 0.0)

    def _drafts(self, states: Sequence[Beam], known: frozenset[int], scores: Scores) -> tuple[Draft, ...]:
        drafts, weights = drafts_of(states, scores), weights_of(states, known)
        return tuple(
            replace(draft, weight=weight, group=at % self.chains)
            for at, (draft, weight) in enumerate(zip(drafts, weights, strict=True))
        )


def cuts(text: str) -> tuple[int, ...]:
    """Where a response may be cut: 0, and for each further word how much is kept when it is written anew.

    What is kept ends before a blank, or with a line break.
    """
    gaps = ((gap.start(), gap.group().rfind("\n") + 1) for gap in _GAP.finditer(text))
    return (0, *(start + lines for start, lines in gaps))


def beginning(state: Beam, length: int) -> Beam:
    """The first `length` characters of a state. A piece that is cut through gives its share of tokens."""
    pieces: list[Completion] = []
    left = length
    for piece in state.pieces:
        if left <= 0:
            break
        pieces.append(shortened(piece, left))
        left -= len(piece.text)
    tokens = sum(piece.tokens for piece in pieces)
    return Beam(tuple(pieces), state.nodes[: len(pieces)], text=state.text[:length], tokens=tokens)


def weights_of(states: Sequence[Beam], known: frozenset[int]) -> list[float]:
    """Each state's worth as evidence: the mean over its tokens of 1 / (number of states that hold the token).

    Tokens of the `known` nodes, which earlier purchases returned, count nothing.
    """
    lengths: dict[int, list[int]] = defaultdict(list)
    for state in states:
        for piece, node in zip(state.pieces, state.nodes, strict=True):
            lengths[node].append(piece.tokens)
    worth: dict[tuple[int, int], float] = {}
    for node, held in lengths.items():
        before, total = 0, 0.0
        for place, length in enumerate(sorted(held)):
            total += 0.0 if node in known else (length - before) / (len(held) - place)
            worth[node, length] = total
            before = length
    found = []
    for state in states:
        parts = [worth[node, piece.tokens] for piece, node in zip(state.pieces, state.nodes, strict=True)]
        found.append(max(LEAST_WEIGHT, math.fsum(parts) / state.tokens if state.tokens else 0.0))
    return found


def _cut(task: Task, slot: int, text: str) -> int:
    places = cuts(text)
    return places[int(task.chance(slot, CUT) * len(places))]


def _extended(task: Task, kept: Beam, piece: Completion, slot: int) -> Beam:
    piece = up_to_stop(kept.text, piece, task.sampling.stop)
    text = kept.text + piece.text
    return Beam(
        pieces=(*kept.pieces, piece),
        nodes=(*kept.nodes, task.seed(slot)),
        steps=steps_of(text, task.step_separator, task.sampling.stop),
        ended=piece.finish,
        text=text,
        tokens=kept.tokens + piece.tokens,
    )


def _clamped(log_ratio: float) -> float:
    return min(max(log_ratio, -MOST_LOG_RATIO), MOST_LOG_RATIO)
