"""The price policy for objectives that count accepted candidates: `quota`, `pairs`, and the coverage of a checker.

As for answers and votes, each prompt buys while its next purchase earns more than the price; but what it has is known
exactly, and only the rate at which its candidates are accepted is not. So gains are closed forms of counts
(`apportion.difficulty.objectives`), and prompts with equal counts are worked out once. A purchase is the first step of
the hull, the one that earns most for its cost, or one of more that earns nearly as much. One more candidate of a fresh
prompt makes no pair; that step has two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.difficulty.checkable import Checkable
from apportion.difficulty.estimator import Start
from apportion.difficulty.lookahead import Ahead
from apportion.scheduler.allocation import Floats, Forecast, Ints, Offer, Problem, Rest
from apportion.scheduler.buyers import Buyers
from apportion.scheduler.forecasts import around, fit_variance
from apportion.scheduler.hull import hull_of, hulls
from apportion.scheduler.knapsack import price_for
from apportion.scheduler.outlook import Option, options_of
from apportion.types import Candidate, Purchase

SETTLED_GAIN = 1e-4
"""A prompt whose best purchase adds less than this is done, or hopeless."""
REFRESH_GROWTH = 1.25
"""Rates and lifts are learned again when a quarter more candidates have been seen."""
NEARLY = 0.97
"""A larger amount is bought at once where it earns this share of what the best one earns for its cost: of what is rare
one more candidate teaches little, and a prompt looked at a hundred times takes a hundred times as long."""
PILOTS = 24
"""Prompts that an arm of unknown rate is tried on first: what it shows there decides for all others. An arm that seems
no better for more money would otherwise never show that it is."""
PILOT_SHARE = 0.1
"""All pilots together cost at most this share of the budget, and take at most a quarter of the prompts."""
KNOWN_DEVIATION = 0.3
"""An arm whose lift is known to this many logits needs no pilot."""
UNKNOWN_DEVIATION = 0.6
"""Before a candidate is checked the mean objective of an unknown dataset may be anything between none and all."""
SHAPE_DEVIATION = 0.08
"""How far it may be, with labels too, from what one rate a prompt and one lift an arm can say. (On recorded puzzles,
where one strategy solves what others never do, it is more.)"""
COHORT = 256
"""Prompts a forecast is worked out for; their mean is known within a percent or two."""
PRICES = 32
"""Prices a forecast is worked out at; between them it is straight."""
PRICE_RANGE = 1e6
"""The lowest of them is this much below the best ratio there is."""


class Counted:
    """See the module. `now`, `gain` and `cost` are of all prompts, as last brought up to date."""

    def __init__(self, problem: Problem, start: Start) -> None:
        self.problem = problem
        self.options: tuple[Option, ...] = options_of(problem)
        self.evidence = Checkable(problem.prompts, problem.arms, start, problem.goal)
        self.now: Floats = np.zeros(problem.prompts)
        self.gain: Floats = np.zeros((problem.prompts, len(self.options)))
        self.cost: Floats = np.zeros((problem.prompts, len(self.options)))
        self._arms = {arm.name: at for at, arm in enumerate(problem.arms)}
        self._fresh = np.zeros(problem.prompts, dtype=bool)
        self._buyers = Buyers(problem.prompts)
        self._seen = self._learned = 0
        self._known: dict[bytes, Floats] = {}
        self._price = 0.0
        self.reprice(problem.budget)
        self._pilots = self._choose_pilots()
        each = np.array([option.n for option in self.options])
        self._cheapest = self.options[int(np.argmin(self.cost.sum(axis=0) / each))].arm

    @property
    def price(self) -> float:
        return self._price

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._buyers.out[prompt]:
            return Rest.STOP
        self._update_one(prompt)
        gain: list[float] = self.gain[prompt].tolist()
        cost: list[float] = self.cost[prompt].tolist()
        if max((one for one, paid in zip(gain, cost, strict=True) if np.isfinite(paid)), default=0.0) < SETTLED_GAIN:
            self._buyers.out[prompt] = True
            return Rest.STOP
        # The step at the margin has exactly the price.
        least = self._price * (1.0 - 1e-9)
        steps = hull_of(cost, gain, most)
        if not steps or steps[0][2] < least * steps[0][1]:
            return Rest.WAIT
        best = steps[0][0]
        pilot = self._pilots.get(prompt)
        if pilot is not None and not self.evidence.tried(prompt) and cost[pilot] <= most:
            # What it teaches is worth the money as much as the purchase it stands for.
            option = self.options[pilot]
            return Offer(Purchase(option.name, option.n), cost[pilot] * steps[0][2] / steps[0][1], cost[pilot])
        best = self._more(best, gain, cost, most, max(least, NEARLY * steps[0][2] / steps[0][1]))
        option = self.options[best]
        return Offer(Purchase(option.name, option.n), gain[best], cost[best])

    def _more(self, best: int, gain: list[float], cost: list[float], most: float, least: float) -> int:
        """The largest amount of the same arm, from `best` on, that earns at least `least` for its cost."""
        more = best
        for at in range(best + 1, len(self.options)):
            if self.options[at].arm != self.options[best].arm:
                break
            if cost[at] <= most and gain[at] >= least * cost[at]:
                more = at
        return more

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self.evidence.observe(prompt, self._arms[purchase.arm], candidates)
        self._seen += len(candidates)
        self._fresh[prompt] = False
        self._buyers.bought(prompt, len(candidates))

    def close(self, prompt: int) -> None:
        self._buyers.close(prompt)

    def reprice(self, available: float) -> None:
        if self._seen > self._learned * REFRESH_GROWTH:
            self._learned = self._seen
            self.evidence.refresh()
            self._fresh[:] = False
            self._known.clear()
        active = self._buyers.active
        self._update(active)
        steps = hulls(self.cost[active], self.gain[active], available)
        self._price = price_for(steps.ratio, steps.cost, max(0.0, available) * (1 + self._buyers.vain))

    def difficulty(self, prompt: int) -> float:
        return float(self.evidence.rate(np.array([prompt]), self._cheapest)[0])

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """What the best rule reaches that buys of one arm at a time and looks each time, on a sample of the prompts."""
        active = self._buyers.active
        cohort = active[np.linspace(0, len(active) - 1, min(COHORT, len(active))).astype(np.int64)]
        spent, value = self._frontier(cohort) if len(cohort) else (np.zeros(1), np.zeros(1))
        share = len(active) / self.problem.prompts
        settled = float(self.now.mean())
        found = []
        for budget in budgets:
            each = max(0.0, budget) / max(1, len(active))
            mean = min(1.0, settled + share * float(np.interp(each, spent, value)))
            found.append(self._interval(budget, min(each, float(spent[-1])) * len(active), mean))
        return tuple(found)

    def _choose_pilots(self) -> dict[int, int]:
        """Prompts, spread evenly, and the purchase that each makes first: the smallest of an arm that is not known."""
        start, prompts = self.evidence.start, self.problem.prompts
        unknown = [
            min((at for at, option in enumerate(self.options) if option.arm == arm), key=lambda at: self.options[at].n)
            for arm in range(len(self.problem.arms))
            if start.deviations[arm] > KNOWN_DEVIATION
        ]
        if not unknown:
            return {}
        each = float(self.cost[:, unknown].mean(axis=0).sum())
        many = min(PILOTS, prompts // (4 * len(unknown)), int(PILOT_SHARE * self.problem.budget / each))
        places = np.linspace(0, prompts - 1, many * len(unknown)).astype(np.int64).tolist()
        return {place: unknown[at % len(unknown)] for at, place in enumerate(places)}

    def _frontier(self, cohort: Ints) -> tuple[Floats, Floats]:
        """Expected cost and gain a prompt of the cohort, at falling prices, both ascending from 0, [prices]."""
        evidence, arms = self.evidence, range(len(self.problem.arms))
        weights, counts = evidence.belief(cohort), evidence.counts(cohort)
        best = float((self.gain[cohort] / np.maximum(self.cost[cohort], 1e-300)).max(initial=0.0))
        if best <= 0.0:
            return np.zeros(1), np.zeros(1)
        each = [self._unit_cost(cohort, arm) / evidence.share_new(cohort, arm) for arm in arms]
        left = self._left(cohort)
        ahead = [
            Ahead(weights, evidence.passing(arm), *counts, evidence.objective, None if left is None else left[:, arm])
            for arm in arms
        ]
        spent, value = [0.0], [0.0]
        # Looking each time earns up to several times the ratio of a purchase whole.
        for price in np.geomspace(4.0 * best, best / PRICE_RANGE, PRICES):
            cost, gain = np.zeros(len(cohort)), np.zeros(len(cohort))
            for arm, unit in zip(ahead, each, strict=True):
                one = arm.best(unit, float(price))
                better = one.gain - price * one.cost > gain - price * cost
                cost, gain = np.where(better, one.cost, cost), np.where(better, one.gain, gain)
            spent.append(max(spent[-1], float(cost.mean())))
            value.append(max(value[-1], float(gain.mean())))
        return np.array(spent), np.array(value)

    def _unit_cost(self, cohort: Ints, arm: int) -> Floats:
        """Cost of one candidate of an arm in its smallest purchase, [cohort]."""
        n = min(self.problem.arms[arm].amounts)
        return self.problem.costs.predict(cohort, self.problem.arms[arm].name, n) / n

    def _interval(self, budget: float, spent: float, mean: float) -> Forecast:
        """90%: chance over the prompts and those fitted on, and the mean rate, unknown before some were tried."""
        tried = int((self.evidence.accepted + self.evidence.rejected).any(axis=1).sum())
        unknown = 0.0 if self.evidence.start.trained else UNKNOWN_DEVIATION**2 / (1.0 + tried)
        spread = mean * (1.0 - mean)
        shared = SHAPE_DEVIATION**2 * min(1.0, 4.0 * spread)
        fit = fit_variance(mean, self.evidence.start.prompts)
        deviation = float(np.sqrt(spread / self.problem.prompts + unknown + fit + shared))
        return Forecast(budget, spent, mean, *around(mean, deviation))

    def _update_one(self, prompt: int) -> None:
        """Bring one prompt up to date; gains are remembered by its counts."""
        if self._fresh[prompt]:
            return
        evidence, rows = self.evidence, np.array([prompt])
        key = evidence.key(prompt)
        if key is None or key not in self._known:
            gain = evidence.gain(rows)[0]
            if key is not None:
                self._known[key] = gain
        else:
            gain = self._known[key]
        self.gain[prompt], self.now[prompt] = gain, evidence.now(rows)[0]
        for at, option in enumerate(self.options):
            self.cost[prompt, at] = self.problem.costs.predict_one(prompt, option.name, option.n)
        self._within_limits(rows)
        self._fresh[prompt] = True

    def _update(self, prompts: Ints) -> None:
        """Bring prompts up to date, and the costs of all of them: those are corrected as purchases end."""
        due = prompts[~self._fresh[prompts]]
        self.now[due], self.gain[due] = self.evidence.now(due), self.evidence.gain(due)
        self._fresh[due] = True
        for at, option in enumerate(self.options):
            self.cost[prompts, at] = self.problem.costs.predict(prompts, option.name, option.n)
        self._within_limits(prompts)

    def _left(self, prompts: Ints) -> Ints | None:
        """Candidates that each arm can still give, [prompts, arms]; None where there is no limit."""
        if self.problem.limits is None:
            return None
        return self.problem.limits[prompts] - self.evidence.drawn(prompts)

    def _within_limits(self, prompts: Ints) -> None:
        """What an arm cannot give any more has no finite cost."""
        left = self._left(prompts)
        if left is None:
            return
        for at, option in enumerate(self.options):
            self.cost[prompts[left[:, option.arm] < option.n], at] = np.inf
