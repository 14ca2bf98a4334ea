"""Killing parts of a running job: what is lost, what it costs, and how long it takes.

    python benchmarks/failures.py [--kills 10] [--per-job 10] [--prompts 60] [--only engine,scorer,node,driver]
        [--seed 0]

A Ray cluster of four nodes on this machine (a head without CPUs and three workers), the lab's policy and process reward
model with two replicas each, one job under the price policy. `kill -9` of a policy's actor, of a scorer's, of a whole
worker node (its raylet and everything below it; another node joins) and of the driver (the same command is run again),
at random moments of the job, drawn from the journal's length. After each job its books are checked from its files
alone: every prompt has one result and none an error, every request one answer, spending is within the budget, and
spending is what the journal's replies cost plus what lost work was charged.

`seconds a kill` is what a job took longer than the undisturbed one, by kill. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from books import audit, events_in
from rich.console import Console
from rich.table import Table
from workers import Workers

from apportion.scheduler.plain import dumps

POLICY, SCORER = "small", "prm"
LONGEST_S = 900.0
"""No job here takes so long; one that does hangs."""
LATEST = 0.75
"""Moments are drawn from the first part of a job: a kill must not come after its end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One job. `resent` requests were lost under way, which may be none where a replica was idle when it was killed.

    `lost_share` is what of the spending was charged for them, `faults` what the books have wrong.
    """

    kind: str
    kills: int
    prompts: int
    answered: int
    wall_s: float
    spent_share: float
    lost_share: float
    resent: int
    faults: tuple[str, ...]


def write_job(folder: Path, address: str, prompts: int, budget: float = 4.0e9) -> Path:
    """The job's config; `budget` is FLOPs a prompt."""
    arm = {"policy": POLICY, "verifier": SCORER, "select": "weighted", "temperature": 0.8, "max_tokens": 256}
    model = {"engine": "embedded", "replicas": 2, "cpus": 1, "max_batch": 8}
    config = {
        "dataset": {"path": "lab:test", "prompt": "problem", "id": "id", "reference": "answer", "limit": prompts},
        "output": str(folder / "run"),
        "budget": {"amount": budget * prompts, "unit": "flops"},
        "models": {
            POLICY: {**model, "model": "lab:small", "step_separator": "\n"},
            SCORER: {**model, "model": "lab:prm", "role": "scorer"},
        },
        "arms": {
            "vote": {**arm, "strategy": "best_of_n", "n": [2, 4, 8, 16]},
            "beam": {**arm, "strategy": "beam_search", "width": 4, "n": [4, 16]},
        },
        "answer": {"kind": "number"},
        "cluster": {"address": address},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """The job as its own process; killed where the block is left by an error."""
    command = [sys.executable, "-m", "apportion", "run", str(config), "--quiet"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield job
    finally:
        if job.poll() is None:
            job.kill()
        job.wait()


def run_job(config: Path, moments: list[int], kill: Callable[[], bool] | None) -> tuple[float, int]:
    """Run a job to its end, killing at each moment; `kill` None kills the driver. Seconds, and kills that were made."""
    began, kills, left = time.monotonic(), 0, sorted(moments)
    while True:
        with running(config) as job:
            while job.poll() is None:
                if time.monotonic() - began > LONGEST_S:
                    raise TimeoutError(f"the job has not ended after {LONGEST_S:g} s and {kills} kills")
                if left and events_in(config.parent) > left[0]:
                    if kill is None:
                        job.kill()
                        job.wait()
                        del left[0]
                        kills += 1
                        break
                    if kill():
                        del left[0]
                        kills += 1
                time.sleep(0.02)
            else:
                output = job.communicate()[0]
                if job.returncode:
                    raise RuntimeError(f"the job ended with {job.returncode}: {output}")
                return time.monotonic() - began, kills


def measure(
    kind: str, workers: Workers, folder: Path, prompts: int, moments: list[int], order: random.Random
) -> Outcome:
    """One job in a folder of its own, killed in one way at the moments."""
    folder.mkdir(parents=True)
    config = write_job(folder, workers.address, prompts)
    kills: dict[str, Callable[[], bool] | None] = {
        "engine": lambda: workers.kill_actor(POLICY, order),
        "scorer": lambda: workers.kill_actor(SCORER, order),
        "node": lambda: workers.kill_node((POLICY, SCORER), order),
        "driver": None,
        "none": lambda: False,
    }
    wall_s, done = run_job(config, moments, kills[kind])
    summary, faults = audit(folder, prompts)
    budget = summary["budget"]
    with sqlite3.connect(folder / "run" / "journal.sqlite") as db:
        (resent,) = db.execute("SELECT COUNT(*) FROM events WHERE kind = 'lost'").fetchone()
    if bool(resent) != bool(summary["lost"]["tokens"]):
        faults.append("lost work was not charged")
    return Outcome(
        kind,
        done,
        prompts,
        summary["answered"],
        wall_s,
        budget["spent"] / budget["amount"],
        summary["lost"]["flops"] / budget["spent"],
        int(resent),
        tuple(faults),
    )


def show(outcomes: list[Outcome]) -> None:
    """One row a job."""
    table = Table(title="What was killed, and what it cost", title_justify="left")
    columns = (
        "killed",
        "times",
        "answered",
        "seconds",
        "seconds a kill",
        "requests lost and sent again",
        "spent",
        "lost",
    )
    for heading in (*columns, "books"):
        table.add_column(heading, justify="left" if heading in ("killed", "books") else "right", overflow="fold")
    undisturbed = outcomes[0].wall_s
    for one in outcomes:
        table.add_row(
            one.kind,
            str(one.kills),
            f"{one.answered} of {one.prompts}",
            f"{one.wall_s:.0f}",
            f"{(one.wall_s - undisturbed) / one.kills:.1f}" if one.kills else "",
            str(one.resent),
            f"{one.spent_share:.1%} of budget",
            f"{one.lost_share:.1%} of spent",
            "; ".join(one.faults) or "balance",
        )
    Console(width=170).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--per-job", type=int, default=10, help="kills in one job")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--only", default="engine,scorer,node,driver")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    order = random.Random(arguments.seed)
    log = Console(stderr=True, width=160)
    with tempfile.TemporaryDirectory(prefix="apportion-failures-") as scratch, Workers() as workers:
        folder = Path(scratch)
        outcomes = [measure("none", workers, folder / "none", arguments.prompts, [], order)]
        log.print(outcomes[0])
        total = events_in(folder / "none")
        for kind in arguments.only.split(","):
            left = arguments.kills
            while left > 0:
                moments = order.sample(range(1, int(LATEST * total)), min(left, arguments.per_job))
                place = folder / f"{kind}{len(outcomes)}"
                outcomes.append(measure(kind, workers, place, arguments.prompts, moments, order))
                log.print(outcomes[-1])
                # A job may end while a node that is to replace a killed one still starts.
                left -= outcomes[-1].kills
    show(outcomes)
    print(dumps({"jobs": [asdict(one) for one in outcomes]}))
    if any(one.faults for one in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
