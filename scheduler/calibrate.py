"""`apportion calibrate`: every arm of a config on labelled prompts, recorded as a pool.

It is a job like any other, with the allocation policy `calibration`: its run directory is POOL/run, and POOL holds
prompts.parquet and candidates.parquet beside it, written when the job is done, and with `difficulty.features: hidden`
hidden.parquet, the prompts' hidden states. Prompts are taken in seeded random
order, so that where the budget ends, those that are complete are a fair sample of all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from apportion.actors.fingerprint import model_hash
from apportion.difficulty.fitted import AT, is_search
from apportion.difficulty.hidden import HiddenStates, write_hidden
from apportion.difficulty.objectives import Objective
from apportion.errors import ConfigError, DataError, RunDirectoryError
from apportion.scheduler.assemble import Prepared, most_of, prepare
from apportion.scheduler.calibration import independent, script
from apportion.scheduler.candidates import write_table
from apportion.scheduler.journal import read_states
from apportion.scheduler.once import PROMPT_COLUMNS, part_prompts
from apportion.scheduler.outputs import CANDIDATES, CONFIG, JOURNAL, read_summary
from apportion.scheduler.progress import Display
from apportion.scheduler.solve import run_prepared
from apportion.scheduler.spec import JobSpec

RUN = "run"
"""The folder of a pool that holds the run directory of the job that recorded it."""
PROMPTS = "prompts.parquet"
_READ = ("prompt_id", "arm", "purchase", "n", "answer", "correct", "tokens", "score", "self_certainty")
_COSTS = ("cost_usd", "cost_tokens", "cost_flops", "cost_gpu_seconds")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded: `complete` prompts have every candidate of every arm, of `prompts` in the dataset.

    `arms` are the pool's, with their candidates. `summary` is the job's; `before` says that it was done already.
    """

    pool: Path
    prompts: int
    complete: int
    arms: Mapping[str, int]
    summary: Mapping[str, Any]
    before: bool = False


def pool_arm(name: str, n: int, dealt: bool) -> str:
    """What a pool calls an arm: a search by its amount, beam@16, because it is no part of a larger one."""
    return name if dealt else f"{name}{AT}{n}"


def calibrate(spec: JobSpec, display: Display | None = None, rows: Iterable[Any] | None = None) -> Recorded:
    """Record a pool, or go on with one that was stopped. `rows` replaces the dataset's path.

    Raises ConfigError without an output or for an arm that is called as a pool's searches are, DataError for prompts
    without a reference, RunDirectoryError for an output that holds another pool, BudgetError for a budget that
    completes no prompt, and what `run_job` raises.
    """
    pool = spec.calibration.output
    if pool is None:
        raise ConfigError("calibration.output is missing; say where the pool goes, with -o POOL or in the config")
    _check_names(spec)
    _check_folder(pool)
    prepared = _shuffled(prepare(_job(spec, pool), rows))
    _check_references(prepared)
    before = read_summary(prepared.spec.output) is not None
    summary = run_prepared(prepared, display)
    arms, complete = _write(pool, prepared)
    return Recorded(pool, len(prepared.dataset.prompts), complete, arms, summary, before)


def _job(spec: JobSpec, pool: Path) -> JobSpec:
    """The recording as a job: its own output, budget and allocation, and nothing known beforehand."""
    budget = spec.calibration.budget if spec.calibration.budget is not None else spec.budget
    samples, output = spec.calibration.samples, pool / RUN
    resolved = {
        **spec.resolved,
        "output": str(output),
        "objective": "accuracy",
        "budget": {"amount": budget, "unit": spec.unit.value},
        "difficulty": {} if spec.looks_at is None else {"features": "hidden", "model": spec.looks_at},
        "allocation": {"policy": "calibration", "samples": samples},
    }
    return replace(
        spec,
        output=output,
        publish=None,
        objective="accuracy",
        goal=Objective(),
        budget=budget,
        fitted=None,
        allocation="calibration",
        allocation_settings={"samples": samples},
        resolved=resolved,
    )


def _check_names(spec: JobSpec) -> None:
    """An arm that is called as a pool calls searches would be taken for one, or mixed with it."""
    for name in (arm.name for arm in spec.arms if is_search(arm.name)):
        raise ConfigError(
            f"arms.{name}: a name that ends in {AT} and a number is that of a search in a pool, by its amount; give "
            f"the arm another name, such as {name.replace(AT, '_')}"
        )


def _check_folder(pool: Path) -> None:
    """A folder that holds a pool, or a run, that this command did not make is left alone."""
    ours = (pool / RUN / CONFIG).is_file()
    for name in (CANDIDATES, PROMPTS, CONFIG):
        if (pool / name).exists() and (not ours or name == CONFIG):
            what = "another job's results" if name == CONFIG or (pool / CONFIG).exists() else "another pool"
            raise RunDirectoryError(f"calibration.output: {pool} holds {what} ({name}); choose another with -o POOL")


def _shuffled(prepared: Prepared) -> Prepared:
    """The prompts in the order in which they are taken, which depends on the seed alone."""
    dataset = prepared.dataset
    order = np.random.default_rng(prepared.spec.seed).permutation(len(dataset.prompts)).tolist()
    return replace(
        prepared,
        dataset=replace(
            dataset,
            prompts=tuple(dataset.prompts[at] for at in order),
            lines=tuple(dataset.lines[at] for at in order),
        ),
        prompt_tokens={name: counts[order] for name, counts in prepared.prompt_tokens.items()},
    )


def _check_references(prepared: Prepared) -> None:
    prompts = prepared.dataset.prompts
    without = sum(prompt.reference is None for prompt in prompts)
    if without:
        column = prepared.spec.dataset.reference
        advice = (
            "name its column with dataset.reference"
            if column is None
            else f"fill the column {column!r}, or leave those prompts out"
        )
        raise DataError(
            f"{without:,} of {len(prompts):,} prompts have no reference answer, and a pool without labels teaches "
            f"nothing; {advice}"
        )


def _write(pool: Path, prepared: Prepared) -> tuple[dict[str, int], int]:
    """Write the pool from the run directory, candidates last. Returns candidates by arm, and how many are complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    spec = prepared.spec
    dealt = {arm.name: independent(arm) for arm in spec.arms}
    file = spec.output / CANDIDATES
    columns = [name for name in pq.read_schema(file).names if name in (*_READ, *_COSTS, "cut")]
    # What a failure or the end of the budget cut off is no sample of its arm: beginnings, and responses nobody scored.
    rows = [row for row in pq.read_table(file, columns=columns).to_pylist() if not row.get("cut")]
    place = {prompt.id: at for at, prompt in enumerate(prepared.dataset.prompts)}
    rows.sort(key=lambda row: (place[row["prompt_id"]], row["purchase"]))
    part_prompts(rows, prepared, place)
    numbers: Counter[tuple[str, str]] = Counter()
    for row in rows:
        row["arm"] = pool_arm(row["arm"], row["n"], dealt[row["arm"]])
        row["index"] = numbers[row["prompt_id"], row["arm"]]
        numbers[row["prompt_id"], row["arm"]] += 1
        for name in (*_COSTS, *PROMPT_COLUMNS):
            # A model without a price, or an engine that measures no time, costs nothing that could be compared.
            row[name] = row[name] or None
    rows.sort(key=lambda row: (place[row["prompt_id"]], row["arm"], row["index"]))
    some = {prompt for prompt, _ in numbers}
    seen = [prompt for prompt in prepared.dataset.prompts if prompt.id in some]
    described = {
        "prompt_id": [prompt.id for prompt in seen],
        "text": [prompt.text for prompt in seen],
        "reference": [prompt.reference for prompt in seen],
    }
    text = pa.string()
    prompt_schema = pa.schema([("prompt_id", text), ("text", text), ("reference", text)])
    schema = pa.schema(
        [
            *((name, text) for name in ("prompt_id", "arm")),
            ("index", pa.int32()),
            ("answer", text),
            ("correct", pa.bool_()),
            ("tokens", pa.int64()),
            ("score", pa.float64()),
            ("self_certainty", pa.float64()),
            ("n", pa.int32()),
            *((name, pa.float64()) for name in (*_COSTS, *PROMPT_COLUMNS)),
        ]
    )
    if spec.looks_at is not None:
        _write_states(pool, prepared, [place[prompt.id] for prompt in seen])
    write_table(pool / PROMPTS, pa.table(described, schema=prompt_schema))
    write_table(pool / CANDIDATES, pa.Table.from_pylist(rows, schema=schema))
    wanted = script(spec.arms, spec.allocation_settings["samples"], [most_of(spec, arm) for arm in spec.arms])
    # A search may end with fewer candidates than it was begun with.
    enough = {pool_arm(one.arm, one.n, dealt[one.arm]): one.n if dealt[one.arm] else 1 for one in wanted}
    complete = sum(all(numbers[prompt, arm] >= n for arm, n in enough.items()) for prompt in some)
    return dict(sorted(Counter(row["arm"] for row in rows).items())), complete


def _write_states(pool: Path, prepared: Prepared, seen: Sequence[int]) -> None:
    """Write the hidden states of some prompts from the job's journal, which is where their replies are kept."""
    spec = prepared.spec
    assert spec.looks_at is not None
    vectors = {name.prompt: reply.vector for name, reply in read_states(spec.output / JOURNAL)}
    width = max(map(len, vectors.values()), default=0)
    unknown = (math.nan,) * width
    states = HiddenStates(
        spec.looks_at,
        model_hash(spec.models[spec.looks_at]),
        np.array([vectors.get(at, unknown) for at in seen], dtype=np.float32).reshape(len(seen), width),
    )
    write_hidden(pool, [prepared.dataset.prompts[at].id for at in seen], states)
