"""Every estimator passes the conformance suite, and the suite catches one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from apportion.difficulty.conformance import check_estimator
from apportion.difficulty.estimator import MODEL_DEVIATION, Start, default_start
from apportion.difficulty.fit import fit
from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.pools import read_pool
from apportion.difficulty.registry import ESTIMATORS
from apportion.lab import lab_path
from apportion.policies.arm import Arm
from apportion.policies.registry import build_strategy
from apportion.types import Sampling

TEXTS = ["Ann has 3 cups. She buys 4 more.", "Ben has 389 pens. He loses 277. He buys 301 more.", ""]
ARMS = (
    Arm("vote", build_strategy("best_of_n", {}), "small", "prm", "weighted", "last", (1, 4), Sampling()),
    Arm("beam", build_strategy("beam_search", {"width": "sqrt"}), "small", "prm", "weighted", "last", (4,), Sampling()),
)


@pytest.fixture(scope="module")
def fitted() -> FittedPolicy:
    return fit([read_pool(lab_path("lab:pool/calibration"))])


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_conforms(name: str, fitted: FittedPolicy) -> None:
    start = check_estimator(ESTIMATORS[name], ARMS, TEXTS, fitted if name == "fitted" else None)
    assert start.trained == (name == "fitted")


def test_an_arm_that_another_model_writes_for_may_be_far_better_and_one_that_it_judges_for_may_not() -> None:
    vote = ARMS[0]
    second = {name: replace(vote, strategy=build_strategy(name, {}), second="large") for name in ("cascade", "genrm")}
    start = default_start((vote, second["cascade"], second["genrm"], replace(vote, policy="large")))
    assert start.deviations[1] >= MODEL_DEVIATION
    assert (start.lifts[2], start.deviations[2]) == (0.0, 0.0)
    assert start.deviations[3] == MODEL_DEVIATION


@pytest.mark.parametrize("fault", ["sum", "lift", "text"])
def test_suite_catches(fault: str) -> None:
    def faulty(arms: Sequence[Arm], texts: Sequence[str], fitted: FittedPolicy | None) -> Start:
        start = ESTIMATORS["flat"](arms, texts, fitted)
        if fault == "sum":
            return replace(start, prior=2.0 * start.prior)
        if fault == "lift":
            return replace(start, lifts=np.full(len(arms), np.nan))
        ranks = np.arange(1, len(texts) + 1, dtype=np.float32)[:, None]
        return replace(start, text=np.broadcast_to(ranks, (len(texts), start.prior.shape[0])))

    with pytest.raises(AssertionError):
        check_estimator(faulty, ARMS, TEXTS)
