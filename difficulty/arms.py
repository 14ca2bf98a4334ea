"""The response of every arm of a job, made from what is believed of the dataset.

Tables are kept while what they were made from has hardly moved: they cost more than the beliefs they serve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.highest import Heights, HighestResponse
from apportion.difficulty.race import Weights
from apportion.difficulty.response import ArmResponse, CoverageResponse, VoteResponse, VoteTables, check_objective
from apportion.difficulty.standing import Scene
from apportion.policies.arm import Arm
from apportion.policies.selectors import predicted_as

Floats = NDArray[np.float64]

TABLE_DRIFT = 0.1
"""A table is made again when its weights or a candidate's worth moved by this share."""


class ArmResponses:
    """Responses of `arms`, whose amounts are taken in ascending order, to one objective."""

    def __init__(self, arms: Sequence[Arm], objective: str) -> None:
        check_objective(objective)
        self._arms = tuple(arms)
        self._amounts = [np.array(sorted(set(arm.amounts)), dtype=np.float64) for arm in arms]
        self._objective = objective
        self._selects: tuple[str, ...] = ("majority",) * len(self._arms)
        self._weights = Weights()
        self._worth = np.ones(len(self._arms))
        self._races: dict[tuple[int, str], VoteTables] = {}
        self._heights: dict[int, Heights] = {}
        self.responses: tuple[ArmResponse, ...] = ()

    def make(self, scored: bool, lifts: Floats, worth: Floats, weights: Weights) -> None:
        """Make all responses again. Without a scored candidate every selector falls back to the majority."""
        if not _near(self._weights, weights):
            self._weights = weights
            self._races = {key: race for key, race in self._races.items() if key[1] == "majority"}
            self._heights.clear()
        if (np.abs(self._worth / worth - 1.0) > TABLE_DRIFT).any() or not self.responses:
            self._worth = worth.copy()
            self._races.clear()
            self._heights.clear()
        self._selects = tuple(predicted_as(arm.select) if scored else "majority" for arm in self._arms)
        self.responses = tuple(self._response(at, float(lifts[at])) for at in range(len(self._arms)))

    def value(self, scene: Scene) -> Floats:
        """Expected objective after every purchase of every arm, [rows, options]."""
        return np.concatenate([response.value(scene) for response in self.responses], axis=1)

    def present(self, scene: Scene, last: NDArray[np.int16]) -> Floats:
        """Expected objective if no more is bought, [rows]; the arm bought `last` chooses the answer, [rows]."""
        if self._objective == "coverage":
            return np.asarray(1.0 - scene.belief.joint[:, -1].sum(axis=1))
        selects = np.array(self._selects)[last]
        found = np.zeros(len(last))
        for select in sorted(set(self._selects)):
            mine = selects == select
            if mine.any():
                found[mine] = scene.standing(select, self._vote_weights(select)).present[mine]
        return found

    def _vote_weights(self, select: str) -> Weights:
        return Weights() if select == "majority" else self._weights

    def _response(self, at: int, lift: float) -> ArmResponse:
        amounts = np.maximum(1.0, self._amounts[at] * self._worth[at])
        select = self._selects[at]
        if self._objective == "coverage":
            return CoverageResponse(amounts, lift)
        if select == "max_score":
            if at not in self._heights:
                self._heights[at] = Heights(amounts, self._weights)
            return HighestResponse(self._heights[at], lift)
        if (at, select) not in self._races:
            self._races[at, select] = self._race(amounts, select)
        return VoteResponse(select, self._races[at, select], lift, float(self._worth[at]))

    def _race(self, amounts: Floats, select: str) -> VoteTables:
        """An arm with the same amounts and votes may already have the table."""
        for (_, kind), race in self._races.items():
            if kind == select and np.array_equal(race.amounts, amounts):
                return race
        return VoteTables(amounts, self._vote_weights(select))


def _near(left: Weights, right: Weights) -> bool:
    pairs = ((left.right, right.right), (left.wrong, right.wrong), (left.right_sd, right.right_sd))
    return all(abs(a - b) <= TABLE_DRIFT * max(a, b) for a, b in pairs)
