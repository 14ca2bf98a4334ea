"""A small job on the fake engine, built from the same parts as a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apportion.actors.fake import describe
from apportion.actors.inline import InlineBackend
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.difficulty.objectives import Objective
from apportion.policies.arm import Arm
from apportion.policies.registry import answer_type, build_strategy
from apportion.scheduler.allocation import Allocation, Forecast, Offer, Problem, Rest
from apportion.scheduler.driver import Driver
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.finish import Finisher
from apportion.scheduler.journal import Journal
from apportion.scheduler.ledger import Ledger
from apportion.scheduler.machine import Machine, Settings
from apportion.scheduler.meter import Meter
from apportion.scheduler.results import Committed
from apportion.types import Candidate, Message, Prompt, Purchase, Sampling


def make_prompts(count: int) -> list[Prompt]:
    """Prompts of all difficulties: pass rates 0.05 to 0.95."""
    rates = np.linspace(0.05, 0.95, count)
    return [
        Prompt(f"q{i}", (Message("user", f"question {i} p={rate:.2f} answer={10 + i}"),), str(10 + i))
        for i, rate in enumerate(rates)
    ]


class ScriptedAllocation:
    """Buys each prompt the purchases of a list, in order, as long as each is affordable; counts what it is told."""

    price = 0.0

    def __init__(self, problem: Problem, script: Sequence[Purchase]) -> None:
        self.problem = problem
        self.script = list(script)
        self.bought = [0] * problem.prompts
        self.seen: list[tuple[int, Purchase, int, float]] = []

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self.bought[prompt] >= len(self.script):
            return Rest.STOP
        purchase = self.script[self.bought[prompt]]
        cost = float(self.problem.costs.predict(np.array([prompt]), purchase.arm, purchase.n)[0])
        return Offer(purchase, 1.0 / (1 + self.bought[prompt]), cost) if cost <= most else Rest.WAIT

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self.bought[prompt] += 1
        self.seen.append((prompt, purchase, len(candidates), cost))

    def reprice(self, available: float) -> None:
        pass

    def difficulty(self, prompt: int) -> float:
        return 0.5

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        return tuple(Forecast(b, b, 0.5, 0.4, 0.6) for b in budgets)


@dataclass
class World:
    """A job's parts, ready to run. `engine_args` go to the fake policy and scorer."""

    prompts: list[Prompt]
    budget: float = 1e9
    unit: Unit = Unit.TOKENS
    script: Sequence[Purchase] = (Purchase("vote", 4),)
    in_flight: int = 8
    ordered: bool = False
    engine_args: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 64
    allocate: Callable[[Problem], Allocation] | None = None

    def __post_init__(self) -> None:
        self.specs = [
            ModelSpec("small", "fake", Role.POLICY, "fake", engine_args=self.engine_args),
            ModelSpec("prm", "fake", Role.SCORER, "fake", engine_args=self.engine_args),
        ]
        sampling = Sampling(temperature=0.8, max_tokens=self.max_tokens)
        self.arms = (
            Arm(
                "vote",
                build_strategy("best_of_n", {}),
                "small",
                None,
                "majority",
                "last",
                (1, 2, 4, 8, 16),
                sampling,
                "\n",
            ),
            Arm(
                "best",
                build_strategy("best_of_n", {}),
                "small",
                "prm",
                "weighted",
                "last",
                (1, 2, 4, 8),
                sampling,
                "\n",
            ),
            Arm(
                "beam",
                build_strategy("beam_search", {"width": 2}),
                "small",
                "prm",
                "weighted",
                "last",
                (4, 8),
                sampling,
                "\n",
            ),
        )
        self.committed: list[Committed] = []
        self.machine = self.build()

    def build(self) -> Machine:
        """A fresh machine over the same job."""
        meter = Meter({spec.name: describe(spec) for spec in self.specs})
        counts = {
            spec.name: np.array([meter.prompt_tokens(spec.name, p.messages) for p in self.prompts], dtype=np.float64)
            for spec in self.specs
        }
        costs = ExpectedCosts(self.arms, meter, self.unit, counts)
        problem = Problem([p.text for p in self.prompts], self.arms, costs, self.budget, Objective(), 0)
        self.allocation = (
            self.allocate(problem) if self.allocate is not None else ScriptedAllocation(problem, self.script)
        )
        finisher = Finisher(answer_type("number", {}), {arm.name: arm for arm in self.arms})
        ledger = Ledger(self.budget, self.unit)
        settings = Settings(in_flight=self.in_flight, seed=0)
        return Machine(self.prompts, self.arms, self.allocation, ledger, meter, costs, finisher, settings)

    def run(self, path: Path | str = ":memory:") -> Machine:
        """Run the job to its end on the journal at `path`, on a fresh machine."""

        async def work() -> None:
            backend = InlineBackend(self.specs)
            try:
                with Journal(path, {"job": "world"}) as journal:
                    driver = Driver(self.machine, backend, journal, self.committed.append, lambda: None, self.ordered)
                    await driver.run()
            finally:
                await backend.close()

        self.committed = []
        self.machine = self.build()
        asyncio.run(work())
        return self.machine
