"""One replayed job: the same machine, ledger, meter, costs and allocation as a real one, on recorded candidates.

What a prompt's result is worth is read from the pool after the decision; the machine and the policy never see it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.costs import Unit
from apportion.difficulty.fitted import FittedPolicy
from apportion.errors import ConfigError
from apportion.scheduler.allocation import Allocation, Forecast, Problem
from apportion.scheduler.dealing import Dealer, RecordedAnswer, RecordedModel, Table
from apportion.scheduler.events import Commit, Dispatch, Instruction, Replied
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.finish import Finisher
from apportion.scheduler.ledger import Ledger
from apportion.scheduler.machine import Machine, Settings
from apportion.scheduler.meter import Meter
from apportion.scheduler.results import Committed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Make = Callable[[Problem], Allocation]


@dataclass(frozen=True, slots=True)
class Game:
    """Which job is played on a table: some of its prompts, with a budget for all of them.

    `budget` is in the table's unit. `in_flight` purchases are under way at once.
    """

    prompts: Ints
    budget: float
    objective: str
    fitted: FittedPolicy | None = None
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: the objective each prompt reached and what each cost, [prompts], and what was forecast."""

    value: Floats
    cost: Floats
    forecast: Forecast | None


def play(table: Table, game: Game, make: Make, dealer: Dealer, forecasts: bool = False) -> Played:
    """Play one job to its end. `forecasts` asks the policy what it will reach, before it starts."""
    machine, allocation = build(table, game, make)
    forecast = allocation.forecast([game.budget])[0] if forecasts else None
    value, cost = np.zeros(len(game.prompts)), np.zeros(len(game.prompts))
    places: list[int] = game.prompts.tolist()
    waiting: deque[Dispatch] = deque()

    def take(instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Dispatch):
                waiting.append(instruction)
            elif isinstance(instruction, Commit):
                committed = instruction.committed
                at = committed.result.index
                value[at] = reached(table, committed, game.objective)
                cost[at] = committed.result.spent.of(table.unit)

    take(machine.start())
    while waiting:
        dispatch = waiting.popleft()
        reply = dealer.reply(places[dispatch.id.prompt], dispatch.request)
        take(machine.handle(Replied(dispatch.id, reply)))
    machine.audit()
    return Played(value, cost, forecast)


def build(table: Table, game: Game, make: Make) -> tuple[Machine, Allocation]:
    """The machine of a game, as `apportion.scheduler.assemble` builds a real job's."""
    meter = Meter({name: RecordedModel(name) for name in table.names})
    nothing = np.zeros(len(game.prompts))
    costs = ExpectedCosts(
        table.arms, meter, table.unit, dict.fromkeys(table.names, nothing), first_guess(game.fitted, table.unit)
    )
    places = game.prompts.tolist()
    problem = Problem(
        texts=[table.pool.texts[at] for at in places],
        arms=table.arms,
        costs=costs,
        budget=game.budget,
        objective=game.objective,
        seed=0,
        limits=table.limits[game.prompts],
    )
    allocation = make(problem)
    machine = Machine(
        prompts=[table.prompts[at] for at in places],
        arms=table.arms,
        allocation=allocation,
        ledger=Ledger(game.budget, table.unit),
        meter=meter,
        costs=costs,
        finisher=Finisher(RecordedAnswer(table.answers), {arm.name: arm for arm in table.arms}),
        settings=Settings(in_flight=game.in_flight, seed=0),
    )
    return machine, allocation


def first_guess(fitted: FittedPolicy | None, unit: Unit) -> dict[str, float]:
    """The mean tokens of a response of each arm, where a fitted policy knows them and tokens are what is counted."""
    if fitted is None or unit is Unit.DOLLARS:
        return {}
    return {name: arm.tokens for name, arm in fitted.arms.items() if arm.tokens is not None}


def reached(table: Table, committed: Committed, objective: str) -> float:
    """What a prompt's result is worth under an objective, in [0, 1]."""
    if objective == "accuracy":
        chosen = committed.result.candidate
        return 0.0 if chosen is None else float(table.correct[int(committed.candidates[chosen].draft.text)])
    right = sum(table.correct[int(candidate.draft.text)] for candidate in committed.candidates)
    if objective == "coverage":
        return float(right > 0)
    raise ConfigError(f"objective {objective!r} cannot be replayed; known: accuracy, coverage")
