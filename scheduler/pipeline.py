"""`solve_dataset`: a job as a stage of a Ray Data pipeline.

A price for one budget needs every prompt, so the stage is not a map over blocks. It is one actor without a CPU of its
own, on the node of the caller. It reads the whole of the dataset before it, runs the job, and is asked for its results
in `SHARES` parts, each of which leaves as soon as so many rows are done. Invariants:
- what comes out depends on the run directory alone: a share holds the same rows, in the same order, whoever asks for it
  again, so Ray may restart the actor, or make a lost block anew, and no row is lost, doubled or paid for twice;
- the job never waits for the stages after it, so it cannot deadlock with them over CPUs;
- nothing runs, and nothing is written, before the dataset is consumed.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from apportion.configs.build import load_job
from apportion.configs.load import ConfigSource
from apportion.errors import ConfigError
from apportion.scheduler.spec import JobSpec
from apportion.scheduler.stage import SHARES, JobStage, check_names, here

if TYPE_CHECKING:
    from ray.data import Dataset as RayDataset

NEVER = -1
"""Ray Data gives up on a pipeline that puts nothing out for half an hour; a long job's first share takes longer."""


def solve_dataset(ds: RayDataset, config: ConfigSource, overrides: Sequence[str] = (), prefix: str = "") -> RayDataset:
    """Answer the rows of a Ray Dataset under one budget: a lazy Dataset of the same rows, their results beside them.

    The columns of results.parquet are added, `prefix` before their names. Rows come as they are committed, in 64 parts,
    each in the order of `ds`; rows that cannot be answered come first, with the reason `set_aside`, an `error` and a
    confidence of 0. The config is as for `solve`; its models run on the Ray cluster of the pipeline
    (`cluster.address: inline`: in the stage's own process). Where it has no `output`, the run directory is a temporary
    one that this process keeps to its end: consuming the result twice spends once. With an `output`, a later process
    resumes, provided that `ds` gives the same rows in the same order; consuming a part (`take`) stops the job once that
    part is there.

    Raises ConfigError and ModelError at once; DataError, BudgetError and all others when it is consumed, as errors that
    are both theirs and Ray's.
    """
    import ray

    if not isinstance(ds, ray.data.Dataset):
        raise ConfigError(
            f"solve_dataset was given a {type(ds).__name__}, but needs a ray.data.Dataset; rows in memory go to "
            "apportion.solve"
        )
    spec = _spec(config, overrides)
    schema = ds.schema(fetch_if_missing=False)
    if schema is not None:
        check_names(schema.names, prefix)
    shares = ray.data.from_items([{"share": number} for number in range(SHARES)], override_num_blocks=SHARES)
    shares.context.execution_no_progress_timeout_s = NEVER
    return shares.map_batches(
        JobStage,
        fn_constructor_kwargs={"rows": ds, "spec": spec, "prefix": prefix, "name": f"apportion-{uuid.uuid4()}"},
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0,
        # Where the caller's files are, and the run directory that the caller will look into.
        label_selector=here(),
    )


def _spec(config: ConfigSource, overrides: Sequence[str]) -> JobSpec:
    if isinstance(config, Mapping) and "output" not in config:
        folder = tempfile.mkdtemp(prefix="apportion-")
        atexit.register(shutil.rmtree, folder, True)
        overrides = [f"output={folder}", *overrides]
    spec = load_job(config, overrides, rows_given=True)
    # The actor has a working directory of its own.
    return replace(spec, output=spec.output.absolute())
