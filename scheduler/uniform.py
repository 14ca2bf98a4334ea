"""The same number of samples of one arm for every prompt: the baseline that adaptive spending has to beat.

Each prompt buys once. n is fixed by a setting, or the largest whose expected total cost fits the budget; what is left
then gives some prompts one more. Purchases are worked out again as real costs come in, for prompts not yet served, and
where samples are independent the first prompts, which bought when nothing was known of costs, buy what they lack.
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

Tally = tuple[int, ...]
"""How many candidates gave each answer, most first, then how many gave none: all that votes without scores show."""


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
        self._unread: list[tuple[int, Sequence[Candidate]]] = []
        self._tallies: list[Tally | None] = [None] * problem.prompts
        self._untold: list[tuple[int, Tally]] = []
        self._rates: dict[Tally, float] = {}
        self._limits = None if problem.limits is None else problem.limits[:, self._at]
        self._served = np.zeros(problem.prompts, dtype=bool)
        self._early = np.zeros(problem.prompts, dtype=bool)
        guessed = self._fixed is None and not problem.costs.known(self._arm.name)
        self._may_lack = guessed and draws_independently(self._arm.strategy)
        self._observed = 0
        self._bought = np.zeros(problem.prompts, dtype=np.int64)
        """of prompts that are to buy what they lack"""
        self._under_way = np.zeros(problem.prompts, dtype=bool)
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
        self._early[prompt] = self._may_lack and self._observed < EARLY
        self._under_way[prompt] = True
        self._granted_cost[prompt] = cost
        # All are as good as each other: served in order.
        return Offer(Purchase(self._arm.name, n), cost, cost)

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        tally = _tally(candidates) if self._start.text is None else None
        self._tallies[prompt] = tally
        if tally is None:
            self._unread.append((prompt, candidates))
        else:
            self._untold.append((prompt, tally))
        self._served[prompt] = not self._early[prompt]
        self._bought[prompt] += purchase.n
        self._observed += 1
        self._amounts[prompt] = OPEN
        self._under_way[prompt] = False

    def close(self, prompt: int) -> None:
        self._served[prompt] = True
        self._under_way[prompt] = False

    def reprice(self, available: float) -> None:
        """Share `available` evenly among the prompts that have not been served."""
        waiting = np.flatnonzero(~self._served & ~self._under_way)
        if self._observed < EARLY and self._under_way.any():
            waiting = waiting[self._bought[waiting] == 0]
        if not len(waiting):
            return
        if self._fixed is not None:
            self._amounts[waiting] = self._within(waiting, self._fixed)
            return
        left = available - float(self._granted_cost[self._under_way].sum())
        n = self._largest(waiting, left)
        self._amounts[waiting] = self._within(waiting, n)
        more = self._next(n)
        if more is not None:
            # Spread out: a surplus or shortage that is only noise of the expected costs hardly moves the next ones.
            waiting = waiting[np.argsort(waiting * GOLDEN % 1.0)]
            base = self._costs(waiting, n)
            extra = np.cumsum(self._costs(waiting, more) - base)
            given = waiting[extra <= left - float(base.sum())]
            self._amounts[given] = self._within(given, more)

    def difficulty(self, prompt: int) -> float:
        """As believed before anything was learned of the dataset, where all there is is a tally."""
        tally = self._tallies[prompt]
        if tally is None:
            return self._outlook().difficulty.pass_rate(prompt, self._at)
        known = self._rates.get(tally)
        if known is None:
            alone = Difficulty(1, self._problem.arms, self._start)
            alone.observe(0, self._at, _imagined(tally))
            known = self._rates[tally] = alone.pass_rate(0, self._at)
        return known

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """The value of as many samples each as a budget holds, interpolated; none of what is counted."""
        if self._problem.objective in COUNTING:
            return ()
        outlook = self._outlook()
        for prompt, tally in self._untold:
            outlook.observe(prompt, self._at, _imagined(tally), sum(tally))
        self._untold.clear()
        outlook.update(np.arange(self._problem.prompts))
        waiting = np.flatnonzero(~self._served)
        found = []
        for budget in budgets:
            value, spent = outlook.now.copy(), 0.0
            n = self._fixed if self._fixed is not None else self._largest(waiting, budget) if len(waiting) else 0
            if len(waiting) and n >= 1:
                value[waiting] += self._gains(outlook, waiting, n)
                spent = float(self._costs(waiting, n).sum())
            found.append(interval(outlook, value, budget, spent))
        return tuple(found)

    def _outlook(self) -> Outlook:
        """What is believed of the prompts, with everything observed so far that is more than a tally."""
        if self._beliefs is None:
            arms = tuple(replace(arm, amounts=FORECAST_AMOUNTS) for arm in self._problem.arms)
            goal = Objective("coverage") if self._problem.objective in COUNTING else self._problem.goal
            view = replace(self._problem, arms=arms, goal=goal, limits=None)
            self._beliefs = Outlook.begin(view, self._start)
        for prompt, candidates in self._unread:
            self._beliefs.observe(prompt, self._at, candidates, len(candidates))
        self._unread.clear()
        return self._beliefs

    def _within(self, prompts: np.ndarray, n: int) -> np.ndarray:
        """What each lacks of n, or what its arm can give where that is less, [prompts]."""
        lacks: np.ndarray = np.maximum(0, n - self._bought[prompts])
        if self._limits is None:
            return lacks
        amounts: np.ndarray = np.minimum(self._limits[prompts] - self._bought[prompts], lacks)
        for limit in set(amounts.tolist()) - {n}:
            amounts[amounts == limit] = self._allowed(limit)
        return amounts

    def _costs(self, prompts: np.ndarray, n: int) -> np.ndarray:
        """Expected cost of what each lacks of n, as far as the arm can give it, [prompts]."""
        amounts, cost = self._within(prompts, n), np.zeros(len(prompts))
        for amount in sorted(set(amounts.tolist())):
            if amount >= 1:
                mine = amounts == amount
                cost[mine] = self._problem.costs.predict(prompts[mine], self._arm.name, amount)
        return cost

    def _gains(self, outlook: Outlook, prompts: np.ndarray, n: int) -> np.ndarray:
        """Expected gain of n samples, [prompts], linear in log n between the amounts worked out."""
        columns = [at for at, option in enumerate(outlook.options) if option.arm == self._at]
        amounts = np.maximum(self._within(prompts, n), 1)
        place = np.interp(np.log(amounts), np.log(FORECAST_AMOUNTS), np.arange(len(FORECAST_AMOUNTS)))
        low = place.astype(np.int64)
        high = np.minimum(low + 1, len(columns) - 1)
        left = outlook.gain[prompts, columns[0] + low].astype(np.float64)
        right = outlook.gain[prompts, columns[0] + high].astype(np.float64)
        return np.asarray(left + (place - low) * (right - left))

    def _largest(self, prompts: np.ndarray, available: float) -> int:
        """The largest allowed n whose expected cost for all these prompts fits; 0 where none does."""
        low, high = 0, 1
        most = MOST_SAMPLES if self._limits is None else int(self._limits[prompts].max(initial=0))
        while high <= most and float(self._costs(prompts, high).sum()) <= available:
            low, high = high, high * 2
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if float(self._costs(prompts, middle).sum()) <= available:
                low = middle
            else:
                high = middle
        return self._allowed(low)

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


def _tally(candidates: Sequence[Candidate]) -> Tally | None:
    """The tally of candidates, None where they show more than that."""
    counts: dict[str, int] = {}
    silent = 0
    for candidate in candidates:
        if candidate.score is not None or candidate.draft.weight != 1.0:
            return None
        if candidate.answer is None:
            silent += 1
        else:
            counts[candidate.answer] = counts.get(candidate.answer, 0) + 1
    return (*sorted(counts.values(), reverse=True), silent)


def _imagined(tally: Tally) -> list[Candidate]:
    """Candidates of that tally."""
    *counts, silent = tally
    answers = [*(str(place) for place, count in enumerate(counts) for _ in range(count)), *[None] * silent]
    draft = Draft("", (), 0, Finish.END)
    return [Candidate("", index, "", 0, draft, answer) for index, answer in enumerate(answers)]
