"""References that the job's answer type cannot read, and arms of which no candidate was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fake_job
import pytest
from made_pools import make_pool

from apportion.configs.build import load_job
from apportion.difficulty.fit import fit
from apportion.scheduler.cautions import never_right
from apportion.scheduler.preflight import check_job

CONFIG: dict[str, Any] = {**fake_job.CONFIG, "dataset": {"prompt": "q", "reference": "a"}, "output": "runs/x"}


def said(references: Sequence[Any], *overrides: str) -> tuple[str, ...]:
    rows = [{"q": f"question {at} p=0.5", "a": one} for at, one in enumerate(references)]
    return check_job(load_job(CONFIG, overrides, rows_given=True), rows).cautions


def test_references_that_no_answer_can_equal_are_counted_and_one_is_shown() -> None:
    (caution,) = said(["35", "about 35 coins or 7", None, "thirty"])
    assert caution.startswith(
        "2 of 3 references hold nothing that answer.kind=number can read, for example 'about 35 coins or 7': every"
    )
    (caution,) = said(["35", "B"], "answer.kind=choice")
    assert "1 of 2 references hold nothing that answer.kind=choice can read, for example '35'" in caution


@pytest.mark.parametrize(
    ("references", "overrides"),
    [
        (["35", 1.5, "2/3", "1,300", "He has 12.\n#### 12", "40%"], []),
        (["35", "1,300"], ["answer.pattern='Result: (.*)'"]),
        (["B", "(c)", "A) 42", "Answer: D"], ["answer.kind=choice"]),
        (["B"], ["answer.kind=choice", "answer.pattern='Result: (.*)'"]),
        (["Paris", "35"], ["answer.kind=text"]),
        (["x+1", "\\frac{1}{2}", "\\text{no solution}"], ["answer.kind=math"]),
    ],
)
def test_references_that_state_their_answer_bare_or_at_the_end_are_fine(
    references: Sequence[Any], overrides: list[str]
) -> None:
    assert said(references, *overrides) == ()


def test_an_arm_that_was_never_right_is_named() -> None:
    policy = fit([make_pool(40, {"small": 4, "large": 4})])
    assert never_right(policy) is None
    arms = {**policy.arms, "large": replace(policy.arms["large"], pass_rate=0.0)}
    told = never_right(replace(policy, arms=arms))
    assert told is not None
    assert "no right candidate of large (160): pass@1 is 0" in told
