"""One replayed job: the same machine, ledger, meter, costs and allocation as a real one, on recorded candidates.

What a prompt's result is worth is read from the pool after the decision; the machine and the policy never see it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.objectives import Objective
from apportion.scheduler.allocation import Allocation, Problem
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

    `budget` is in the table's unit, and `lengths` the mean length of a candidate by arm that costs are expected from
    at first. `in_flight` purchases are under way at once.
    """

    prompts: Ints
    budget: float
    goal: Objective
    lengths: Mapping[str, float]
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: the objective each prompt reached and what each cost, [prompts], and by arm, [prompts, arms]."""

    value: Floats
    cost: Floats
    by_arm: Floats


def play(table: Table, game: Game, make: Make, dealer: Dealer) -> Played:
    """Play one job to its end."""
    machine = build(table, game, make)
    value, cost = np.zeros(len(game.prompts)), np.zeros(len(game.prompts))
    by_arm = np.zeros((len(game.prompts), len(table.names)))
    arm_at = {name: at for at, name in enumerate(table.names)}
    places: list[int] = game.prompts.tolist()
    waiting: deque[Dispatch] = deque()

    def take(instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Dispatch):
                waiting.append(instruction)
            elif isinstance(instruction, Commit):
                committed = instruction.committed
                at = committed.result.index
                value[at] = reached(table, committed, game.goal)
                cost[at] = committed.result.spent.of(table.unit)
                for purchase, ended in zip(committed.result.purchases, committed.ended, strict=True):
                    by_arm[at, arm_at[purchase.arm]] += ended.cost.of(table.unit)

    take(machine.start())
    while waiting:
        dispatch = waiting.popleft()
        reply = dealer.reply(places[dispatch.id.prompt], dispatch.request)
        take(machine.handle(Replied(dispatch.id, reply)))
    machine.audit()
    return Played(value, cost, by_arm)


def problem_of(table: Table, game: Game) -> tuple[Problem, ExpectedCosts, Meter]:
    """What a policy is given, and the parts it shares with the machine."""
    ids = table.pool.ids
    reading = {name: dict(zip(ids, table.reading[name].tolist(), strict=True)) for name in table.names}
    meter = Meter({name: RecordedModel(name, reading[name]) for name in table.names})
    prompts = {name: table.reading[name][game.prompts].astype(np.float64) for name in table.names}
    costs = ExpectedCosts(table.arms, meter, table.unit, prompts, game.lengths)
    problem = Problem(
        texts=[table.pool.texts[at] for at in game.prompts.tolist()],
        arms=table.arms,
        costs=costs,
        budget=game.budget,
        goal=game.goal,
        seed=0,
        limits=table.limits[game.prompts],
        checked=table.revealed,
        recorded=True,
    )
    return problem, costs, meter


def build(table: Table, game: Game, make: Make) -> Machine:
    """The machine of a game, as `apportion.scheduler.assemble` builds a real job's."""
    problem, costs, meter = problem_of(table, game)
    return Machine(
        prompts=[table.prompts[at] for at in game.prompts.tolist()],
        arms=table.arms,
        allocation=make(problem),
        ledger=Ledger(game.budget, table.unit),
        meter=meter,
        costs=costs,
        finisher=Finisher(RecordedAnswer(table.answers), {arm.name: arm for arm in table.arms}),
        settings=Settings(in_flight=game.in_flight, seed=0, difficulty=False),
    )


def reached(table: Table, committed: Committed, goal: Objective) -> float:
    """What a prompt's result is worth, in [0, 1]. Candidates are accepted where they are correct."""
    if goal.name == "accuracy":
        chosen = committed.result.candidate
        return 0.0 if chosen is None else float(table.correct[int(committed.candidates[chosen].draft.text)])
    right = sum(table.correct[int(candidate.draft.text)] for candidate in committed.candidates)
    return float(goal.reached(np.array(right), np.array(len(committed.candidates) - right)))
