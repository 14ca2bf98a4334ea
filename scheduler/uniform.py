"""The same number of samples of one arm for every prompt: the baseline that adaptive spending has to beat.

Each prompt buys once. n is fixed by a setting, or the largest whose expected total cost fits the budget; what is left
then gives some prompts one more. Purchases are worked out again as real costs come in, for prompts not yet served, and
prompts buy later what they lack: the first ones, which bought when nothing was known of costs, and those of which the
budget did not cover the worst case. (Of a search that is one more search, of the amount that they lack.)
A prompt whose arm can give no more than some amount gets that, and its share goes to the others. Beliefs are only for
reports: they are brought up to date when one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from apportion.difficulty.estimator import Difficulty, Start
from apportion.difficulty.objectives import COUNTING, OBJECTIVES, Objective
from apportion.errors import ConfigError, nearest
from apportion.policies.strategy import draws_independently
from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.forecasts import interval
from apportion.scheduler.ledger import ROUNDING
from apportion.scheduler.one_arm import MOST_SAMPLES, arm_at
from apportion.scheduler.outlook import Outlook
from apportion.types import Candidate, Draft, Finish, Purchase

GOLDEN = (5.0**0.5 - 1.0) / 2.0
"""Multiples of it, modulo 1, are spread as evenly as can be, however many are taken."""
FORECAST_AMOUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Amounts whose response is worked out; between them the forecast is interpolated."""
EARLY = 32
"""Prompts whose purchases show what a sample costs."""
OPEN = -1
"""What a prompt lacks, before it is worked out from what the first purchases have cost."""

Votes = dict[str | None, int]
"""How many candidates gave each answer, and how many none: all that candidates without scores show."""


@dataclass(frozen=True, slots=True)
class UniformSettings:
    """`arm` defaults to the config's first; `n` to what the budget holds."""

    arm: str | None = None
    n: int | None = None


class Uniform:
    """The uniform policy; see the module."""

    def __init__(self, settings: UniformSettings, problem: Problem, start: Start) -> None:
        self._at = arm_at(problem, settings.arm)
        self._arm = problem.arms[self._at]
        if settings.n is not None:
            self._refuse(settings.n)
        self._fixed = settings.n
        self._problem = problem
        if problem.objective not in OBJECTIVES:
            raise ConfigError(f"objective {problem.objective!r} is unknown: {nearest(problem.objective, OBJECTIVES)}")
        self._start = start
        self._beliefs: Outlook | None = None
        self._unread: list[tuple[int, Votes | Sequence[Candidate]]] = []
        self._votes: list[Votes | None] = [{} if start.text is None else None] * problem.prompts
        """None where more is known of a prompt"""
        self._rates: dict[tuple[int, ...], float] = {}
        self._limits = None if problem.limits is None else problem.limits[:, self._at]
        self._served = np.zeros(problem.prompts, dtype=bool)
        self._early = np.zeros(problem.prompts, dtype=bool)
        self._guessed = self._fixed is None and not problem.costs.known(self._arm.name)
        self._dealt = draws_independently(self._arm.strategy)
        self._observed = 0
        self._bought = np.zeros(problem.prompts, dtype=np.int64)
        """of prompts that are to buy what they lack"""
        self._granted = np.zeros(problem.prompts, dtype=np.int64)
        """n of the purchase under way, 0 where none is"""
        self._granted_cost = np.zeros(problem.prompts)
        self._amounts = np.zeros(problem.prompts, dtype=np.int64)
        self.reprice(problem.budget)

    @property
    def price(self) -> float:
        return 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._served[prompt]:
            return Rest.STOP
        n, cost = int(self._amounts[prompt]), 0.0
        if n == 0 and self._bought[prompt]:
            return Rest.STOP
        while n >= 1:
            cost = self._problem.costs.predict_one(prompt, self._arm.name, n)
            if cost <= most:
                break
            n = self._allowed(min(n - 1, int(n * most / cost) + 1))
        if n < 1:
            return Rest.WAIT
        self._early[prompt] = self._guessed and self._observed < EARLY
        self._granted[prompt], self._granted_cost[prompt] = n, cost
        # All are as good as each other: served in order.
        return Offer(Purchase(self._arm.name, n), cost, cost)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        before, votes = self._votes[prompt], _votes(candidates)
        self._votes[prompt] = None if before is None or votes is None else _joined(before, votes)
        self._unread.append((prompt, candidates if votes is None else votes))
        # Some searches end with fewer than they began with.
        whole = len(candidates) == purchase.n if self._dealt else bool(candidates)
        less = whole and purchase.n < self._amounts[prompt]
        self._served[prompt] = not (self._early[prompt] or less)
        self._bought[prompt] += purchase.n
        self._observed += 1
        self._amounts[prompt] = OPEN
        self._end(prompt)

    def close(self, prompt: int) -> None:
        self._served[prompt] = True
        self._end(prompt)

    def _end(self, prompt: int) -> None:
        self._granted[prompt], self._granted_cost[prompt] = 0, 0.0

    def reprice(self, available: float) -> None:
        """Share `available` evenly among the prompts that have not been served, and those that will lack something."""
        under_way = self._granted > 0
        waiting = np.flatnonzero(~self._served & ~under_way)
        if not len(waiting):
            return
        everyone = np.concatenate([waiting, np.flatnonzero(under_way & self._early)])
        shares = self._shares(everyone, available - float(self._granted_cost.sum()))[: len(waiting)]
        if self._observed < EARLY and under_way.any():
            fresh = self._bought[waiting] == 0
            waiting, shares = waiting[fresh], shares[fresh]
        self._amounts[waiting] = shares

    def difficulty(self, prompt: int) -> float:
        """As believed before anything was learned of the dataset, where all there is are votes."""
        votes = self._votes[prompt]
        if votes is None:
            return self._outlook().difficulty.pass_rate(prompt, self._at)
        alike = (votes.get(None, 0), *sorted(count for answer, count in votes.items() if answer is not None))
        known = self._rates.get(alike)
        if known is None:
            alone = Difficulty(1, self._problem.arms, self._start)
            alone.observe(0, self._at, _imagined(votes))
            known = self._rates[alike] = alone.pass_rate(0, self._at)
        return known

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """The value of what each would get of a budget, interpolated between amounts; none of what is counted."""
        if self._problem.objective in COUNTING:
            return ()
        outlook = self._outlook()
        outlook.update(np.arange(self._problem.prompts))
        waiting = np.flatnonzero(~self._served)
        found = []
        for budget in budgets:
            amounts = self._shares(waiting, budget)
            costs = self._costs(waiting, amounts)
            # Where a fixed amount is too dear for all, the first prompts get it.
            bought = np.cumsum(costs) <= budget * (1.0 + ROUNDING)
            value = outlook.now.copy()
            value[waiting[bought]] += self._gains(outlook, waiting[bought], amounts[bought])
            found.append(interval(outlook, value, budget, float(costs[bought].sum())))
        return tuple(found)

    def _shares(self, prompts: np.ndarray, available: float) -> np.ndarray:
        """What each is to buy, [prompts]: the fixed amount, or as many as all can have, and one more for some."""
        if self._fixed is not None:
            return self._within(prompts, self._fixed)
        n = self._largest(prompts, available)
        amounts, more = self._within(prompts, n), self._next(n)
        if more is not None:
            # Spread out: a surplus or shortage that is only noise of the expected costs hardly moves the next ones.
            order = np.argsort(prompts * GOLDEN % 1.0)
            base, dearer = self._costs(prompts, amounts), self._costs(prompts, self._within(prompts, more))
            given = order[np.cumsum((dearer - base)[order]) <= available - float(base.sum())]
            amounts[given] = self._within(prompts[given], more)
        return amounts

    def _outlook(self) -> Outlook:
        """What is believed of the prompts, with everything observed so far."""
        if self._beliefs is None:
            arms = tuple(replace(arm, amounts=FORECAST_AMOUNTS) for arm in self._problem.arms)
            goal = Objective("coverage") if self._problem.objective in COUNTING else self._problem.goal
            view = replace(self._problem, arms=arms, goal=goal, limits=None)
            self._beliefs = Outlook.begin(view, self._start)
        for prompt, shown in self._unread:
            candidates = _imagined(shown) if isinstance(shown, dict) else shown
            self._beliefs.observe(prompt, self._at, candidates, len(candidates))
        self._unread.clear()
        return self._beliefs

    def _within(self, prompts: np.ndarray, n: int) -> np.ndarray:
        """What each lacks of n, or what its arm can give where that is less, [prompts]."""
        have = self._bought[prompts] + self._granted[prompts]
        amounts: np.ndarray = np.maximum(0, n - have)
        if self._limits is not None:
            amounts = np.minimum(self._limits[prompts] - have, amounts)
        for limit in set(amounts.tolist()) - {n}:
            amounts[amounts == limit] = self._allowed(limit)
        return amounts

    def _costs(self, prompts: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Expected cost of these amounts, [prompts]."""
        cost = np.zeros(len(prompts))
        for amount in sorted(set(amounts.tolist())):
            if amount >= 1:
                mine = amounts == amount
                cost[mine] = self._problem.costs.predict(prompts[mine], self._arm.name, amount)
        return cost

    def _gains(self, outlook: Outlook, prompts: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Expected gain of these amounts, [prompts], linear in the logarithm between those worked out."""
        columns = [at for at, option in enumerate(outlook.options) if option.arm == self._at]
        place = np.interp(np.log(np.maximum(amounts, 1)), np.log(FORECAST_AMOUNTS), np.arange(len(FORECAST_AMOUNTS)))
        low = place.astype(np.int64)
        high = np.minimum(low + 1, len(columns) - 1)
        left = outlook.gain[prompts, columns[0] + low].astype(np.float64)
        right = outlook.gain[prompts, columns[0] + high].astype(np.float64)
        return np.where(amounts > 0, left + (place - low) * (right - left), 0.0)

    def _largest(self, prompts: np.ndarray, available: float) -> int:
        """The largest allowed n whose expected cost for all these prompts fits; 0 where none does."""
        low, high = 0, 1
        most = MOST_SAMPLES if self._limits is None else min(MOST_SAMPLES, int(self._limits[prompts].max(initial=0)))
        while high <= most and self._whole(prompts, high) <= available:
            low, high = high, high * 2
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._whole(prompts, middle) <= available:
                low = middle
            else:
                high = middle
        return self._allowed(low)

    def _whole(self, prompts: np.ndarray, n: int) -> float:
        """Expected cost of what all these prompts lack of n."""
        return float(self._costs(prompts, self._within(prompts, n)).sum())

    def _allowed(self, n: int) -> int:
        """The largest amount up to n that the strategy takes; 0 where none is."""
        while n >= 1 and self._arm.strategy.check(n) is not None:
            n -= 1
        return max(0, n)

    def _next(self, n: int) -> int | None:
        """The next amount above n that the strategy takes, at most twice as large."""
        most = min(2 * n + 64, MOST_SAMPLES)
        return next((m for m in range(n + 1, most + 1) if not self._arm.strategy.check(m)), None)

    def _refuse(self, n: int) -> None:
        why = f"n is {n}; it must be at least 1" if n < 1 else self._arm.strategy.check(n)
        if why is not None:
            raise ConfigError(f"allocation.n: {why}")


def _votes(candidates: Sequence[Candidate]) -> Votes | None:
    """The votes of candidates, None where they show more than that."""
    votes: Votes = {}
    for one in candidates:
        if one.score is not None or one.draft.weight != 1.0:
            return None
        votes[one.answer] = votes.get(one.answer, 0) + 1
    return votes


def _joined(before: Votes, more: Votes) -> Votes:
    return {answer: before.get(answer, 0) + more.get(answer, 0) for answer in before | more} if before else more


def _imagined(votes: Votes) -> list[Candidate]:
    """Candidates with these votes."""
    draft, answers = Draft("", (), 0, Finish.END), [answer for answer, count in votes.items() for _ in range(count)]
    return [Candidate("", index, "", 0, draft, answer) for index, answer in enumerate(answers)]
