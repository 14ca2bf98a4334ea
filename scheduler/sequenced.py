"""One price for compute, on a playbook: every prompt goes along the same sequence and stops where going on is too dear.

At each state of a prompt the tables know the critical price below which it goes on. An offer's ratio is that price, so
the queue serves the most worthwhile state of the whole dataset first, and the present price (at which the expected
spending of all prompts meets what is left) parks the others. Prompts that agree early stop, hopeless ones too, and
what they leave lowers the price for the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.courses import Course
from apportion.difficulty.playbook import Playbook
from apportion.difficulty.stopping import Tables
from apportion.difficulty.trial import Trial
from apportion.scheduler.allocation import UNBOUNDED, Forecast, Offer, Problem, Rest
from apportion.scheduler.ballots import Ballots
from apportion.scheduler.buyers import Buyers
from apportion.scheduler.forecasts import never_less, promised, spread_of
from apportion.scheduler.price_grid import PriceGrid
from apportion.scheduler.reading import Reading
from apportion.types import Candidate, Purchase

Floats = NDArray[np.float64]

LONG_ANSWERS = 0.5
"""Power to which a prompt's own cost counts in a plain vote: long answers cost more, and their prompts are more often
open than the counts say. See benchmarks/greedy.py."""
JUST = 1e-9
"""An offer at the price is sold."""
HARDLY = 0.8
"""A prompt whose price was under this share of the present one when that was last solved is not looked at closely."""
LEAST_RATIO = 1e-6
"""A prompt whose next purchase costs nothing has a finite place among the prices all the same: that of one which costs
this share of the mean."""


class Sequenced:
    """The price policy where there is a playbook; see the module.

    `trial` is what the playbook did on labelled prompts, None where there were none. `stride` is the share of what a
    prompt is expected to buy that is bought before looking again. `others` are the courses that a job with another
    budget may take instead. `sold` names the job's arm behind each arm of the playbook, and of theirs, where the names
    differ: a search is one arm for each amount.
    """

    def __init__(
        self,
        problem: Problem,
        book: Playbook,
        tables: Tables,
        trial: Trial | None,
        stride: float = 0.0,
        sold: Mapping[str, str] | None = None,
        others: Sequence[Course] = (),
        once: Mapping[str, float] | None = None,
    ) -> None:
        self._problem = problem
        self._book = book
        self._steps, self._arms = book.steps, book.arms
        self._tables = tables
        self._trial = trial
        self._stride = stride
        self._others = others
        self._sold = {name: name for name in book.arms} if sold is None else sold
        self._reads = Reading(problem, self._sold)
        self._costs, self._fixed, self._single = self._reads.costs, self._reads.fixed, self._reads.single
        self._once = once or {}
        self._ballots = Ballots(problem.prompts, book)
        self._critical: list[list[float]] = tables.critical.tolist()
        self._table_cost: list[float] = tables.cost.tolist()
        at = {arm.name: place for place, arm in enumerate(problem.arms)}
        self._bought_as = {(self._sold[name], n): name for name, n in book.steps if not self._single[name]}
        self._sample_of = {self._sold[name]: name for name in book.arms}
        self._first_step = [next(at for at, (name, _) in enumerate(book.steps) if name == arm) for arm in self._arms]
        self._of_arm = [(*book.steps[at], self._table_cost[at]) for at in self._first_step]
        self._each = {arm: (cost - self._once.get(arm, 0.0)) / n for arm, n, cost in self._of_arm}
        self._ahead_of_arm = [
            sum(n for name, n in self._steps[at:] if name == arm) for at, (arm, _) in enumerate(self._steps)
        ]
        self._next_arm = np.array([self._arms.index(arm) for arm, _ in book.steps] + [-1])
        self._limits = {
            name: None if problem.limits is None else problem.limits[:, at[self._sold[name]]].tolist()
            for name in self._arms
        }
        self._drawn = {name: [0] * problem.prompts for name in self._arms}
        self._step = np.zeros(problem.prompts, dtype=np.int64)
        self._cell = np.full(problem.prompts, tables.grid.cell(0.0, 0.0), dtype=np.int64)
        self._buyers = Buyers(problem.prompts)
        self._first_cost = self._reads.opening(book)
        typical = float(self._ahead(np.arange(problem.prompts))[0].mean()) if problem.prompts else 1.0
        self._prices = PriceGrid(tables.prices, 1.0 if book.labelled else LONG_ANSWERS, typical)
        self._asking = np.full(problem.prompts, np.inf)
        self._price = self._sure = 0.0
        self._idle = False
        self._level = 0
        self.reprice(problem.budget)

    @property
    def price(self) -> float:
        return self._price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._buyers.out[prompt]:
            return Rest.STOP
        if 0.0 < self._asking[prompt] < self._price * HARDLY:
            return Rest.WAIT
        steps, step, cell = self._steps, int(self._step[prompt]), int(self._cell[prompt])
        while step < len(steps) and self._left(prompt, steps[step][0]) < 1:
            step += 1
        critical = self._critical[step][cell] if step < len(steps) else 0.0
        if critical <= 0.0:
            self._buyers.out[prompt] = True
            return Rest.STOP
        self._step[prompt] = step
        arm, n = steps[step]
        left = self._left(prompt, arm)
        n = min(n, left)
        if self._single[arm]:
            left = min(left, self._ahead_of_arm[step])
            # Where the tables know what reading costs, they say when a small purchase is worth it; it is read once.
            n = n if self._once or self._drawn[arm][prompt] else min(left, self._reads.worthwhile(prompt, arm, n))
        cost = self._costs.predict_one(prompt, arm, n)
        if cost > most:
            n = self._affordable(prompt, arm, n, most) if self._single[arm] else 0
            if n < 1:
                return Rest.WAIT
            cost = self._costs.predict_one(prompt, arm, n)
        scale = self._prices.eased(self._scale(prompt, arm, n, cost))
        if critical * scale <= self._price:
            return Rest.WAIT
        if self._single[arm]:
            room = int(min(left, most / cost * n)) if cost > 0.0 else n
            n, cost = self._certain(prompt, step, max(n, min(room, self._stretch(step, cell))), room, scale)
        return Offer(Purchase(self._sold[arm], n), critical * scale * cost, cost)

    def _scale(self, prompt: int, arm: str, n: int, cost: float) -> float:
        """Table cost by real cost of a purchase."""
        reading = 0.0 if self._drawn[arm][prompt] else self._once.get(arm, 0.0)
        return (self._each[arm] * n + reading) / cost if cost > 0.0 else 1.0

    def _stretch(self, step: int, cell: int) -> int:
        """The part of what a prompt is expected to buy from here on that is bought before looking again."""
        ahead = float(self._tables.spend[step, cell, self._level])
        return int(self._stride * ahead * self._steps[step][1] / self._table_cost[step])

    def _certain(self, prompt: int, step: int, n: int, room: int, scale: float) -> tuple[int, float]:
        """At least n, and as many steps of the arm at once as would be taken even if all agreed with the leader."""
        steps, arm, grid = self._steps, self._steps[step][0], self._tables.grid
        first, second = self._ballots.standing(prompt)
        vote, least, bought, ahead = self._ballots.typical(arm), self._sure / scale, 0, step
        while ahead < len(steps) and steps[ahead][0] == arm and bought + steps[ahead][1] <= room:
            if bought >= n and self._critical[ahead][grid.cell(first + vote * bought, second)] <= least:
                break
            bought += steps[ahead][1]
            ahead += 1
        bought = max(bought, n)
        return bought, self._costs.predict_one(prompt, arm, bought)

    def _affordable(self, prompt: int, arm: str, n: int, most: float) -> int:
        """As many of n candidates as cost at most `most`, with what a purchase costs whatever its size."""
        return bisect_right(range(1, n + 1), most, key=lambda some: self._costs.predict_one(prompt, arm, some))

    def _left(self, prompt: int, arm: str) -> int:
        limits = self._limits[arm]
        return UNBOUNDED if limits is None else int(limits[prompt]) - self._drawn[arm][prompt]

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        name = self._bought_as.get((purchase.arm, purchase.n)) or self._sample_of[purchase.arm]
        self._drawn[name][prompt] += purchase.n
        self._ballots.add(prompt, name, candidates)
        step, left = int(self._step[prompt]), purchase.n
        while left > 0 and step < len(self._steps) and self._steps[step][0] == name:
            left -= self._steps[step][1]
            step += 1
        self._step[prompt] = step
        self._cell[prompt] = self._tables.grid.cell(*self._ballots.standing(prompt))
        self._idle = False
        self._asking[prompt] = np.inf
        self._buyers.bought(prompt, len(candidates))

    def close(self, prompt: int) -> None:
        self._buyers.close(prompt)

    def reprice(self, available: float) -> None:
        active = self._buyers.active
        ratio, spend, _ = self._ahead(active)
        _, candidates = self._opened(active, ratio, max(0.0, available))
        self._price, self._sure = self._prices.prices_for(ratio, spend, candidates)
        step = self._step[active]
        critical = self._tables.critical[step, self._cell[active]] / self._prices.felt(ratio)
        # What a first purchase costs beside, offers alone know.
        self._asking[active] = np.where(step > 0, critical, np.inf)
        if self._idle:
            self._clear(active, max(0.0, available))
        self._idle = bool(self._step.any())
        typical = self._price * float(self._prices.felt(ratio).mean()) if len(active) else 0.0
        self._level = min(int(np.searchsorted(self._tables.prices, typical)), len(self._tables.prices) - 1)

    def _clear(self, active: NDArray[np.int64], available: float) -> None:
        """Nothing sold at the price asked last, as expectations average over prompts: the price at which what is left
        is sold, the most worthwhile first, once and as often again as it was in vain (see `Buyers`)."""
        asked, self._price, spent = self._price, 0.0, 0.0
        self._asking[active] = np.inf
        offers = [one for prompt in active.tolist() if isinstance(one := self.offer(prompt, available), Offer)]
        for one in sorted(offers, key=lambda one: -one.ratio):
            spent += one.cost
            self._price = min(asked, one.ratio * (1.0 - JUST))
            if spent >= available * (1 + self._buyers.vain):
                break

    def difficulty(self, prompt: int) -> float:
        """The chance that the leading answer is right, times its share of the votes; half the best before any."""
        if not self._step[prompt]:
            return float(self._tables.now[1].max(initial=0.0)) * 0.5
        return float(self._tables.now[self._step[prompt], self._cell[prompt]]) * self._ballots.share(prompt)

    def answer(self, prompt: int) -> str | None:
        """The answer with the most weight, where weights were learned; None leaves it to the arm's selector."""
        learned = self._book.labelled or self._book.votes.slope
        return self._ballots.leader(prompt) if learned else None

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """What the tables expect from here on, less what they were too good by on trial.

        Before anything is bought, what the best course for each budget reached on trial: a job with that budget would
        have taken it.
        """
        if self._trial is not None and not self._step.any() and not self._buyers.out.any():
            trials = [self._trial, *(one.trial for one in self._others)]
            return tuple(promised(trials, budget, self._problem.prompts) for budget in budgets)
        active = self._buyers.active
        ratio, spend, reach = self._ahead(active)
        reach = never_less(reach)
        done = self._tables.now[self._step, self._cell].astype(np.float64)
        found = []
        for budget in budgets:
            opened, candidates = self._opened(active, ratio, max(0.0, budget))
            price = float(np.sqrt(np.prod(self._prices.prices_for(ratio, spend, candidates))))
            wanted = self._prices.spending(spend, price, ratio)
            spent = budget if opened < 1.0 else min(budget, wanted + budget - candidates)
            value = done.copy()
            part = opened * (candidates / wanted if wanted > candidates else 1.0)
            value[active] += part * (self._prices.read(reach, price, ratio) - value[active])
            mean = float(value.mean())
            if self._trial is not None and len(active):
                mean += (
                    self._excess(price * float(self._prices.felt(ratio).mean())) * len(active) / self._problem.prompts
                )
            mean = min(max(mean, 0.0), 1.0)
            low, high = spread_of(mean, self._problem.prompts, self._trial, int(self._step.astype(bool).sum()))
            found.append(Forecast(budget, spent, mean, low, high))
        return tuple(found)

    def _opened(self, active: NDArray[np.int64], ratio: Floats, budget: float) -> tuple[float, float]:
        """The share of the prompts that a budget can open, and what it would leave for candidates if it opened all.

        Where not even the first purchase can be made for all, some prompts make it. Reading is left out where the
        tables have it in.
        """
        fresh = self._step[active] == 0
        if self._once:
            opening, reading = float(ratio[fresh].sum()) * self._table_cost[0], 0.0
        else:
            opening = self._first_cost * int(fresh.sum())
            reading = float(self._fixed[self._arms[0]][active[fresh]].sum())
        opened = min(1.0, budget / opening) if opening > 0.0 else 1.0
        return opened, max(0.0, budget / opened - reading) if opened > 0.0 else 0.0

    def _ahead(self, active: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Of prompts: real cost by table cost, [prompts]; table cost and objective ahead, [prompts, prices]."""
        step, cell = self._step[active], self._cell[active]
        ratio = np.ones(len(active))
        for place, (arm, n, cost) in enumerate(self._of_arm):
            mine = np.flatnonzero(self._next_arm[step] == place)
            if len(mine):
                real, begun = self._costs.predict(active[mine], arm, n), step[mine] > self._first_step[place]
                if arm in self._once:
                    table = np.where(begun, self._each[arm] * n, cost)
                else:
                    table, real = cost, np.where(begun, real, real - self._fixed[arm][active[mine]])
                ratio[mine] = real / table
        ratio = np.maximum(ratio, LEAST_RATIO * (float(ratio.mean()) or 1.0)) if len(active) else ratio
        tables = self._tables
        return ratio, tables.spend[step, cell].astype(np.float64), tables.reach[step, cell].astype(np.float64)

    def _excess(self, price: float) -> float:
        """By how much the trial differed from the tables at this price, per unit of the tables' cost."""
        trial, tables = self._trial, self._tables
        assert trial is not None
        start = tables.reach[0, tables.grid.cell(0.0, 0.0)]
        return float(np.interp(price, tables.prices, never_less(trial.value) - never_less(start)))
