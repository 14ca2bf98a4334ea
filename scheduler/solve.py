"""Running a job to its end: `run_job` for the command line, `solve` for a Python pipeline.

Both run the same driver on the same run directory and can be interrupted and called again: what was paid for is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from apportion import __version__
from apportion.actors.backends import INLINE, backend_for
from apportion.actors.fingerprint import files_hash
from apportion.actors.protocols import Backend, ReplicaHealth, TellsWaiting
from apportion.configs.build import load_job
from apportion.configs.load import ConfigSource
from apportion.scheduler.assemble import Prepared, build_machine, prepare
from apportion.scheduler.driver import Driver
from apportion.scheduler.journal import Journal
from apportion.scheduler.looking import Looking
from apportion.scheduler.machine import Machine
from apportion.scheduler.metrics import Metrics
from apportion.scheduler.outputs import RunDirectory
from apportion.scheduler.progress import LIVE_SECONDS, Display, JobView
from apportion.scheduler.publish import Publisher
from apportion.scheduler.report import report
from apportion.scheduler.results import Committed, PromptResult, is_correct, judge
from apportion.scheduler.spec import JobSpec
from apportion.scheduler.summary import build_summary

OnResult = Callable[[PromptResult], None]


def run_job(spec: JobSpec, display: Display | None = None, rows: Iterable[Any] | None = None) -> dict[str, Any]:
    """Run a job, or resume it where its run directory has a journal, and return its summary.

    A run directory whose job is complete gives its summary at once and spends nothing. Raises ApportionError; all but
    EngineErrors come before anything is spent. `rows` replaces the dataset's path.
    """
    return run_prepared(prepare(spec, rows), display)


def run_prepared(prepared: Prepared, display: Display | None = None) -> dict[str, Any]:
    """`run_job` of a job whose data and models are read."""
    return asyncio.run(_Job(prepared, display, None).run())


def solve(
    rows: Iterable[Mapping[str, Any]], config: ConfigSource, overrides: Sequence[str] = ()
) -> Iterator[PromptResult]:
    """Answer rows under one budget, yielding each result as it is committed (not in the order of the rows).

    `config` is a path, the name of a packaged config, or a mapping; its `dataset` says which columns to read. Where it
    has no `output`, the job is kept in a temporary folder and cannot be resumed. Closing the iterator stops the job.
    Raises ApportionError, on the first `next` for what is wrong before anything is spent.
    """
    with tempfile.TemporaryDirectory(prefix="apportion-") as scratch:
        spec = load_job(config, [f"output={scratch}", *overrides] if _has_no_output(config) else overrides, True)
        worker = BackgroundJob(prepare(spec, rows))
        worker.start()
        try:
            yield from worker.results()
        finally:
            worker.stop()


def _has_no_output(config: ConfigSource) -> bool:
    return isinstance(config, Mapping) and "output" not in config


class _Job:
    """One run of one job in one event loop."""

    def __init__(self, prepared: Prepared, display: Display | None, on_result: OnResult | None) -> None:
        self._spec = prepared.spec
        self._display = display
        self._on_result = on_result
        self._prepared = prepared
        self._started = time.monotonic()
        self._results: list[PromptResult] = []
        self._correct = self._scored = 0
        self._begun: tuple[float, float, int] | None = None
        self._looked = float("-inf")
        self._publisher: Publisher | None = None
        self._metrics = Metrics(prepared.spec.output.name) if prepared.spec.cluster != INLINE else None

    async def run(self) -> dict[str, Any]:
        spec, dataset = self._spec, self._prepared.dataset
        machine = build_machine(self._prepared)
        with ExitStack() as stack:
            if spec.publish is not None:
                self._publisher = stack.enter_context(Publisher(spec.publish, spec.output))
            opened = RunDirectory(spec.output, spec.resolved, dataset.fingerprint, spec.fitted)
            directory = stack.enter_context(opened)
            complete = directory.complete()
            if complete is not None and self._on_result is None:
                return complete
            directory.set_aside(dataset.set_aside)
            backend = backend_for(spec.cluster, tuple(spec.models.values()), spec.cluster_wait_s)
            with Journal(directory.journal, _identity(spec, dataset.fingerprint)) as journal:
                driver = Driver(
                    machine,
                    backend,
                    journal,
                    sink=lambda committed: self._commit(committed, directory),
                    watch=lambda: self._watch(machine, backend),
                    ordered=spec.ordered,
                )
                try:
                    await driver.run()
                finally:
                    try:
                        self._look(machine, backend, ended=True)
                    finally:
                        # Also where the display's reader has left: a cluster would keep the replicas and their room.
                        await backend.close()
            if complete is None:
                complete = self._summary(machine)
                if isinstance(machine, Looking):
                    complete["hidden_states"] = machine.report()
                if self._publisher is not None and self._publisher.taken_over:
                    complete["taken_over"] = self._publisher.taken_over
                page = report(complete, self._results, dataset.set_aside, directory.config)
                directory.finish(complete, page)
            return complete

    def _commit(self, committed: Committed, directory: RunDirectory) -> None:
        """The only place where references meet answers: after the decision."""
        prompt = self._prepared.dataset.prompts[committed.result.index]
        result = judge(committed.result, prompt, self._spec.answer)
        correct = [is_correct(candidate.answer, prompt, self._spec.answer) for candidate in committed.candidates]
        directory.commit(replace(committed, result=result), correct)
        self._results.append(result)
        self._correct += result.correct is True
        self._scored += result.correct is not None
        if self._on_result is not None:
            self._on_result(result)

    def _watch(self, machine: Machine | Looking, backend: Backend) -> None:
        """Called after every turn of the driver, so it must cost next to nothing."""
        now = time.monotonic()
        if now - self._looked >= LIVE_SECONDS:
            self._looked = now
            if self._publisher is not None:
                self._publisher.check()
            self._look(machine, backend)

    def _look(self, machine: Machine | Looking, backend: Backend, ended: bool = False) -> None:
        if self._display is None and self._metrics is None:
            return
        health = backend.health()
        view = self._view(machine, backend, health)
        if self._display is not None:
            self._display(view)
        if self._metrics is not None:
            self._metrics(view, health, ended)

    def _view(self, machine: Machine | Looking, backend: Backend, health: Sequence[ReplicaHealth]) -> JobView:
        total = machine.ledger.total.tokens
        if self._begun is None:
            # The first look comes before this session's first reply: what is there was replayed.
            self._begun = (total, machine.ledger.spent, machine.committed)
        return JobView(
            total=machine.total,
            done=machine.committed,
            running=machine.running,
            waiting=machine.total - machine.committed - machine.running,
            set_aside=len(self._prepared.dataset.set_aside),
            budget=self._spec.budget,
            spent=machine.ledger.spent,
            unit=self._spec.unit.value,
            price=machine.price,
            tokens=total,
            correct=self._correct,
            scored=self._scored,
            elapsed_s=time.monotonic() - self._started,
            replicas=(sum(one.alive for one in health), len(health)),
            restarts=sum(one.restarts for one in health),
            replayed_tokens=self._begun[0],
            replayed_spent=self._begun[1],
            replayed_done=self._begun[2],
            note=self._phase(backend, health),
            answered=machine.answered,
        )

    def _phase(self, backend: Backend, health: Sequence[ReplicaHealth]) -> str:
        """What the job waits for before it can go on: room on the cluster, or models of which no replica is up."""
        if isinstance(backend, TellsWaiting) and backend.waits_for:
            return backend.waits_for
        up = {one.model for one in health if one.alive}
        down = [name for name in self._spec.models if name not in up]
        return f"starting {', '.join(down) if up else 'models'}" if down else ""

    def _summary(self, machine: Machine | Looking) -> dict[str, Any]:
        ledger = machine.ledger
        return build_summary(
            self._results,
            set_aside=len(self._prepared.dataset.set_aside),
            budget=ledger.budget,
            unit=ledger.unit,
            total=ledger.total,
            by_arm=ledger.by_arm,
            by_model=ledger.by_model,
            by_kind=ledger.by_kind,
            wall_s=time.monotonic() - self._started,
            overrun=ledger.overrun,
            lost=ledger.lost,
            goal=self._spec.goal,
        )


def _identity(spec: JobSpec, fingerprint: str) -> dict[str, str]:
    """What a journal's decisions depend on beside the config, which the run directory compares key by key."""
    fitted = hashlib.blake2b(Path(spec.fitted).read_bytes()).hexdigest()[:16] if spec.fitted is not None else "none"
    models = {f"model {name}": files_hash(Path(model.path)) for name, model in spec.models.items()}
    return {"dataset": fingerprint, "fitted": fitted, "version": __version__, **models}


class BackgroundJob:
    """A job in a thread of its own, so that the engines stay busy while the caller handles a result."""

    _END = object()

    def __init__(self, prepared: Prepared) -> None:
        self._queue: queue.Queue[object] = queue.Queue()
        self._job = _Job(prepared, None, self._queue.put)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="apportion-job", daemon=True)
        self._task: asyncio.Task[dict[str, Any]] | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin; `stop` must follow, or the process's end."""
        self._task = self._loop.create_task(self._job.run())
        self._thread.start()

    def results(self) -> Iterator[PromptResult]:
        """Each result once; then the job's error is raised where it had one."""
        while True:
            item = self._queue.get()
            if isinstance(item, PromptResult):
                yield item
            else:
                break
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the job, whether or not it is done."""
        if self._task is not None:
            # The loop closes itself when the job is done, which may be at this very moment.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _main(self) -> None:
        assert self._task is not None
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._error = None
        except BaseException as error:  # handed to the caller's thread
            self._error = error
        finally:
            self._loop.close()
            self._queue.put(self._END)
