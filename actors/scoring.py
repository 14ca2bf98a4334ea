"""The worker thread of the embedded scorer: takes what has come, runs it in few passes, answers what is whole.

Invariants: the model is touched by this thread only; every job is answered once, whatever fails: where the model fails,
the jobs of that pass fail with BatchError and the others go on; nothing more is run for one that was cancelled. A
conversation is run once for all its responses, equal responses once, and what was scored before is continued: a beam
search that scores its beams after each step pays for the new step. Busy seconds of all jobs add up to the time the
model ran.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from apportion.actors.kv import Known, Layers
from apportion.actors.prefixes import Kept, PrefixCache
from apportion.actors.replies import Outbox, Waiter, accelerator_broke
from apportion.costs import attended
from apportion.errors import BatchError, EngineError
from apportion.types import Scored, Usage

PASS_TOKENS = 4096
# Padded tokens in one forward pass: more gain nothing, and would keep short requests waiting.


class TagModel(Protocol):
    """What the worker needs of a reward model."""

    def run(
        self, sequences: Sequence[Sequence[int]], known: Sequence[Known], tags: Sequence[Sequence[int]]
    ) -> tuple[list[Layers], list[tuple[float, ...]]]:
        """Keys and values of whole sequences, and the scores of the tags that were not known."""
        ...


@dataclass(frozen=True, slots=True)
class Tagged:
    """Token ids of a response in its conversation, up to its last tag, and the places of all its tags."""

    tokens: tuple[int, ...]
    tags: tuple[int, ...]


@dataclass(slots=True, eq=False)
class ScoreJob:
    """One request on its way. `shared` begins every response; `responses` are those that have steps, by their place."""

    waiter: Waiter[Scored]
    shared: tuple[int, ...]
    responses: dict[int, Tagged]
    scores: list[tuple[float, ...]]
    missing: int
    failed: bool = False
    run_tokens: int = 0
    run_attended: int = 0
    busy_seconds: float = 0.0

    @property
    def wanted(self) -> bool:
        """Whether it has not failed and somebody still waits for it."""
        return not self.failed and not self.waiter.future.cancelled()

    def charge(self, begun: int, length: int, seconds: float) -> None:
        """Count the tokens from `begun` to `length` of one sequence."""
        self.run_tokens += length - begun
        self.run_attended += int(attended(begun, length - begun))
        self.busy_seconds += seconds

    def reply(self) -> Scored:
        """Scores of all responses, and what they cost; the conversation counts once."""
        begun = len(self.shared)
        whole = begun + sum(len(tagged.tokens) - begun for tagged in self.responses.values())
        usage = Usage(self.run_tokens, 0, self.run_attended, max(0, whole - self.run_tokens), self.busy_seconds)
        return Scored(tuple(self.scores), usage)


@dataclass(slots=True, eq=False)
class Piece:
    """One distinct sequence to run, what is known of it, and who waits for its scores; the first of them pays."""

    tagged: Tagged
    kept: Kept | None
    wanted: list[tuple[ScoreJob, int]]

    @property
    def known(self) -> Known:
        return self.kept.known if self.kept else (0, ())

    @property
    def new(self) -> int:
        """Tokens to run."""
        return len(self.tagged.tokens) - self.known[0]


@dataclass(slots=True)
class ScoreWorker:
    """The thread and its queue."""

    model: TagModel
    prefixes: PrefixCache
    max_batch: int
    threads: int
    inbox: queue.SimpleQueue[ScoreJob | None] = field(default_factory=queue.SimpleQueue)
    outbox: Outbox[Scored] = field(default_factory=Outbox)
    broken: Exception | None = None
    """after this error of the accelerator nothing can be run"""
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="embedded-scorer", daemon=True)
        self.thread.start()

    def submit(self, job: ScoreJob) -> None:
        """Queue a job."""
        if not self.thread.is_alive():
            raise EngineError("the scorer was closed; build it again")
        self.inbox.put(job)

    def close(self) -> None:
        """Finish what is queued and stop the thread."""
        self.inbox.put(None)
        self.thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        closing = False
        with torch.inference_mode():
            while not closing and (job := self.inbox.get()) is not None:
                jobs, waiting = [job], job.missing
                # As many jobs as two batches hold: enough to sort by length, few enough to answer soon.
                while waiting < 2 * self.max_batch and not self.inbox.empty():
                    following = self.inbox.get()
                    if following is None:
                        closing = True
                        break
                    jobs.append(following)
                    waiting += following.missing
                try:
                    if self.broken is None:
                        self._work(jobs)
                except Exception as error:
                    self._fail(jobs, error)
                if self.broken is not None:
                    self._fail(jobs, self.broken)
                self.outbox.deliver()

    def _fail(self, jobs: Sequence[ScoreJob], error: Exception) -> None:
        """Give up those of the jobs that have no answer yet."""
        if accelerator_broke(error):
            self.broken = error
        failed = list(dict.fromkeys(job for job in jobs if job.missing and not job.failed))
        why = f"the scorer failed on a batch of {len(failed)} requests: {type(error).__name__}: {error}"
        for job in failed:
            job.failed = True
            self.outbox.add(job.waiter, BatchError(why, len(failed) == 1, self.broken is not None))

    def _work(self, jobs: Sequence[ScoreJob]) -> None:
        shared = self._run_shared(jobs)
        pieces: dict[tuple[int, ...], Piece] = {}
        for job in jobs:
            if not job.wanted:
                continue
            for index, tagged in job.responses.items():
                piece = pieces.get(tagged.tokens)
                if piece is None:
                    kept = self.prefixes.find(tagged.tokens)
                    start = shared.get(job.shared)
                    if start and (kept is None or len(kept.tokens) < len(start.tokens)):
                        kept = start
                    piece = pieces[tagged.tokens] = Piece(tagged, kept, [])
                piece.wanted.append((job, index))
        self._run_pieces(list(pieces.values()))

    def _run_shared(self, jobs: Sequence[ScoreJob]) -> dict[tuple[int, ...], Kept]:
        """Run the conversations that were not run before; all of them by their tokens."""
        found: dict[tuple[int, ...], Kept] = {}
        pieces: dict[tuple[int, ...], Piece] = {}
        for job in jobs:
            if not job.wanted or not job.shared or job.shared in found or job.shared in pieces:
                continue
            kept = self.prefixes.find(job.shared)
            if kept and len(kept.tokens) == len(job.shared):
                found[job.shared] = kept
            else:
                pieces[job.shared] = Piece(Tagged(job.shared, ()), kept, [(job, -1)])
        for group in self._groups(list(pieces.values())):
            try:
                kept_of = self._pass(group)[0]
            except Exception as error:
                begun = {piece.tagged.tokens for piece in group}
                self._fail([job for job in jobs if job.shared in begun], error)
                continue
            for piece, layers in zip(group, kept_of, strict=True):
                found[piece.tagged.tokens] = Kept(piece.tagged.tokens, layers)
        return found

    def _run_pieces(self, pieces: list[Piece]) -> None:
        for piece in [piece for piece in pieces if piece.new == 0 and piece.kept]:
            self._settle(piece, piece.kept.scores if piece.kept else ())
        for whole in self._groups([piece for piece in pieces if piece.new]):
            for piece in whole:
                piece.wanted = [(job, index) for job, index in piece.wanted if job.wanted]
            group = [piece for piece in whole if piece.wanted]
            if not group:
                continue
            try:
                scores_of = self._pass(group)[1]
            except Exception as error:
                self._fail([job for piece in group for job, _ in piece.wanted], error)
                continue
            for piece, scores in zip(group, scores_of, strict=True):
                self._settle(piece, scores)
            self.outbox.deliver()

    def _groups(self, pieces: list[Piece]) -> list[list[Piece]]:
        """Pieces of alike length together, as many as a pass may hold."""
        pieces.sort(key=lambda piece: piece.new)
        groups: list[list[Piece]] = []
        while pieces:
            count = max(1, min(self.max_batch, PASS_TOKENS // pieces[-1].new))
            groups.append(pieces[-count:])
            del pieces[-count:]
        return groups

    def _pass(self, group: Sequence[Piece]) -> tuple[list[Layers], list[tuple[float, ...]]]:
        """Run one group, keep what it gave, charge it; keys, values and all scores of each piece."""
        began = time.perf_counter()
        sequences = [piece.tagged.tokens for piece in group]
        layers, fresh = self.model.run(sequences, [p.known for p in group], [p.tagged.tags for p in group])
        scores = [(piece.kept.scores if piece.kept else ()) + new for piece, new in zip(group, fresh, strict=True)]
        for piece, own, whole in zip(group, layers, scores, strict=True):
            self.prefixes.keep(piece.tagged.tokens, own, whole)
        share = (time.perf_counter() - began) / sum(piece.new for piece in group)
        for piece in group:
            piece.wanted[0][0].charge(piece.known[0], len(piece.tagged.tokens), share * piece.new)
        return layers, scores

    def _settle(self, piece: Piece, scores: tuple[float, ...]) -> None:
        """Give a sequence's scores to all who wait for them; a job that is whole is answered."""
        for job, index in piece.wanted:
            job.scores[index] = scores
            job.missing -= 1
            if not job.missing and not job.failed:
                self.outbox.add(job.waiter, job.reply())
