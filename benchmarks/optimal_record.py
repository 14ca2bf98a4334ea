"""Record the pool that benchmarks/compute_optimal.py plays on, one arm after the other.

    python benchmarks/optimal_record.py [--work FOLDER] [--prompts 320] [--part 0/2] [--arms A,B] [--out POOL]

It is `apportion calibrate compute-optimal` for each arm, and each amount of a search, by itself: in one job the later
arms would find the prompts and beginnings of the earlier ones in the engines' caches, and cost less than they do.
Prompts go in chunks; a chunk of an arm that is done is not recorded again, so that the command goes on where it was
stopped, and several processes (--part 0/2, --part 1/2) share the chunks. With --out what is recorded of all arms is put
together as a pool, without texts; with --arms beside, of these only, and the other arms of POOL stay in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apportion import lab
from apportion.actors.registry import describe
from apportion.configs.build import load_job
from apportion.costs import attended
from apportion.difficulty.fitted import AT
from apportion.policies.arm import Arm
from apportion.scheduler.assemble import most_of
from apportion.scheduler.calibrate import CANDIDATES, PROMPTS, RUN, calibrate
from apportion.scheduler.calibration import independent, script
from apportion.scheduler.spec import JobSpec
from apportion.types import Message

CONFIG = "compute-optimal"
CHUNK = 80
GRAIN = 1e5
SCORE_DIGITS = 4
"""What a replay counts in, and more digits than rank anything: the pool ships."""
AGREES = 0.03
"""The parts of a cost must add up to what was charged: a tag in place of a newline, a batch that scored twice."""
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("arm", pa.string()),
        ("index", pa.int32()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("n", pa.int32()),
        ("cost_flops", pa.float64()),
        ("prompt_flops", pa.float64()),
        ("verify_flops", pa.float64()),
        ("like", pa.int32()),
    ]
)
Row = dict[str, Any]
WHOLE = ("genrm", "rsd", "spec_reason")
"""Samples that a second model judges or writes parts of: what is paid once for several of them is no simple part of
their cost, so that each amount is recorded by itself, as searches are."""
SAMPLES = {"large": 16, "greedy": 1, "reviser": 16, "weak_vote": 32}
"""Of arms that do not take the config's number: `large` costs ten times as much, and a greedy response is always the
same."""


def chunks(prompts: int) -> list[list[str]]:
    """Lines of lab:test, by chunk."""
    lines = lab.lab_path("lab:test").read_text().splitlines()[:prompts]
    return [lines[at : at + CHUNK] for at in range(0, len(lines), CHUNK)]


def jobs(arms: Sequence[str] | None) -> list[tuple[str, int]]:
    """Every arm with what of it is bought at once."""
    spec = load_job(CONFIG, [])
    found = []
    for arm in spec.arms:
        if arms is None or arm.name in arms:
            samples = SAMPLES.get(arm.name, spec.calibration.samples)
            whole = [(arm.name, n) for n in arm.amounts]
            parts = script([arm], samples, [most_of(spec, arm)])
            found += whole if arm.name in WHOLE else [(one.arm, one.n) for one in parts]
    return found


def record(work: Path, chunk: int, lines: Sequence[str], arm: str, n: int) -> None:
    """One arm on one chunk, where that is not there yet."""
    folder = work / f"{chunk:02d}" / f"{arm}-{n}"
    if (folder / CANDIDATES).is_file():
        return
    rows = work / f"{chunk:02d}.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(f"{line}\n" for line in lines))
    whole = load_job(CONFIG, [f"dataset.path={rows}", "dataset.limit=null"])
    one = next(one for one in whole.arms if one.name == arm)
    samples = n if independent(one) else 1
    settings = replace(whole.calibration, output=folder, samples=samples)
    kept = (one if independent(one) else replace(one, amounts=(n,)),)
    began = time.perf_counter()
    recorded = calibrate(replace(whole, arms=kept, calibration=settings))
    print(f"chunk {chunk}: {arm} {n}: {recorded.arms} in {time.perf_counter() - began:.0f} s", flush=True)
    if recorded.complete < recorded.prompts:
        raise SystemExit(f"{folder}: {recorded.complete} of {recorded.prompts} prompts are complete")


def together(work: Path, out: Path, chosen: Sequence[str] | None) -> None:
    """The chunks on which all arms are recorded, as one pool; of those chosen only, beside what `out` holds of others.

    Raises SystemExit where `out` has other prompts, or there is nothing to put together.
    """
    wanted = {f"{arm}-{n}": (arm, n) for arm, n in jobs(chosen)}
    if not wanted:
        raise SystemExit(f"{CONFIG} has none of the arms {', '.join(chosen or ())}")
    spec = load_job(CONFIG, [])
    arms = {arm.name: arm for arm in spec.arms}
    there = sorted(folder for folder in work.iterdir() if folder.is_dir())
    whole = [one for one in there if all((one / name / CANDIDATES).is_file() for name in wanted)]
    if not whole:
        raise SystemExit(f"no chunk in {work} has all of {', '.join(wanted)}; record them first, without --out")
    tables, prompts = [], []
    for one in whole:
        described = pq.read_table(one / min(wanted) / PROMPTS)
        prompts.append(described)
        texts = dict(zip(described["prompt_id"].to_pylist(), described["text"].to_pylist(), strict=True))
        for name, (arm, n) in sorted(wanted.items()):
            rows = pq.read_table(one / name / CANDIDATES).to_pylist()
            if arm in WHOLE:
                rows = [row | {"arm": f"{arm}{AT}{n}"} for row in rows]
            elif independent(arms[arm]):
                responses = pq.read_table(one / name / RUN / CANDIDATES, columns=["prompt_id", "index", "text"])
                parted(rows, responses.to_pylist(), texts, arms[arm], spec)
            tables.append(pa.Table.from_pylist(list(map(short, rows)), schema=SCHEMA))
    recorded, described = pa.concat_tables(tables), pa.concat_tables(prompts)
    if chosen is not None and (out / PROMPTS).is_file():
        before = pq.read_table(out / PROMPTS)
        if sorted(before["prompt_id"].to_pylist()) != sorted(described["prompt_id"].to_pylist()):
            raise SystemExit(f"{out} has other prompts than {work}: {before.num_rows} and {described.num_rows}")
        new = pc.unique(recorded["arm"])
        others = pq.read_table(out / CANDIDATES, schema=SCHEMA).filter(~pc.field("arm").isin(new.to_pylist()))
        recorded, described = pa.concat_tables([others, recorded]), before
    out.mkdir(parents=True, exist_ok=True)
    for name, table in ((PROMPTS, described), (CANDIDATES, recorded)):
        pq.write_table(table, out / name, compression="zstd", compression_level=19)
    print(json.dumps({"prompts": described.num_rows, "arms": pc.unique(recorded["arm"]).to_pylist()}))


def parted(rows: Sequence[Row], responses: Sequence[Row], texts: Mapping[str, str], arm: Arm, spec: JobSpec) -> None:
    """Write into an arm's rows what its engines do once: `prompt_flops`, `verify_flops` and `like`.

    `cost_flops` is then that of a response which is like no other. Raises SystemExit where all this together is not
    what was charged.
    """
    models = [describe(spec.models[name]) for name in (arm.policy, arm.verifier) if name is not None]
    said = {(one["prompt_id"], one["index"]): one["text"] for one in responses}
    numbers: dict[str, dict[str, int]] = {}
    paid = charged = 0.0
    for row in rows:
        own = numbers.setdefault(row["prompt_id"], {})
        seen = len(own)
        row["like"] = own.setdefault(said[row["prompt_id"], row["index"]], seen)
        length = models[0].count_prompt((Message("user", texts[row["prompt_id"]]),))
        each = [float(model.profile().flops(row["tokens"], attended(length, row["tokens"]))) for model in models]
        reading = sum(float(model.profile().flops(length, attended(0, length))) for model in models)
        charged += row["cost_flops"] + (row["prompt_flops"] if seen == 0 else 0.0)
        row |= {"prompt_flops": reading, "verify_flops": sum(each[1:]), "cost_flops": sum(each)}
        paid += each[0] + (sum(each[1:]) if row["like"] == seen else 0.0) + (reading if seen == 0 else 0.0)
    if abs(paid / charged - 1.0) > AGREES:
        raise SystemExit(f"{arm.name}: {paid:.4g} FLOPs by its parts, {charged:.4g} were charged")


def short(row: Row) -> Row:
    """A row with its numbers as exact as they are of use."""
    for name in ("cost_flops", "prompt_flops", "verify_flops"):
        if row.get(name) is not None:
            row[name] = round(row[name] / GRAIN) * GRAIN
    return row | {"score": None if row["score"] is None else round(row["score"], SCORE_DIGITS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/compute-optimal"), help="folder of what is done")
    parser.add_argument("--prompts", type=int, default=320, help="the first so many of lab:test")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th chunk, from the K-th on")
    parser.add_argument("--arms", help="these only, with commas")
    parser.add_argument("--out", type=Path, help="only put together what is recorded")
    given = parser.parse_args()
    arms = None if given.arms is None else given.arms.split(",")
    if given.out is not None:
        together(given.work, given.out, arms)
        return
    which, parts = map(int, given.part.split("/"))
    for chunk, lines in list(enumerate(chunks(given.prompts)))[which::parts]:
        for arm, n in jobs(arms):
            record(given.work, chunk, lines, arm, n)


if __name__ == "__main__":
    main()
