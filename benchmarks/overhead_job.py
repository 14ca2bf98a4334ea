"""The jobs that overhead.py runs: built from a config like any other, answered by solutions that lie ready."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.actors.describe import describe
from apportion.configs.build import load_job
from apportion.costs import attended
from apportion.lab import lab_path
from apportion.scheduler.assemble import Prepared, prepare
from apportion.types import (
    Completion,
    Finish,
    Generate,
    Generated,
    LogprobStats,
    Reply,
    Request,
    Scored,
    Usage,
)

WRONG_BY = (1, 10, -2)
RATES = (5, 35, 65, 95)
"""Right answers in a hundred, for one prompt after the other: votes that agree, that do not, and that are hopeless."""
PLENTY = 1e18
"""A budget that never ends, in any unit: what is bought is then fixed by the allocation."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of job. `spend` is the budget a prompt, in FLOPs; None gives as much as is asked for.

    `weight` is about how much longer a prompt takes than one of the cheapest job.
    """

    name: str
    arms: Mapping[str, Mapping[str, Any]]
    allocation: Mapping[str, Any]
    weight: float
    spend: float | None = None

    @property
    def title(self) -> str:
        """The allocation and what is bought."""
        return f"{self.allocation['policy']} {self.name}"


VOTE = {"strategy": "best_of_n", "policy": "small", "select": "majority", "max_tokens": 256}
BEAM = {"strategy": "beam_search", "policy": "small", "verifier": "prm", "select": "weighted", "max_tokens": 256}
AMOUNTS = [1, 2, 4, 8, 16, 32]
CASES = (
    Case("vote 1", {"vote": {**VOTE, "n": [1]}}, {"policy": "uniform", "n": 1}, 1),
    Case("vote 8", {"vote": {**VOTE, "n": [8]}}, {"policy": "uniform", "n": 8}, 2),
    Case("beam 16", {"beam": {**BEAM, "width": 4, "n": [16]}}, {"policy": "uniform", "n": 16}, 20),
    Case("vote", {"vote": {**VOTE, "n": AMOUNTS}}, {"policy": "price"}, 2, 3e9),
    Case(
        "vote or beam",
        {"vote": {**VOTE, "n": AMOUNTS}, "beam": {**BEAM, "width": 4, "n": [4, 16]}},
        {"policy": "price"},
        10,
        3e9,
    ),
)


def job(case: Case, prompts: int, in_flight: int, output: Path) -> Prepared:
    """A case over so many prompts, read and counted."""
    with lab_path("lab:test").open() as lines:
        problems = [json.loads(line)["problem"] for line in lines]
    # Told apart by a number, so that nothing that is counted for one prompt serves another.
    rows = [{"q": f"{problems[at % len(problems)]} ({at})"} for at in range(prompts)]
    config = {
        "dataset": {"prompt": "q"},
        "output": str(output),
        "budget": {"amount": PLENTY if case.spend is None else case.spend * prompts, "unit": "flops"},
        "models": {
            "small": {"engine": "embedded", "model": "lab:small", "step_separator": "\n"},
            "prm": {"engine": "embedded", "role": "scorer", "model": "lab:prm"},
        },
        "arms": {name: dict(arm) for name, arm in case.arms.items()},
        "answer": {"kind": "number"},
        "allocation": dict(case.allocation),
        "execution": {"in_flight": in_flight},
        "cluster": {"address": "inline"},
    }
    return prepare(load_job(config, [], True), rows)


class Answers:
    """Replies to the requests of a job: the solution of a problem of the test set, often with a wrong answer."""

    def __init__(self, prepared: Prepared) -> None:
        with lab_path("lab:test").open() as lines:
            records = [json.loads(line) for line in lines]
        count = describe(prepared.spec.models["small"]).count_text
        self._whole = [_variants(record["solution"], record["answer"], count) for record in records]
        self._steps = [_steps(record["solution"], record["answer"], count) for record in records]
        prompts = prepared.dataset.prompts
        # By identity: hashing a conversation for each request would be the engine's dearest work.
        self._number = {id(prompt.messages): at for at, prompt in enumerate(prompts)}
        self._prompt_tokens: list[float] = prepared.prompt_tokens["small"].tolist()

    def __call__(self, request: Request) -> Reply:
        number = self._number[id(request.messages)]
        prompt = int(self._prompt_tokens[number])
        if not isinstance(request, Generate):
            tokens = prompt + 8 * sum(map(len, request.responses))
            scores = tuple([tuple([0.25 + 0.5 * (len(step) % 7) / 7 for step in r]) for r in request.responses])
            return Scored(scores, Usage(tokens, 0, tokens * tokens // 2, 0, 1e-3))
        rate, at = RATES[number % len(RATES)], number % len(self._whole)
        rows = self._whole[at]
        if request.sampling.stop:
            steps = self._steps[at]
            rows = steps[min(request.prefix.count("\n"), len(steps) - 1)]
        completions = tuple([rows[0 if seed % 100 < rate else 1 + seed % 3] for seed in request.seeds])
        written = sum([completion.tokens for completion in completions])
        return Generated(completions, Usage(prompt, written, int(attended(prompt, written)), 0, 1e-3))


def _completion(text: str, count: Any, finish: Finish) -> Completion:
    return Completion(text, count(text) + 1, finish, LogprobStats(-0.31415926, 0.271828182, 1.6180339887))


def _variants(solution: str, answer: str, count: Any) -> list[Completion]:
    """A whole response with the right answer, then with wrong ones."""
    head = solution.rpartition("\n")[0]
    return [_completion(f"{head}\nAnswer: {int(answer) + wrong}", count, Finish.END) for wrong in (0, *WRONG_BY)]


def _steps(solution: str, answer: str, count: Any) -> list[list[Completion]]:
    """The same step by step, [steps, variants]."""
    *lines, _ = solution.split("\n")
    steps = [
        [_completion(f"{line}{' ' * v}\n", count, Finish.STOP) for v in range(1 + len(WRONG_BY))] for line in lines
    ]
    last = [_completion(f"Answer: {int(answer) + wrong}", count, Finish.END) for wrong in (0, *WRONG_BY)]
    return [*steps, last]
