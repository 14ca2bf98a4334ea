"""The worker thread of the embedded engine: takes jobs, keeps the batch full, and answers each job when it is done.

Invariants: the model is touched by this thread only; jobs begin in the order they came; every job's future is resolved
exactly once, whatever fails. Where the model fails, the jobs it ran at that moment fail with BatchError and the others
go on; after an error of the accelerator itself all fail, for no later pass can succeed. Busy seconds of all jobs add up
to the time the model ran: a prefill is shared by prompt tokens, a step by its rows.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from apportion.actors.decoding import Decoder, Row
from apportion.actors.jobs import SEED_BITS, Job, Look
from apportion.actors.kv import Known, Layers
from apportion.actors.prefixes import PrefixCache
from apportion.actors.replies import Outbox, accelerator_broke
from apportion.actors.stops import StopTable
from apportion.actors.tokens import ChatTokenizer, stop_end
from apportion.errors import BatchError, EngineError
from apportion.types import Completion, Finish, LogprobStats

ADMIT_SHARE = 8
# While sequences run, new ones wait until this part of the batch is free: each prefill stops all that runs.

PREFILL_TOKENS = 8192
# Padded prompt tokens in one forward pass; bounds its memory.


class Batcher:
    """Runs jobs on one decoder, in a thread of its own."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: ChatTokenizer,
        stops: StopTable,
        end_ids: Sequence[int],
        prefixes: PrefixCache,
        max_batch: int,
        threads: int,
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._stops = stops
        self._end_ids = frozenset(end_ids)
        self._prefixes = prefixes
        self._max_batch = max_batch
        self._threads = threads
        self._inbox: queue.SimpleQueue[Job | Look | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._looks: list[Look] = []
        self._running: set[Job] = set()
        self._outbox: Outbox[Any] = Outbox()
        self._row_seconds = 0.0
        """what one row would have been charged, had it been live since the start"""
        self._begun: dict[Row, float] = {}
        self._closing = False
        self._broken: Exception | None = None
        """after this error of the accelerator nothing can be run"""
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job | Look) -> None:
        """Queue a job; its future is resolved in its own event loop."""
        if not self._thread.is_alive():
            raise EngineError("the engine was closed; build it again")
        self._inbox.put(job)

    def abandon(self, job: Job | Look) -> None:
        """Stop working on a job nobody waits for."""
        job.abandoned = True
        self._abandoned.set()

    @property
    def live(self) -> int:
        """Sequences that run now."""
        return self._decoder.live

    def close(self) -> None:
        """Stop the thread; jobs that are not done fail."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while not self._closing:
                self._take()
                self._turn()
                self._outbox.deliver()
            while not self._inbox.empty():
                self._put(self._inbox.get())
            for job in self._unanswered():
                self._outbox.add(job.waiter, EngineError("the engine was closed before it had answered"))
            self._outbox.deliver()

    def _turn(self) -> None:
        if self._broken is not None:
            self._fail([], self._broken)
            return
        try:
            self._drop_abandoned()
            self._look()
            self._admit()
            if self._decoder.live and self._broken is None:
                self._advance()
        except Exception as error:
            # With nothing running the fault is in admitting, and what waits would meet it again.
            self._fail(list(self._running) or list(self._waiting), error)
            if self._broken is None:
                # After a failed step nobody knows what its state is.
                self._decoder.clear()
                self._begun.clear()

    def _take(self) -> None:
        """Move what has come to the waiting line; block only where there is nothing to do."""
        idle = not self._waiting and not self._looks and (self._broken is not None or not self._decoder.live)
        while True:
            try:
                job = self._inbox.get(block=idle)
            except queue.Empty:
                return
            if job is None:
                self._closing = True
                return
            self._put(job)
            idle = False

    def _put(self, job: Job | Look | None) -> None:
        line: list[Any] | deque[Any] = self._looks if isinstance(job, Look) else self._waiting
        line.extend([] if job is None else [job])

    def _drop_abandoned(self) -> None:
        if not self._abandoned.is_set():
            return
        self._abandoned.clear()
        self._waiting = deque(job for job in self._waiting if not job.abandoned)
        self._running = {job for job in self._running if not job.abandoned}
        self._looks = [look for look in self._looks if not look.abandoned]
        self._remove([slot for slot, row in enumerate(self._decoder.rows) if row.owner.abandoned])

    def _admit(self) -> None:
        free = self._max_batch - self._decoder.live
        enough = free >= max(1, self._max_batch // ADMIT_SHARE) or not self._decoder.live
        if not self._waiting or not enough:
            return
        chosen: list[tuple[Job, int]] = []
        for job in self._waiting:
            if free <= 0:
                break
            rows = min(free, len(job.request.seeds) - job.placed)
            chosen.append((job, rows))
            free -= rows
        self._prefill([job for job, _ in chosen if job.layers is None])
        if self._broken is not None:
            return
        for job, rows in chosen:
            if job.layers is None:
                # Its prefill failed, and so did the job.
                continue
            self._running.add(job)
            self._place(job, job.layers, rows)
            if job.placed == len(job.request.seeds):
                self._waiting.popleft()
                job.layers = None

    def _prefill(self, jobs: list[Job]) -> None:
        """Run what has not been run of the prompts of jobs, alike lengths together."""
        todo: list[tuple[Job, Known]] = []
        for job in jobs:
            kept = self._prefixes.find_shared(job.prompt[:-1])
            known: Known = kept.known if kept else (0, ())
            job.cached = known[0]
            if kept and job.cached == len(job.prompt) - 1:
                job.layers = kept.layers
            else:
                todo.append((job, known))
        # Prompts that continue something go first and apart: their pass needs a mask, which the others' do not.
        todo.sort(key=lambda entry: (entry[1][0] > 0, len(entry[0].prompt)))
        while todo:
            widest, continues = len(todo[-1][0].prompt), todo[-1][1][0] > 0
            alike = sum((known[0] > 0) == continues for _, known in todo)
            group = [todo.pop() for _ in range(min(alike, max(1, PREFILL_TOKENS // widest)))]
            began = time.perf_counter()
            try:
                layers = self._decoder.prefill([job.prompt for job, _ in group], [known for _, known in group])
            except Exception as error:
                # What runs has its state elsewhere and goes on.
                self._fail([job for job, _ in group], error)
                continue
            for (job, _), own in zip(group, layers, strict=True):
                job.layers = own
                self._prefixes.keep(job.prompt[:-1], own)
            share = (time.perf_counter() - began) / sum(len(job.prompt) - job.cached for job, _ in group)
            for job, _ in group:
                job.busy_seconds += share * (len(job.prompt) - job.cached)

    def _look(self) -> None:
        """Tell the hidden states that were asked for, alike lengths together, and keep what such a pass computes."""
        self._looks.sort(key=lambda look: len(look.prompt))
        while self._looks and self._broken is None:
            group = self._looks[-max(1, min(self._max_batch, PREFILL_TOKENS // len(self._looks[-1].prompt))) :]
            began = time.perf_counter()
            try:
                states, layers = self._decoder.look([look.prompt for look in group])
            except Exception as error:
                # What runs has its state elsewhere and goes on.
                self._fail(group, error)
                continue
            del self._looks[-len(group) :]
            share = (time.perf_counter() - began) / sum(len(look.prompt) for look in group)
            for look, state, own in zip(group, states, layers, strict=True):
                self._prefixes.keep(look.prompt[:-1], own)
                self._outbox.add(look.waiter, look.reply(state, share * len(look.prompt)))

    def _place(self, job: Job, layers: Layers, count: int) -> None:
        sampling = job.request.sampling
        kind = self._stops.kind(sampling.stop)
        first = job.placed
        rows = [
            Row(job, index, job.request.seeds[index] & SEED_BITS, sampling.temperature, sampling.top_p, job.limit, kind)
            for index in range(first, first + count)
        ]
        self._decoder.place(job.prompt, layers, rows)
        job.placed += count
        self._begun.update(dict.fromkeys(rows, self._row_seconds))

    def _advance(self) -> None:
        """One step; what it ended is taken out of the batch."""
        live = self._decoder.live
        began = time.perf_counter()
        flagged = self._decoder.step(self._stops.table)
        self._row_seconds += (time.perf_counter() - began) / live
        ended: list[int] = []
        for slot in flagged:
            completion = self._finish(slot)
            if completion is not None:
                row = self._decoder.rows[slot]
                row.owner.done[row.index] = completion
                ended.append(slot)
        if ended:
            owners = [self._decoder.rows[slot].owner for slot in ended]
            self._remove(ended)
            for job in dict.fromkeys(owners):
                if len(job.done) == len(job.request.seeds):
                    self._running.discard(job)
                    self._outbox.add(job.waiter, job.reply())

    def _finish(self, slot: int) -> Completion | None:
        """The completion of a sequence whose last token may have ended it, or None where it goes on."""
        row = self._decoder.rows[slot]
        tokens = self._decoder.written(slot)
        ended = tokens[-1] in self._end_ids
        text = self._tokenizer.decode(tokens[:-1] if ended else tokens, row.owner.prompt)
        cut = stop_end(text, row.owner.request.sampling.stop)
        if cut is not None:
            text, finish = text[:cut], Finish.STOP
            if self._prefixes.open:
                # Whoever stops in the middle is likely to go on from there.
                self._prefixes.keep([*row.owner.prompt, *tokens[:-1]], self._decoder.keep(slot))
        elif ended:
            finish = Finish.END
        elif len(tokens) >= row.limit:
            finish = Finish.LENGTH
        else:
            return None
        mean = [total / len(tokens) for total in self._decoder.statistics(slot)]
        return Completion(text, len(tokens), finish, LogprobStats(mean[0], mean[1], mean[2]))

    def _remove(self, slots: list[int]) -> None:
        for slot in slots:
            row = self._decoder.rows[slot]
            row.owner.busy_seconds += self._row_seconds - self._begun.pop(row)
        self._decoder.remove(slots)

    def _unanswered(self) -> list[Job | Look]:
        everyone: list[Job | Look] = [*self._running, *self._waiting, *self._looks]
        return list(dict.fromkeys(everyone))

    def _fail(self, jobs: Sequence[Job | Look], error: Exception) -> None:
        """Give up the jobs the model failed on; all of them where it can run no more."""
        if accelerator_broke(error):
            self._broken = error
            jobs = list(dict.fromkeys([*jobs, *self._unanswered()]))
        why = f"the model failed on a batch of {len(jobs)} requests: {type(error).__name__}: {error}"
        for job in jobs:
            self._outbox.add(job.waiter, BatchError(why, len(jobs) == 1, self._broken is not None))
        self._running = {job for job in self._running if job not in jobs}
        self._waiting = deque(job for job in self._waiting if job not in jobs)
        self._looks = [look for look in self._looks if look not in jobs]
