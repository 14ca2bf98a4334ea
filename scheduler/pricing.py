"""Which form of the price policy a job gets: a playbook where one is known, closed forms of the beliefs elsewhere.

A fitted policy offers its playbooks, and the one that does best at this budget on trial is taken. Without labels a
vote of a single arm has a playbook of its own; several arms, searches and other objectives go by the beliefs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from apportion.difficulty.playbook import plain_book, plain_tables
from apportion.policies.settings import build
from apportion.scheduler.allocation import Allocation, Problem
from apportion.scheduler.known import Known
from apportion.scheduler.outlook import Outlook
from apportion.scheduler.price import Price, PriceSettings
from apportion.scheduler.sequenced import Sequenced

ACCEPT = 0.5
PLAIN_SELECTORS = ("majority", "weighted")


def price(settings: Mapping[str, Any], problem: Problem, known: Known) -> Allocation:
    """The price policy of a job. Raises ConfigError for an unknown setting."""
    chosen = build(PriceSettings, settings, "allocation")
    arm = problem.arms[0]
    alone = len(problem.arms) == 1 and arm.strategy.name == "best_of_n" and arm.select in PLAIN_SELECTORS
    if alone and problem.objective == "accuracy" and problem.prompts:
        most = _most(problem)
        by_score = arm.select == "weighted"
        return Sequenced(problem, plain_book(arm.name, most, by_score), plain_tables(most, by_score), ACCEPT, None)
    return Price(chosen, Outlook.begin(problem, known.start), known.probe)


def _most(problem: Problem) -> int:
    """Candidates a prompt may have of the first arm: what there is of it, or the largest amount the config names."""
    if problem.limits is not None:
        return max(1, int(np.max(problem.limits[:, 0])))
    return max(problem.arms[0].amounts)
