"""The actors of a pipeline's stage (see `pipeline`): one that Ray Data runs, and the job's own behind it.

The job's actor is detached, because Ray gives back what an actor had reserved for its replicas when that actor is gone
only if it is detached; otherwise the room would be lost until the whole program ends. Invariant: it does not outlive
the stages that ask it, whose locks on files it waits for.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from apportion.errors import ApportionError, ClusterLostError, ConfigError
from apportion.scheduler.spec import JobSpec

if TYPE_CHECKING:
    from ray.data import Dataset as RayDataset

    from apportion.scheduler.carried import CarriedRows

SHARES = 64
"""Parts in which results leave: a part is under 2% of a job, and an empty one costs a call of a few milliseconds."""
MOST_DEATHS = 3
"""Of the job's process in a row, without one share done in between: it would go on to die."""
_KILLED_SECONDS = 10.0
"""Until Ray has ended a process that it was asked to end; where it does not, the process does."""


def check_names(columns: Sequence[str], prefix: str) -> None:
    """Raise ConfigError where a result column would be called as one of the rows is."""
    from apportion.scheduler.candidates import RESULT_SCHEMA

    clashing = [prefix + name for name in RESULT_SCHEMA.names if prefix + name in columns]
    if clashing:
        raise ConfigError(
            f"the rows have columns that the results would be called: {', '.join(clashing)}. Give the results another "
            "name, as in solve_dataset(ds, config, prefix='result_'), or rename the columns with ds.rename_columns"
        )


class JobStage:
    """The stage's actor: a callable that is given the number of a share and returns its rows, an Arrow table.

    Where the job's actor dies, another goes on from its journal.
    """

    def __init__(self, rows: RayDataset, spec: JobSpec, prefix: str, name: str) -> None:
        self._life = tempfile.NamedTemporaryFile(prefix="apportion-stage-")  # noqa: SIM115 - held until this process ends
        fcntl.flock(self._life, fcntl.LOCK_EX)
        self._arguments, self._name = (rows, spec, prefix), name
        self._actor: Any = None
        self._deaths = 0

    def __call__(self, share: Any) -> Any:
        import ray
        from ray.data import DataContext

        # In this process only: an error of ours is to come out as what it is, not as the cause of another.
        DataContext.get_current().raise_original_map_exception = True
        number = int(share["share"][0].as_py())
        while True:
            if self._actor is None:
                self._actor = self._join()
            try:
                rows = ray.get(self._actor.share.remote(number, self._life.name))
            except ApportionError as error:
                raise told(error) from None
            except ray.exceptions.RayActorError as error:
                self._actor = None
                self._deaths += 1
                if self._deaths >= MOST_DEATHS:
                    raise told(_dead(error, self._arguments[1])) from error
            else:
                self._deaths = 0
                return rows

    def _join(self) -> Any:
        """The job's actor: the one that runs, where an earlier consumer of the same dataset has only just stopped."""
        import ray

        options = {"num_cpus": 0, "label_selector": here(), "lifetime": "detached", "namespace": "apportion"}
        job = ray.remote(JobActor).options(name=self._name, get_if_exists=True, **options)
        return job.remote(*self._arguments)


def here() -> dict[str, str]:
    """The label of this node."""
    import ray

    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def told(error: ApportionError) -> ApportionError:
    """The error as one that Ray Data, too, takes for the user's and not for a defect of its own."""
    from ray.exceptions import RayTaskError, UserCodeException

    cause = error.cause if isinstance(error, RayTaskError) else error
    kind = type(cause)
    both = type(kind.__name__, (kind, UserCodeException), {"__module__": kind.__module__})
    again: ApportionError = both(str(cause))
    return again


def _dead(error: Exception, spec: JobSpec) -> ClusterLostError:
    return ClusterLostError(
        f"the process of the job died {MOST_DEATHS} times before one more share of its results was done: "
        f"{' '.join(str(error).split())}. Often memory ran out. What was paid for is kept in {spec.output}"
    )


class JobActor:
    """One job in an actor's process, its rows on disk. It lives while a stage that asked it for a share does."""

    def __init__(self, rows: RayDataset, spec: JobSpec, prefix: str) -> None:
        self._rows, self._spec, self._prefix = rows, spec, prefix
        self._lives: set[str] = set()
        self._carried: CarriedRows | None = None

    def share(self, number: int, life: str) -> Any:
        """The rows of one share, as soon as they are done; with the last one the job has ended.

        `life` is the file whose lock the asking stage holds.
        """
        if life not in self._lives:
            self._lives.add(life)
            threading.Thread(target=self._outlive, args=(life,), name="apportion-life", daemon=True).start()
        try:
            return self._share(number)
        except BaseException:
            # Whoever asks again begins anew, from the journal.
            if self._carried is not None:
                self._carried.close()
            self._carried = None
            raise

    def _outlive(self, life: str) -> None:
        """Wait for the lock on a file, that is, for its holder's end; after the last one end this process, too."""
        with suppress(FileNotFoundError), open(life, encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
        self._lives.discard(life)
        if self._lives:
            return
        # At once, whatever the job is doing: its journal is fit for that. Ray tells of a process that ends by itself as
        # of one that died.
        import ray

        with suppress(Exception):
            ray.kill(ray.get_runtime_context().current_actor)
            time.sleep(_KILLED_SECONDS)
        os._exit(1)

    def _share(self, number: int) -> Any:
        if self._carried is None:
            self._begin()
        total = self._dataset.rows
        begin, end = total * number // SHARES, total * (number + 1) // SHARES
        while len(self._done) < end:
            result = next(self._results)
            self._done.append((self._dataset.lines[result.index], result.as_row()))
        if end == total:
            # The summary is written once all is committed, and may fail.
            for _ in self._results:
                pass
        return self._joined(sorted(self._done[begin:end], key=lambda entry: entry[0]))

    def _begin(self) -> None:
        from apportion.scheduler.assemble import prepare
        from apportion.scheduler.carried import CarriedRows
        from apportion.scheduler.lock import wait_unlocked
        from apportion.scheduler.solve import BackgroundJob

        # The actor before this one was killed, which may take a moment.
        wait_unlocked(self._spec.output)
        self._carried = CarriedRows(self._spec.output / ".rows")
        prepared = prepare(self._spec, self._read())
        job = BackgroundJob(prepared)
        job.start()
        self._dataset, self._results = prepared.dataset, job.results()
        self._done = [(one.line, _unanswered(one.id, one.reason)) for one in prepared.dataset.set_aside]

    def _joined(self, entries: Sequence[tuple[int, dict[str, Any]]]) -> Any:
        import pyarrow as pa

        from apportion.scheduler.candidates import RESULT_SCHEMA
        from apportion.scheduler.plain import plain

        assert self._carried is not None
        table = self._carried.take([line - 1 for line, _ in entries])
        results = pa.Table.from_pylist([plain(row) for _, row in entries], schema=RESULT_SCHEMA)
        for name in RESULT_SCHEMA.names:
            table = table.append_column(self._prefix + name, results[name])
        return table

    def _read(self) -> Iterator[Any]:
        """The rows as the job reads them, kept on the way."""
        from apportion.scheduler.rows import BATCH_ROWS, batch_rows

        assert self._carried is not None
        # Resuming needs the same prompts in the same order.
        self._rows.context.execution_options.preserve_order = True
        dataset = self._spec.dataset
        wanted = [column for column in (dataset.prompt, dataset.id, dataset.reference) if column is not None]
        for table in self._rows.iter_batches(batch_size=BATCH_ROWS, batch_format="pyarrow"):
            check_names(table.column_names, self._prefix)
            before = self._carried.rows
            self._carried.add(table)
            there = [name for name in wanted if name in table.column_names]
            # Where a column is missing, the error names those there are.
            yield from batch_rows(table.select(there) if len(there) == len(wanted) else table, before)


def _unanswered(prompt_id: str | None, reason: str) -> dict[str, Any]:
    """A row that was set aside. Numbers that stages compare are 0, so that a filter on them need not ask for null."""
    return {"prompt_id": prompt_id, "confidence": 0.0, "candidates": 0, "reason": "set_aside", "error": reason}
