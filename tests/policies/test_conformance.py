"""Every registered strategy passes the shipped suite, and the suite catches what it is there to catch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.best_of_n import BestOfN
from apportion.policies.dvts import DiverseTrees
from apportion.policies.lookahead import Lookahead
from apportion.policies.registry import STRATEGIES
from apportion.policies.revise import Revise
from apportion.policies.strategy import CutOff, Lengths, Plan, Strategy, Task, Workload, generate
from apportion.types import Generate

VARIANTS: list[Strategy] = [
    *(cls() for cls in STRATEGIES.values()),
    BeamSearch(width="sqrt"),
    BeamSearch(width=2, depth=2, aggregate_search="min"),
    BeamSearch(depth=1),
    BeamSearch(width=16, aggregate_search="product"),
    DiverseTrees(width=2, aggregate_search="mean"),
    DiverseTrees(depth=1),
    Lookahead(k=0),
    Lookahead(k=3),
    Lookahead(k=2, width="sqrt", depth=3, aggregate_search="min"),
    Revise(chain="all"),
    Revise(chain=2, window=1, instruction=""),
]


@pytest.mark.parametrize("strategy", VARIANTS, ids=str)
def test_conforms(strategy: Strategy) -> None:
    conformance.check_strategy(strategy, ns=(1, 4, 8, 16, 64))


@dataclass(frozen=True)
class _Faulty:
    """Best-of-n with one fault."""

    fault: str
    name: ClassVar[str] = "faulty"
    needs_verifier: ClassVar[bool] = False
    independent: ClassVar[bool] = True

    def plan(self, task: Task) -> Plan:
        drawn = 0 if self.fault == "seeds" else task.drawn
        seeds = tuple(task.seed(drawn + i) for i in range(task.n))
        request = Generate(task.policy, task.messages, seeds, task.sampling)
        if self.fault == "cut off":
            return (yield from BestOfN().plan(task)) if task.verifier else (yield from self._stubborn(request))
        drafts = yield from BestOfN().plan(replace(task, drawn=drawn))
        if self.fault == "drafts":
            return drafts[:-1] if task.n > 1 else drafts
        if self.fault == "tokens":
            return tuple(replace(draft, tokens=draft.tokens + 1) for draft in drafts)
        if self.fault == "weight":
            return tuple(replace(draft, weight=0.5) for draft in drafts)
        if self.fault == "scores":
            return tuple(replace(draft, step_scores=None) for draft in drafts)
        return drafts

    def _stubborn(self, request: Generate) -> Plan:
        try:
            yield from generate(request)
        except CutOff:
            yield from generate(request)
        return ()

    def check(self, n: int) -> str | None:
        return BestOfN().check(n)

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        return BestOfN().workload(n, lengths, verified and self.fault != "workload")


@pytest.mark.parametrize("fault", ["seeds", "drafts", "tokens", "weight", "scores", "workload"])
def test_suite_catches(fault: str) -> None:
    with pytest.raises(AssertionError):
        conformance.check_strategy(_Faulty(fault))


def test_suite_catches_a_strategy_that_goes_on_after_its_cut_off() -> None:
    with pytest.raises(AssertionError, match="after CutOff"):
        conformance.check_cut_off(_Faulty("cut off"), 4, verified=False)


def test_sound_strategy_of_a_user_passes() -> None:
    conformance.check_strategy(_Faulty("none"))


def test_best_of_n_cut_off_before_the_verifier_returns_unscored_drafts() -> None:
    purchase = conformance.task(4, verified=True)
    drafts = conformance.drive(BestOfN(), purchase, conformance.World(), cut_at=1)
    assert [draft.step_scores for draft in drafts] == [None] * 4


def test_four_and_four_more_are_the_same_eight() -> None:
    def texts(n: int, drawn: int) -> list[str]:
        purchase = conformance.task(n, drawn=drawn, verified=False)
        return [draft.text for draft in conformance.drive(BestOfN(), purchase, conformance.World())]

    assert texts(4, 0) + texts(4, 4) == texts(8, 0)
