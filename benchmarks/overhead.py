"""What the scheduler itself costs: driver, machine, ledger, allocation and journal against simulated engines.

    taskset -c 0 python benchmarks/overhead.py [--only rate|busy|memory] [--prompts 4000] [--repeats 3]

An event is one reply of an engine: taken by the driver, checked, written to the journal's SQLite file, handled by the
machine, and what it asks for (grants recorded, requests sent, prompts committed) carried out. All of that is the real
thing; the engines' replies are made beforehand, from the solutions of the lab's test set.

- *rate*: engines that answer at once; events a second of the process's CPU time, which is one core's, the engines' own
  work included. `vote 1` and `vote 8` write so many samples in one reply, and end a prompt with it; `beam 16` is a
  search over steps with a process reward model, of up to four samples a reply. `price` buys in several purchases, of
  one arm or of two. The least disturbed repeat stands beside the median; a bare loop says how fast the core was.
- *busy*: 64 simulated replicas of 128 sequences each take two seconds for a request; 10,000 prompts are in
  flight. The share of the sequences taken until 95% of the work is done, on a clock that runs with the CPU time of the
  process and jumps over what is left (see `simulation`), and the driver's share of a core.
- *memory*: what the process grows by, at most, while all its prompts are in flight, each job in a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overhead_job import CASES, Answers, Case, job
from rich.console import Console
from rich.table import Table
from simulation import SimulatedBackend, run_simulated

from apportion.scheduler.assemble import Prepared, build_machine
from apportion.scheduler.driver import Driver
from apportion.scheduler.journal import Journal
from apportion.scheduler.results import Committed

PARTS = ("rate", "busy", "memory")
REPLICAS, SLOTS, SECONDS = 64, 128, 2.0
IN_FLIGHT = 10_000
BUSY = ("uniform vote 8", "price vote")
BUSY_PROMPTS = 20_000
DONE = 0.95
"""The tail of a job, in which there is not enough left for every replica, is left out."""
MEMORY = (("uniform vote 8", 10_000), ("price vote", 10_000), ("uniform beam 16", 2_000))
LOOP = 2_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """One job. Bytes are what the process grew by at most."""

    events: int
    samples: int
    cpu_s: float
    wall_s: float
    journal_bytes: int
    grown_bytes: int
    most_in_flight: int


def play(
    case: Case, prompts: int, in_flight: int, backend_of: Callable[[Prepared], SimulatedBackend], simulated: bool
) -> tuple[Run, SimulatedBackend]:
    """Run a case once; its data is read and its machine built beforehand."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = job(case, prompts, in_flight, Path(folder) / "run")
        machine = build_machine(prepared)
        backend, path = backend_of(prepared), Path(folder) / "journal.sqlite"
        samples: list[int] = []
        before = most = resident()

        def sink(committed: Committed) -> None:
            samples.append(committed.result.candidates)

        def watch() -> None:
            nonlocal most
            most = max(most, resident())

        async def work() -> None:
            with Journal(path, {"job": case.title}) as journal:
                await Driver(machine, backend, journal, sink, watch if simulated else lambda: None, False).run()

        wall, cpu = time.perf_counter(), time.process_time()
        run_simulated(work()) if simulated else asyncio.run(work())
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
        if len(samples) != prompts:
            raise AssertionError(f"{len(samples)} of {prompts} prompts were committed")
        written = path.stat().st_size
        found = Run(backend.answered, sum(samples), cpu_s, wall_s, written, most - before, backend.most_in_flight)
        return found, backend


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def loop_ns() -> float:
    """Nanoseconds of one turn of a bare loop, now: what the core gives."""
    begun, total = time.process_time(), 0
    for at in range(LOOP):
        total += at & 3
    return (time.process_time() - begun) / LOOP * 1e9


def at_once(prepared: Prepared) -> SimulatedBackend:
    """Engines that answer at once."""
    return SimulatedBackend(dict.fromkeys(prepared.spec.models, 1 << 30), 1, Answers(prepared), lambda *_: 0.0)


def slow(prepared: Prepared) -> SimulatedBackend:
    """Replicas that take their time."""
    return SimulatedBackend(dict.fromkeys(prepared.spec.models, SLOTS), REPLICAS, Answers(prepared), lambda *_: SECONDS)


def rate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Events a CPU second, case by case, the repeats in turn."""
    runs: dict[str, list[Run]] = {case.title: [] for case in CASES}
    loops = []
    for _ in range(options.repeats):
        for case in CASES:
            loops.append(loop_ns())
            prompts = max(1, int(options.prompts / case.weight))
            runs[case.title].append(play(case, prompts, options.in_flight, at_once, False)[0])
    rows = []
    for title, found in runs.items():
        each = [run.cpu_s / run.events for run in found]
        rows.append(
            {
                "job": title,
                "events": found[0].events,
                "samples_an_event": found[0].samples / found[0].events,
                "journal_bytes_an_event": found[0].journal_bytes / found[0].events,
                "cpu_us_an_event": statistics.median(each) * 1e6,
                "events_a_cpu_s": 1.0 / statistics.median(each),
                "best_events_a_cpu_s": 1.0 / min(each),
                "loop_ns": statistics.median(loops),
            }
        )
    return rows


def busy(options: argparse.Namespace) -> list[dict[str, Any]]:
    """How far simulated replicas are kept busy."""
    rows = []
    for case in CASES:
        if case.title in BUSY:
            run, backend = play(case, options.busy_prompts, IN_FLIGHT, slow, True)
            share, seconds = busy_share(backend.busy["small"], REPLICAS * SLOTS)
            rows.append(
                {
                    "job": case.title,
                    "replicas": REPLICAS,
                    "slots": SLOTS,
                    "prompts": options.busy_prompts,
                    "in_flight": IN_FLIGHT,
                    "most_requests_in_flight": run.most_in_flight,
                    "busy": share,
                    "simulated_s": seconds,
                    "events": run.events,
                    "driver_share_of_a_core": run.cpu_s / seconds,
                }
            )
    return rows


def busy_share(history: list[tuple[float, int]], slots: int) -> tuple[float, float]:
    """The share of slot-seconds taken from the first request until DONE of all work is done; seconds of the whole."""
    times, taken = [at for at, _ in history[1:]], [count for _, count in history[1:]]
    spans = [(taken[at] * (times[at + 1] - times[at]), times[at + 1]) for at in range(len(times) - 1)]
    total, done = sum(work for work, _ in spans), 0.0
    for work, until in spans:
        done += work
        if done >= DONE * total:
            return done / (slots * (until - times[0])), times[-1] - times[0]
    return 0.0, 0.0


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes a prompt in flight, each job in a fresh process."""
    rows = []
    for title, prompts in MEMORY:
        command = [sys.executable, __file__, "--memory-of", title, "--prompts", str(prompts)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return rows


def memory_of(title: str, prompts: int) -> dict[str, Any]:
    """One job of `memory`, in this process."""
    case = next(case for case in CASES if case.title == title)
    run, _ = play(case, prompts, prompts, slow, True)
    return {"job": title, "in_flight": prompts, "bytes_a_prompt": run.grown_bytes / prompts}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        table.add_row(
            *(
                f"{value:,.3g}"
                if isinstance(value, float) and value < 100
                else f"{value:,.0f}"
                if isinstance(value, (int, float))
                else value
                for value in row.values()
            )
        )
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--prompts", type=int, default=4000, help="of the rate's cheapest job; the others have fewer")
    parser.add_argument("--in-flight", type=int, default=1000, help="of the rate")
    parser.add_argument("--busy-prompts", type=int, default=BUSY_PROMPTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of, options.prompts)))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    result: dict[str, Any] = {"benchmark": "overhead", "load_before": os.getloadavg()[0]}
    parts = {"rate": rate, "busy": busy, "memory": memory}
    for name in options.only or PARTS:
        result[name] = parts[name](options)
        show(name, result[name])
    result["load_after"] = os.getloadavg()[0]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
