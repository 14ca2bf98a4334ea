"""The best arm and amount for each bin of predicted difficulty, from a calibration table.

Snell, Lee, Xu, Kumar 2024, "Scaling LLM Test-Time Compute Optimally" (arXiv 2408.03314), section 3.2: prompts fall into
five quantile bins of predicted difficulty (the verifier's mean score of a few samples), and each bin gets the strategy
that was best there at the budget. They leave the cost of finding the bin out; here the probe is paid from the budget,
and its samples are kept. Where there are no scores the leading answer's share predicts difficulty.

Ours: the budget is one total, so the bins' options are a knapsack that meets it on the mean (prompts of one bin may
get neighbouring amounts, where the budget falls between two); the probe is made with the cheapest arm (of equals the
best), takes at most half the budget, and counts on its arm's curve, while another arm's curve counts alone. The
two-fold choice that Snell et al. make within a bin is left to whoever fits the table (`apportion replay --fit cross`).

`bins: absolute` are the bands of Liu et al. 2025 (arXiv 2502.06703): easy, medium and hard by pass@1. A probe leaves
open which band a prompt is in, so it gets the bands' curves mixed by the belief that the probe leads to
(`apportion.difficulty.estimator`). `difficulty: oracle` is what the papers call oracle difficulty: the bin is known
from all that was recorded, and there is no probe to pay. Only a replay has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apportion.difficulty.bins import ABSOLUTE, QUANTILE, Shown, band_chances, places, shown
from apportion.difficulty.curves import grid
from apportion.difficulty.estimator import Difficulty
from apportion.difficulty.table import REWARD, SCORE, SHARE, ProbeTable, Rows, Table
from apportion.errors import ConfigError, nearest
from apportion.scheduler.allocation import Allocation, Floats, Forecast, Offer, Problem, Rest
from apportion.scheduler.known import Known, own_settings
from apportion.scheduler.labels import FIT, chooses, known_as, labelled, stretched, table_of
from apportion.scheduler.one_arm import OneArm
from apportion.scheduler.planned import Planned
from apportion.types import Candidate, Purchase

PROBE_SHARE = 0.5
"""Of the budget, at most, for the probes: the rest is what they are for."""
ROWS = 4096
"""Prompts whose beliefs are worked out at once: bounds their memory."""
PROBE, ORACLE = "probe", "oracle"
"""Where difficulty is known from."""


@dataclass(frozen=True, slots=True)
class BinnedSettings:
    """`probe` is the samples of each prompt's probe, by default the config's `difficulty.probe`.

    `bins` are "quantile" (five, Snell et al.) or "absolute" (easy, medium and hard, Liu et al.); `difficulty` is known
    from a "probe", or, in a replay, to an "oracle".
    """

    probe: int | None = None
    bins: str = QUANTILE
    difficulty: str = PROBE


class Binned:
    """First every prompt's probe, then the plan on the bins' curves; see the module."""

    def __init__(
        self,
        problem: Problem,
        table: Table,
        at: int,
        probe: int,
        belief: Difficulty | None = None,
        oracle: tuple[ProbeTable, Floats] | None = None,
    ) -> None:
        """`at` is the probing arm, whose probe of `probe` samples `table` knows.

        With a `belief` bins are bands. `oracle` is the table by true pass@1 and that of the prompts, [prompts].
        """
        self._problem, self._table, self._at = problem, table, at
        self._names = [known_as(table, arm) for arm in problem.arms]
        self._amounts = {
            arm.name: grid(min(table.arms[name].amounts[-1], problem.most(place)))
            for place, (arm, name) in enumerate(zip(problem.arms, self._names, strict=True))
            if name is not None
        }
        self._planned = Planned(problem, self._amounts, switching=True)
        self._probe = self._affordable(probe)
        self._probing = OneArm(problem, problem.arms[at].name, None, self._probe)
        self._seen: list[Shown | None] = [None] * problem.prompts
        self._belief = belief
        self._oracle = oracle
        self._moved = True
        self._planning = False

    @property
    def price(self) -> float:
        return self._planned.price if self._planning else 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        if self._planning:
            return self._planned.offer(prompt, most)
        if self._seen[prompt] is not None:
            return Rest.WAIT
        # A smaller probe where no more can be had, or the budget does not cover the worst case of more.
        found = self._probing.purchase(prompt, self._probe, 0, most)
        return Rest.WAIT if found is None else Offer(found[0], found[1], found[1])

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self._planned.observe(prompt, purchase, cost)
        if self._seen[prompt] is None:
            self._seen[prompt] = shown(candidates)
            if self._belief is not None:
                self._belief.observe(prompt, self._planned.arms.index(purchase.arm), candidates)
        self._moved = True

    def close(self, prompt: int) -> None:
        self._planned.close(prompt)
        self._moved = True

    def reprice(self, available: float) -> None:
        """Plan once all probes are in, or no more came in since the last time: the rest cannot be had or paid for."""
        if not self._planning:
            moved, self._moved = self._moved, False
            if moved and self._oracle is None and None in self._seen:
                return
            self._planning = True
            self._sort()
        self._planned.reprice(available)

    def difficulty(self, prompt: int) -> float:
        """What the probe showed: the mean score, or the leading answer's share; of bands the belief; or the truth."""
        if self._oracle is not None:
            return float(self._oracle[1][prompt])
        if self._belief is not None:
            return self._belief.pass_rate(prompt, self._at)
        seen = self._seen[prompt]
        if seen is None:
            return 0.0
        return seen.share if seen.score is None else min(1.0, max(0.0, seen.score))

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        """None before the probes; then the plan's value by the table, its interval chance alone."""
        return self._planned.forecast(budgets) if self._planning else ()

    def _affordable(self, probe: int) -> int:
        """The largest probe up to `probe` that takes at most its share of the budget; at least the least there is."""
        arm, everyone = self._problem.arms[self._at], np.arange(self._problem.prompts)
        sizes = [n for n in range(1, probe + 1) if arm.strategy.check(n) is None] or [probe]
        while len(sizes) > 1:
            cost = float(self._problem.costs.predict(everyone, arm.name, sizes[-1]).sum())
            if cost <= PROBE_SHARE * self._problem.budget:
                break
            sizes.pop()
        return sizes[-1]

    def _sort(self) -> None:
        """Give every prompt the curves of its bin, or of its bins by how probable each is."""
        found, chances = self._chances()
        if found is None:
            return
        everyone = np.arange(self._problem.prompts)
        for at, (arm, name) in enumerate(zip(self._problem.arms, self._names, strict=True)):
            rows = None if name is None else _rows(found, chooses(self._problem.objective, arm), name)
            if rows is not None and name is not None:
                curves = stretched(rows, self._table.arms[name].amounts, self._amounts[arm.name])
                self._planned.know(everyone, at, chances @ curves)

    def _chances(self) -> tuple[ProbeTable | None, Floats]:
        """The table, and how probable each of its bins is for each prompt, [prompts, bins].

        A prompt that was not probed is in the bins by their shares.
        """
        name = self._names[self._at] or ""
        if self._oracle is not None:
            found, rate = self._oracle
            return found, np.eye(len(found.shares))[places(rate, found.edges, found.bins)]
        if self._belief is not None:
            self._belief.refresh()
            return self._table.oracle(name, ABSOLUTE), self._believed(self._belief)
        shows = self._shows()
        known = self._table.probe(name, self._probe, shows)
        if known is None:
            return None, np.zeros((0, 0))
        # The last row, which place -1 picks, is what is expected of any prompt.
        rows = np.concatenate([np.eye(len(known.shares)), np.array(known.shares)[None]])
        return known, rows[[-1 if seen is None else known.bin(_value(seen, shows)) for seen in self._seen]]

    def _believed(self, belief: Difficulty) -> Floats:
        """How probable each band is for each prompt, [prompts, bands]."""
        lift = float(belief.world.lifts[self._at])
        parts = []
        for begin in range(0, self._problem.prompts, ROWS):
            _, held = belief.belief(slice(begin, min(begin + ROWS, self._problem.prompts)))
            parts.append(band_chances(held.pass_rate, lift))
        return np.concatenate(parts)

    def _shows(self) -> str:
        arm = self._problem.arms[self._at]
        if not any(seen is not None and seen.score is not None for seen in self._seen):
            return SHARE
        if self._problem.objective == "coverage" and not arm.scored:
            return REWARD
        known = self._table.probe(self._names[self._at] or "", self._probe, SCORE)
        return SHARE if known is None else SCORE


def _value(seen: Shown, shows: str) -> float:
    return seen.share if shows == SHARE or seen.score is None else seen.score


def _rows(found: ProbeTable, kind: str, arm: str) -> Rows | None:
    """The bins' curves of an arm, [bins][amounts]; None where the probe tells nothing of it."""
    return found.value.get(kind, {}).get(arm, found.value.get("majority", {}).get(arm))


def binned(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The policy `binned`. Raises ConfigError for a bad setting, and without labels of the job's arms."""
    given = own_settings(BinnedSettings, settings)
    if given.probe is not None and given.probe < 1:
        raise ConfigError(f"allocation.probe is {given.probe}; it must be at least 1")
    for key, value, allowed in (
        ("bins", given.bins, (QUANTILE, ABSOLUTE)),
        ("difficulty", given.difficulty, (PROBE, ORACLE)),
    ):
        if value not in allowed:
            raise ConfigError(f"allocation.{key} is {value!r}: {nearest(value, allowed)}")
    table = table_of("binned", labelled("binned", known.fitted))
    probe = max(1, known.probe if given.probe is None else given.probe)
    names = [known_as(table, arm) for arm in problem.arms]
    probing = {one.arm for one in table.probes}
    able = [at for at, name in enumerate(names) if name in probing]
    if not able:
        job = ", ".join(arm.name for arm in problem.arms)
        raise ConfigError(
            f"allocation.policy 'binned' has no table of this job's arms ({job}); "
            f"the fitted policy has those of {', '.join(sorted(table.arms))}: fit on a pool with the job's arms ({FIT})"
        )
    at = min(able, key=lambda at: _probing_order(problem, table, names, at))
    if given.difficulty == ORACLE:
        return Binned(problem, table, at, probe, oracle=_oracle(problem, table, names[at] or "", at, given.bins, known))
    if given.bins == QUANTILE:
        return Binned(problem, table, at, probe)
    _by_rate(table, names[at] or "", ABSOLUTE)
    return Binned(problem, table, at, probe, Difficulty(problem.prompts, problem.arms, known.start))


def _by_rate(table: Table, name: str, bins: str) -> ProbeTable:
    found = table.oracle(name, bins)
    if found is None:
        raise ConfigError(
            f"allocation.policy 'binned' needs the {bins} bins of arm {name!r} by pass@1, and the fitted policy, "
            f"made by an older version, has none: {FIT}"
        )
    return found


def _oracle(problem: Problem, table: Table, name: str, at: int, bins: str, known: Known) -> tuple[ProbeTable, Floats]:
    """The table by pass@1, and the prompts' own under the probing arm. Raises ConfigError where it is not known."""
    arm, truth = problem.arms[at].name, known.truth
    if truth is None or arm not in truth.curves:
        raise ConfigError(
            "allocation.difficulty 'oracle' is the true pass@1 of every prompt, which only a replay of recorded "
            "candidates has: compare it there, and run a job with allocation.difficulty=probe"
        )
    # The value of the least amount, one sample, is pass@1 whatever chooses.
    return _by_rate(table, name, bins), np.nan_to_num(truth.curves[arm][:, 0])


def _probing_order(
    problem: Problem, table: Table, names: Sequence[str | None], at: int
) -> tuple[float, int, float, int]:
    """The arm with the least is the probe: the cheapest; of equals the one that tells of most arms, then the best."""
    everyone, name = np.arange(problem.prompts), names[at] or ""
    arm = problem.arms[at]
    # A search cannot be bought one candidate at a time.
    least = 1 if arm.strategy.check(1) is None else min(arm.amounts)
    cost = float(problem.costs.predict(everyone, arm.name, least).mean())
    told = next(one.value["coverage"] for one in table.probes if one.arm == name)
    return cost, -sum(other in told for other in names), -table.arms[name].pass_rate, at
