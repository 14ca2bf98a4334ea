"""Arms at temperature 0, whose responses to one prompt are all the same: they are bought once, whoever buys them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_end_of_budget import POLICY, PROMPTS, SCORED, job

from apportion.configs.build import load_job
from apportion.policies.arm import Arm
from apportion.policies.registry import build_strategy
from apportion.scheduler.assemble import build_costs, most_of, prepare, problem_of
from apportion.scheduler.calibration import script
from apportion.scheduler.solve import run_job
from apportion.types import Sampling

GREEDY = {**POLICY, "strategy": "best_of_n", "n": [1], "temperature": 0.0}
VOTE = {**POLICY, "strategy": "best_of_n", "n": [1, 2, 4, 8]}
PLENTY = 1500.0


def bought(folder: Path, arms: dict[str, Any], policy: str, **more: Any) -> dict[str, Counter[int]]:
    """How many prompts bought so many of each arm."""
    run_job(load_job(job(folder, PLENTY, arms, policy, **more)))
    found: dict[str, Counter[int]] = {name: Counter() for name in arms}
    for row in pq.read_table(folder / "run" / "results.parquet").to_pylist():
        for name in arms:
            found[name][sum(one["n"] for one in row["purchases"] if one["arm"] == name)] += 1
    return found


@pytest.mark.parametrize("policy", ["uniform", "price", "asc", "esc", "blend_asc", "elimination"])
def test_one_response_is_all_there_is(tmp_path: Path, policy: str) -> None:
    assert bought(tmp_path, {"greedy": GREEDY}, policy) == {"greedy": {1: PROMPTS}}


@pytest.mark.parametrize("scored", [False, True])
def test_beside_an_arm_that_samples_it_is_bought_once(tmp_path: Path, scored: bool) -> None:
    more = SCORED if scored else {}
    found = bought(tmp_path, {"greedy": {**GREEDY, **more}, "vote": {**VOTE, **more}}, "price")
    assert set(found["greedy"]) <= {0, 1}
    assert max(found["vote"]) > 1


def test_an_endpoint_that_is_not_told_the_temperature_samples(tmp_path: Path) -> None:
    for told in (True, False):
        config = job(tmp_path, PLENTY, {"greedy": GREEDY, "vote": VOTE}, "price")
        engine_args = {"base_url": "http://127.0.0.1:9/v1", "omit": [] if told else ["temperature"]}
        config["models"]["small"] = {"model": "x", "engine": "openai", "engine_args": engine_args}
        prepared = prepare(load_job(config))
        limits = problem_of(prepared, build_costs(prepared)).limits
        assert (limits is not None) == told
        if limits is not None:
            assert limits.shape == (PROMPTS, 2)
            assert limits[:, 0].tolist() == [1] * PROMPTS
        arms, most = prepared.spec.arms, [most_of(prepared.spec, arm) for arm in prepared.spec.arms]
        assert [one.n for one in script(arms, 6, most)] == [1 if told else 6, 6], "what is recorded of them"


@settings(max_examples=20)
@given(st.integers(2, 6), st.sampled_from([0.0, 0.7]))
def test_what_goes_on_from_itself_can_differ_at_temperature_0(links: int, temperature: float) -> None:
    def most(name: str, given: dict[str, Any], n: int) -> int | None:
        sampling = Sampling(temperature=temperature)
        return Arm("x", build_strategy(name, given), "m", None, "majority", "last", (n,), sampling).most

    assert most("best_of_n", {}, 1) == (1 if temperature == 0.0 else None)
    assert most("revise", {"chain": links}, links) == (links if temperature == 0.0 else None)
    assert most("revise", {"chain": "all"}, links) is None
