"""Beam search over 64 prompts without barriers, against the same searches in step.

    python benchmarks/search_barrier.py [--engine embedded|vllm|simulated] [--n 16] [--repeats 5] [--slots 256]
        [--spread 0]

Models, prompts and the process reward model are the lab's. The loop that goes in step asks for the next steps of all
prompts at once, waits for them all, has all of them scored at once, and so on; ours is an ordinary job with a journal.
Both plan by the same code with the same seeds on the same engine and scorer, in one process. Each pass has its engines
loaded anew before the clock runs, so that neither finds what the other left in a prefix cache; the order alternates.

`simulated` shows what barriers cost where the hardware is not the bottleneck: an engine whose sequences take a fixed
time a token, up to `--slots` of them at once, and a scorer on its own, which reads so many tokens a second and all that
waits in one pass. The texts, and so the lengths of steps, are recorded from the lab model at the start; the time is
simulated (see `simulation.py`). The lab's steps are of like length. `--spread` makes them longer and shorter by random
factors (log-normal, of mean 1) with this coefficient of variation: how much barriers cost where steps differ more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from barrier import Mode, Searched, stepwise, unbarred
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student
from simulation import SimulatedBackend, SimulatedScorer, run_simulated

from apportion.actors.describe import describe
from apportion.actors.inline import InlineBackend
from apportion.configs.build import load_job
from apportion.policies.steps import split_steps
from apportion.scheduler.assemble import Prepared, prepare
from apportion.types import Completion, Finish, Generate, Generated, Messages, Reply, Request, Scored, Usage

SEPARATOR = "\n"
TOKEN_SECONDS = 0.02
"""Of one sequence of a simulated engine: about what a model of seven billion parameters takes on one GPU."""
SCORED_A_SECOND = 16_000
"""Tokens that a simulated scorer of that size reads."""
SCORE_SECONDS = 0.01
"""What one pass of it takes whatever it reads."""
RECORDED = 16
"""Responses recorded of each prompt."""
SHOWN = ("seconds", "cpu_s", "idle", "half")


def job(options: argparse.Namespace, seed: int, output: Path) -> Prepared:
    """Beam search on the lab's test set, the same n for every prompt."""
    engine = "embedded" if options.engine == "simulated" else options.engine
    common = {"engine": engine, "max_batch": options.slots}
    beam = {"strategy": "beam_search", "policy": "small", "verifier": "prm", "select": "weighted", "width": 4}
    config = {
        "dataset": {
            "path": "lab:test",
            "prompt": "problem",
            "id": "id",
            "reference": "answer",
            "limit": options.prompts,
        },
        "output": str(output),
        "budget": {"amount": 1e18, "unit": "flops"},
        "models": {
            "small": {**common, "model": options.model, "step_separator": SEPARATOR},
            "prm": {**common, "role": "scorer", "model": "lab:prm"},
        },
        "arms": {"beam": {**beam, "n": [options.n], "max_tokens": 256, "temperature": 0.8}},
        "answer": {"kind": "number"},
        "allocation": {"policy": "uniform", "n": options.n},
        "execution": {"in_flight": options.prompts},
        "cluster": {"address": "inline"},
        "seed": seed,
    }
    return prepare(load_job(config, [], False))


class Recorded:
    """Replies made of responses that the model once wrote to the prompts, step by step."""

    def __init__(self, prepared: Prepared, spread: float) -> None:
        prompts = prepared.dataset.prompts
        self._sigma = math.sqrt(math.log1p(spread * spread))
        self._count = describe(prepared.spec.models["small"]).count_text
        self._known: dict[str, int] = {}
        sampling = replace(prepared.spec.arms[0].sampling, stop=())
        asked = [Generate("small", one.messages, tuple(range(RECORDED)), sampling) for one in prompts]

        async def record() -> list[Reply]:
            backend = InlineBackend([prepared.spec.models["small"]])
            try:
                await backend.start()
                return list(await asyncio.gather(*(backend.submit(one, at) for at, one in enumerate(asked))))
            finally:
                await backend.close()

        self._steps: dict[Messages, list[list[Completion]]] = {}
        for prompt, reply in zip(prompts, asyncio.run(record()), strict=True):
            assert isinstance(reply, Generated)
            self._steps[prompt.messages] = [self._cut(one.text) for one in reply.completions]

    def _cut(self, text: str) -> list[Completion]:
        *lines, last = split_steps(text, SEPARATOR) or ("",)
        pieces = [(line + SEPARATOR, Finish.STOP) for line in lines]
        return [Completion(piece, self._tokens(piece), how) for piece, how in [*pieces, (last, Finish.END)]]

    def _tokens(self, piece: str) -> int:
        """How long a step is said to be, the same for the same text."""
        if piece not in self._known:
            rng = np.random.default_rng(zlib.crc32(piece.encode()))
            factor = float(rng.lognormal(-0.5 * self._sigma**2, self._sigma))
            self._known[piece] = max(1, round(self._count(piece) * factor))
        return self._known[piece]

    def __call__(self, request: Request) -> Reply:
        """A step of one of the responses, chosen by the seed; scores that depend on the text alone."""
        if isinstance(request, Generate):
            at, found = request.prefix.count(SEPARATOR), self._steps[request.messages]
            written = [found[seed % len(found)] for seed in request.seeds]
            pieces = tuple([steps[min(at, len(steps) - 1)] for steps in written])
            return Generated(pieces, Usage(0, sum(piece.tokens for piece in pieces)))
        scores = tuple([tuple([(sum(step.encode()) % 97) / 97 for step in steps]) for steps in request.responses])
        return Scored(scores, Usage(sum(self._tokens(steps[-1]) + 1 for steps in request.responses)))


class SimulatedModels(SimulatedBackend):
    """The policy and the scorer, each on a GPU of its own."""

    def __init__(self, slots: int, recorded: Recorded) -> None:
        super().__init__({"small": slots}, 1, recorded, written_in)
        self._scorer = SimulatedScorer(recorded, read_in)

    def submit(self, request: Request, affinity: int) -> asyncio.Future[Reply]:
        return super().submit(request, affinity) if isinstance(request, Generate) else self._scorer.submit(request)


def written_in(request: Request, reply: Reply) -> float:
    """Seconds that a simulated policy takes: as long as its longest sequence."""
    assert isinstance(reply, Generated)
    return TOKEN_SECONDS * max(piece.tokens for piece in reply.completions)


def read_in(replies: Sequence[Reply]) -> float:
    """Seconds of one pass of a simulated scorer, which reads what is new."""
    return SCORE_SECONDS + sum(reply.usage.prompt_tokens for reply in replies) / SCORED_A_SECOND


def one_pass(mode: Mode, options: argparse.Namespace, seed: int, recorded: Recorded | None) -> Searched:
    """One mode on engines of its own."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = job(options, seed, Path(folder) / "run")
        if recorded is not None:
            found: Searched = run_simulated(mode(prepared, SimulatedModels(options.slots, recorded)))
            return found

        async def work() -> Searched:
            backend = InlineBackend(list(prepared.spec.models.values()))
            try:
                await backend.start()
                return await mode(prepared, backend)
            finally:
                await backend.close()

        return asyncio.run(work())


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times slower, pair by pair: the geometric mean, and its 95% interval (Student's, on logs)."""
    logs = [math.log(one / other) for one, other in zip(slow, fast, strict=True)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return {"ratio": math.exp(mean)}
    half = float(student.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"ratio": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def report(options: argparse.Namespace, load: float, ours: list[Searched], theirs: list[Searched]) -> None:
    """The table, and one line of JSON."""
    title = (
        f"{options.engine}: beam search, n {options.n}, {options.prompts} prompts, {options.slots} sequences at once"
    )
    table = Table(title=title)
    for heading in ("", "seconds", "CPU s", "accuracy", "policy idle", "less than half busy", "waits for stragglers"):
        table.add_column(heading, justify="right")
    for name, runs in (("without barriers", ours), ("in step", theirs)):
        middle = {key: statistics.median(getattr(run, key) for run in runs) for key in SHOWN}
        waits = [run.straggling for run in runs if run.straggling is not None]
        table.add_row(
            name,
            f"{middle['seconds']:.2f}",
            f"{middle['cpu_s']:.2f}",
            f"{statistics.fmean(run.accuracy for run in runs):.3f}",
            f"{middle['idle']:.0%}",
            f"{middle['half']:.0%}",
            f"{statistics.median(waits):.0%} of a step" if waits else "-",
        )
    Console(width=130).print(table)
    seconds = ratios([run.seconds for run in theirs], [run.seconds for run in ours])
    result = {
        "benchmark": "search_barrier",
        **{key: getattr(options, key) for key in ("engine", "model", "prompts", "n", "slots", "spread", "repeats")},
        "load_before": load,
        "load_after": os.getloadavg()[0],
        **seconds,
        "cpu": ratios([run.cpu_s for run in theirs], [run.cpu_s for run in ours]),
        "ours": [asdict(run) for run in ours],
        "in_step": [asdict(run) for run in theirs],
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("embedded", "vllm", "simulated"), default="embedded")
    parser.add_argument("--model", default="lab:small")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--n", type=int, default=16, help="of the search; width is 4")
    parser.add_argument("--slots", type=int, default=256, help="sequences that the policy runs at once")
    parser.add_argument("--spread", type=float, default=0.0, help="of simulated steps' lengths, beside their own")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    recorded = None
    if options.engine == "simulated":
        with tempfile.TemporaryDirectory() as folder:
            recorded = Recorded(job(options, 0, Path(folder) / "run"), options.spread)
    ours: list[Searched] = []
    theirs: list[Searched] = []
    for repeat in range(options.repeats):
        passes: list[tuple[Mode, list[Searched]]] = [(unbarred, ours), (stepwise, theirs)]
        for mode, runs in passes if repeat % 2 == 0 else reversed(passes):
            runs.append(one_pass(mode, options, repeat, recorded))
    report(options, load, ours, theirs)


if __name__ == "__main__":
    main()
