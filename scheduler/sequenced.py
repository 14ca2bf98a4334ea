"""One price for compute, on a playbook: every prompt goes along the same sequence and stops where going on is too dear.

At each state of a prompt the tables know the critical price below which it goes on. An offer's ratio is that price, so
the queue serves the most worthwhile state of the whole dataset first, and the present price (at which the expected
spending of all prompts meets what is left) parks the others. Prompts that agree early stop, hopeless ones too, and
what they leave lowers the price for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.playbook import Playbook
from apportion.difficulty.stopping import Tables
from apportion.difficulty.trial import Trial
from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.ballots import Ballots
from apportion.scheduler.forecasts import spread_of
from apportion.types import Candidate, Purchase

Floats = NDArray[np.float64]

MOST_FRUITLESS = 2
"""A prompt is given up after this many purchases in a row without a candidate."""
BISECTIONS = 24
"""Of the price, on the grid's logarithm: far finer than the grid."""


class Sequenced:
    """The price policy where there is a playbook; see the module.

    `trial` is what the playbook did on labelled prompts, None where there were none.
    """

    def __init__(self, problem: Problem, book: Playbook, tables: Tables, trial: Trial | None) -> None:
        self._problem = problem
        self._book = book
        self._tables = tables
        self._trial = trial
        self._costs = problem.costs
        self._ballots = Ballots(problem.prompts, book)
        self._critical: list[list[float]] = tables.critical.tolist()
        self._table_cost: list[float] = tables.cost.tolist()
        at = {arm.name: place for place, arm in enumerate(problem.arms)}
        self._single = {arm.name: arm.strategy.name == "best_of_n" for arm in problem.arms}
        self._limits = {
            name: None if problem.limits is None else problem.limits[:, at[name]].tolist() for name in book.arms
        }
        self._drawn = {name: [0] * problem.prompts for name in book.arms}
        self._step = np.zeros(problem.prompts, dtype=np.int64)
        self._cell = np.full(problem.prompts, tables.grid.cell(0.0, 0.0), dtype=np.int64)
        self._over = np.zeros(problem.prompts, dtype=bool)
        self._fruitless = [0] * problem.prompts
        self._price = self._sure = 0.0
        self.reprice(problem.budget)

    @property
    def price(self) -> float:
        return self._price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._over[prompt]:
            return Rest.STOP
        book, step, cell = self._book, int(self._step[prompt]), int(self._cell[prompt])
        while step < len(book.steps) and self._left(prompt, book.steps[step][0]) < 1:
            step += 1
        critical = self._critical[step][cell] if step < len(book.steps) else 0.0
        if critical <= 0.0:
            self._over[prompt] = True
            return Rest.STOP
        self._step[prompt] = step
        arm, n = book.steps[step]
        left = self._left(prompt, arm)
        n = min(n, left)
        cost = self._costs.predict_one(prompt, arm, n)
        if cost > most:
            return Rest.WAIT
        scale = self._table_cost[step] / cost if cost > 0.0 else 1.0
        if critical * scale <= self._price:
            return Rest.WAIT
        if self._single[arm]:
            n, cost = self._certain(prompt, step, n, min(left, self._largest(most, cost, n)), scale, cost)
        return Offer(Purchase(arm, n), critical * scale * cost, cost)

    def _certain(self, prompt: int, step: int, n: int, room: int, scale: float, cost: float) -> tuple[int, float]:
        """As many steps of the arm at once as would be taken whatever they show: even if all agreed with the leader."""
        steps, arm, grid = self._book.steps, self._book.steps[step][0], self._tables.grid
        first, second = self._ballots.standing(prompt)
        vote, least, bought = self._ballots.typical(arm), self._sure / scale, n
        ahead = step + 1
        while ahead < len(steps) and steps[ahead][0] == arm and bought + steps[ahead][1] <= room:
            if self._critical[ahead][grid.cell(first + vote * bought, second)] <= least:
                break
            bought += steps[ahead][1]
            ahead += 1
        return (bought, self._costs.predict_one(prompt, arm, bought)) if bought > n else (n, cost)

    @staticmethod
    def _largest(most: float, cost: float, n: int) -> int:
        return int(most / cost * n) if cost > 0.0 else n

    def _left(self, prompt: int, arm: str) -> int:
        limits = self._limits[arm]
        return 1 << 30 if limits is None else int(limits[prompt]) - self._drawn[arm][prompt]

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._drawn[purchase.arm][prompt] += purchase.n
        self._ballots.add(prompt, purchase.arm, candidates)
        step, left = int(self._step[prompt]), purchase.n
        while left > 0 and step < len(self._book.steps) and self._book.steps[step][0] == purchase.arm:
            left -= self._book.steps[step][1]
            step += 1
        self._step[prompt] = step
        self._cell[prompt] = self._tables.grid.cell(*self._ballots.standing(prompt))
        self._fruitless[prompt] = 0 if candidates else self._fruitless[prompt] + 1
        if self._fruitless[prompt] >= MOST_FRUITLESS:
            self._over[prompt] = True

    def reprice(self, available: float) -> None:
        active = np.flatnonzero(~self._over)
        ratio, spend, _ = self._ahead(active)
        self._price, self._sure = self._prices_for(ratio, spend, max(0.0, available))

    def difficulty(self, prompt: int) -> float:
        """The chance that the leading answer is right, times its share of the votes."""
        now = float(self._tables.now[self._step[prompt], self._cell[prompt]])
        return now * self._ballots.share(prompt) if self._step[prompt] else self._opening()

    def answer(self, prompt: int) -> str | None:
        """The answer with the most weight, where weights were learned; None leaves it to the arm's selector."""
        return self._ballots.leader(prompt) if self._book.labelled else None

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """What the tables expect from here on, less what they were too good by on trial."""
        active = np.flatnonzero(~self._over)
        ratio, spend, reach = self._ahead(active)
        done = self._tables.now[self._step, self._cell].astype(np.float64)
        found = []
        for budget in budgets:
            price = float(np.sqrt(np.prod(self._prices_for(ratio, spend, max(0.0, budget)))))
            spent = min(budget, float(_at(spend, self._place(price, ratio)) @ ratio))
            value = done.copy()
            value[active] = _at(reach, self._place(price, ratio))
            mean = float(value.mean())
            if self._trial is not None:
                mean += self._excess(price * float(ratio.mean())) * len(active) / self._problem.prompts
                if not self._step.any():
                    mean = self._trial.at(budget / self._problem.prompts)
            low, high = spread_of(mean, self._problem.prompts, self._trial, int(self._step.astype(bool).sum()))
            found.append(Forecast(budget, spent, mean, low, high))
        return tuple(found)

    def _ahead(self, active: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Of prompts: real cost by table cost, [prompts]; table cost and objective ahead, [prompts, prices]."""
        step, cell = self._step[active], self._cell[active]
        ratio = np.ones(len(active))
        arms = np.array([self._book.arms.index(arm) for arm, _ in self._book.steps] + [-1])
        for place, arm in enumerate(self._book.arms):
            mine = np.flatnonzero(arms[step] == place)
            if len(mine):
                at = next(at for at, (name, _) in enumerate(self._book.steps) if name == arm)
                n = self._book.steps[at][1]
                ratio[mine] = self._costs.predict(active[mine], arm, n) / self._table_cost[at]
        return ratio, self._tables.spend[step, cell], self._tables.reach[step, cell]

    def _place(self, price: float, ratio: Floats) -> Floats:
        """Where a price lies in the grid for prompts that cost `ratio` times what the tables say."""
        prices = self._tables.prices
        scale = np.log(prices[1] / prices[0])
        return np.clip(np.log(np.maximum(price * ratio / prices[0], 1e-12)) / scale, 0.0, len(prices) - 1.0)

    def _prices_for(self, ratio: Floats, spend: Floats, available: float) -> tuple[float, float]:
        """The prices at which the expected spending surely exceeds `available`, and surely is within it.

        Many prompts at one state make it jump, anywhere between two prices of the grid. Below the jump they all may
        buy, the best first, as long as there is money; above it what is bought can be bought for all.
        """
        if not len(ratio) or float(spend[:, 0] @ ratio) <= available:
            return 0.0, 0.0
        prices = self._tables.prices
        low, high = float(np.log(prices[0])), float(np.log(prices[-1]))
        low, high = low - float(np.log(ratio.max())), high - float(np.log(ratio.min()))
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            if float(_at(spend, self._place(float(np.exp(middle)), ratio)) @ ratio) > available:
                low = middle
            else:
                high = middle
        step = float(prices[1] / prices[0])
        return float(np.exp(low)) / step, float(np.exp(high)) * step

    def _excess(self, price: float) -> float:
        """By how much the trial differed from the tables at this price, per unit of the tables' cost."""
        trial, tables = self._trial, self._tables
        assert trial is not None
        start = tables.reach[0, tables.grid.cell(0.0, 0.0)]
        return float(np.interp(price, tables.prices, trial.value - start))

    def _opening(self) -> float:
        return float(self._tables.now[1].max(initial=0.0)) * 0.5


def _at(rows: Floats, place: Floats) -> Floats:
    """Rows interpolated at their places, [rows]."""
    low = np.minimum(place.astype(np.int64), rows.shape[1] - 2)
    line = np.arange(len(rows))
    part = place - low
    return np.asarray((1.0 - part) * rows[line, low] + part * rows[line, low + 1], dtype=np.float64)
