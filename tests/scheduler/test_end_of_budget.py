"""Where a budget ends, or prompts fail: what is left is spent, and on purchases that come to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated import World, arm, play, problem

from apportion.configs.build import load_job
from apportion.scheduler.admission import LONG_SHARE, PILOT_SHARE, PILOTS, Admission
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.calibrate import calibrate
from apportion.scheduler.planned import FixedPlan, Planned
from apportion.scheduler.solve import run_job

PROMPTS = 60
POLICY = {"policy": "small", "max_tokens": 64}
SCORED = {**POLICY, "verifier": "prm", "select": "weighted"}


def job(
    folder: Path, each: float, arms: dict[str, Any], policy: str, prompts: int = PROMPTS, **more: Any
) -> dict[str, Any]:
    rates = np.linspace(0.05, 0.95, prompts)
    marks = more.pop("marks", [""] * prompts)
    rows = "".join(
        f'{{"id": "q{at}", "q": "question {at} p={rate:.2f} answer={10 + at} {mark}", "a": "{10 + at}"}}\n'
        for at, (rate, mark) in enumerate(zip(rates, marks, strict=True))
    )
    (folder / "d.jsonl").write_text(rows)
    fake = {"engine": "fake", "model": "x", "step_separator": "\n"}
    return {
        "dataset": {"path": str(folder / "d.jsonl"), "prompt": "q", "id": "id", "reference": "a"},
        "output": str(folder / "run"),
        "budget": {"amount": each * prompts, "unit": "tokens"},
        "models": {"small": fake, "prm": {"engine": "fake", "model": "y", "role": "scorer", **more.pop("prm", {})}},
        "arms": arms,
        "allocation": {"policy": policy},
        "cluster": {"address": "inline"},
        **more,
    }


@pytest.mark.parametrize("strategy", ["rebase", "particle_filter"])
@pytest.mark.parametrize("most_tokens", [64, 256])
def test_searches_that_run_together_do_not_starve_each_other(tmp_path: Path, strategy: str, most_tokens: int) -> None:
    """A search that is cut off has cost nearly as much as one that is not, and answers nothing."""
    arms = {"search": {**SCORED, "strategy": strategy, "n": [4, 16], "max_tokens": most_tokens}}
    answered = {}
    for in_flight in (3, 128):
        (folder := tmp_path / str(in_flight)).mkdir()
        execution = {"in_flight": in_flight, "ordered": True}
        summary = run_job(load_job(job(folder, 600.0, arms, "price", execution=execution)))
        assert summary["budget"]["spent"] >= 0.95 * summary["budget"]["amount"]
        answered[in_flight] = summary["answered"]
    assert answered[128] >= 0.85 * answered[3]


def test_uniform_spends_its_budget_though_nothing_is_known_of_costs(tmp_path: Path) -> None:
    """All prompts fit in flight at once, and responses are a seventh as long as their limit."""
    vote = {**POLICY, "strategy": "best_of_n", "n": [1, 2, 4, 8, 16], "max_tokens": 256}
    summary = run_job(load_job(job(tmp_path, 900.0, {"vote": vote}, "uniform")))
    assert summary["budget"]["spent"] >= 0.9 * summary["budget"]["amount"]
    bought = pq.read_table(tmp_path / "run" / "results.parquet")["candidates"].to_pylist()
    assert np.quantile(bought, 0.1) >= 0.4 * np.quantile(bought, 0.9)


@pytest.mark.parametrize("strategy", ["beam_search", "rebase", "particle_filter", "dvts"])
@pytest.mark.parametrize("prompts", [4, 6])
def test_uniform_is_even_where_searches_show_late_what_they_cost(tmp_path: Path, strategy: str, prompts: int) -> None:
    """Few prompts: all begin before anything is known of costs, and the last one would get what the others left."""
    arms = {"search": {**SCORED, "strategy": strategy, "n": [4, 16]}}
    summary = run_job(load_job(job(tmp_path, 4000.0, arms, "uniform", prompts)))
    rows = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    bought = [sum(one["n"] for one in row["purchases"]) for row in rows]
    assert min(bought) >= 0.7 * max(bought)
    assert summary["budget"]["spent"] >= 0.97 * summary["budget"]["amount"]


@pytest.mark.parametrize("policy", ["uniform", "price"])
def test_where_the_budget_covers_few_worst_cases_prompts_are_served_one_by_one(tmp_path: Path, policy: str) -> None:
    """Responses are a thirtieth as long as they may be: several samples are seldom covered at once, but one is, until
    less is left than its worst case."""
    vote = {**POLICY, "strategy": "best_of_n", "n": [1, 2, 4, 8], "max_tokens": 1024}
    summary = run_job(load_job(job(tmp_path, 100.0, {"vote": vote}, policy)))
    assert summary["answered"] >= 0.9 * PROMPTS


def test_uniform_does_not_buy_again_where_costs_are_known() -> None:
    found = problem(40, 400.0)
    played = play(build_allocation("uniform", {}, found, 4), World.of(np.full(40, 0.5)), 400.0)
    assert len(played.offers) == 40


def test_what_was_planned_for_a_prompt_that_failed_goes_to_others() -> None:
    given = problem(2, 8.0, arm())
    planned = Planned(given, {"vote": (1, 4, 8)})
    planned.know(np.arange(2), 0, np.array([[0.3, 0.6, 0.7], [0.3, 0.6, 0.7]]))
    policy = FixedPlan(planned, np.full(2, 0.3))
    policy.reprice(8.0)
    assert [policy.offer(at, 8.0).purchase.n for at in range(2)] == [4, 4]
    policy.close(1)
    policy.reprice(8.0)
    assert policy.offer(0, 8.0).purchase.n == 8


def test_what_was_cut_off_is_no_sample_of_its_arm(tmp_path: Path) -> None:
    """The verifier refuses every other prompt: their searches are beginnings, and their responses were not scored."""
    arms = {
        "best": {**SCORED, "strategy": "best_of_n", "n": [2]},
        "beam": {**SCORED, "strategy": "beam_search", "width": 2, "n": [4]},
    }
    marks = ["BAD" if at % 2 else "" for at in range(PROMPTS)]
    prm = {"engine_args": {"poison": "BAD"}}
    calibration = {"output": str(tmp_path / "pool"), "samples": 4}
    recorded = calibrate(
        load_job(job(tmp_path, 1e6, arms, "price", marks=marks, prm=prm, calibration=calibration)),
    )
    rows = pq.read_table(tmp_path / "pool" / "candidates.parquet").to_pylist()
    assert recorded.complete == PROMPTS / 2
    assert {int(row["prompt_id"][1:]) % 2 for row in rows} == {0}
    assert all(row["score"] is not None for row in rows)


def test_a_recording_whose_verifier_fails_on_some_prompts_spends_its_budget(tmp_path: Path) -> None:
    arms = {
        "vote": {**POLICY, "strategy": "best_of_n", "n": [4]},
        "beam": {**SCORED, "strategy": "beam_search", "width": 2, "n": [4]},
    }
    marks = ["BAD" if at % 2 else "" for at in range(PROMPTS)]
    calibration = {"output": str(tmp_path / "pool"), "samples": 8}
    prm = {"engine_args": {"poison": "BAD"}}
    recorded = calibrate(
        load_job(job(tmp_path, 600.0, arms, "price", marks=marks, prm=prm, calibration=calibration)),
    )
    assert recorded.summary["failed"] > 0
    assert recorded.summary["budget"]["spent"] >= 0.9 * recorded.summary["budget"]["amount"]


def test_pilots_take_a_part_of_the_budget_until_all_have_ended() -> None:
    admission, vote = Admission(lambda arm: False), arm()
    count = 0
    while admission.admit(vote, 1.0, float(count), 100.0):
        assert admission.begin("vote", 1.0)
        count += 1
    assert count == PILOT_SHARE * 100.0
    for left in range(count - 1, 0, -1):
        assert not admission.end("vote")
        assert not admission.admit(vote, 1.0, float(left), 100.0)
    assert admission.end("vote")
    assert admission.admit(vote, 1.0, 0.0, 100.0)
    assert not admission.begin("vote", 1.0)


def test_of_many_purchases_the_first_are_pilots() -> None:
    admission = Admission(lambda arm: False)
    assert sum(admission.begin("vote", 1.0) for _ in range(3 * PILOTS)) == PILOTS
    told = Admission(lambda arm: True)
    assert not told.begin("vote", 1.0)


def test_an_arm_is_known_once_its_last_pilot_has_ended_not_its_first() -> None:
    """What purchases cost is known to the job from the first one on: the cheapest."""
    ended: list[str] = []
    admission, vote = Admission(lambda arm: bool(ended)), arm()
    assert [admission.begin("vote", 5.0) for _ in range(4)] == [True] * 4
    ended.append("the cheapest")
    assert not admission.end("vote")
    assert admission.begin("vote", 1.0)
    assert not admission.admit(vote, 80.0, 15.0, 100.0)


def test_searches_leave_some_of_the_budget_to_each_other() -> None:
    beam = load_job(
        {
            "dataset": {"path": "lab:test", "prompt": "problem"},
            "output": "runs/none",
            "budget": {"amount": 1e9, "unit": "tokens"},
            "models": {
                "small": {"engine": "fake", "model": "x"},
                "prm": {"engine": "fake", "model": "y", "role": "scorer"},
            },
            "arms": {"beam": {**SCORED, "strategy": "beam_search", "width": 2, "n": [4]}},
        }
    ).arms[0]
    admission = Admission(lambda arm: True)
    assert admission.admit(beam, 1.0, LONG_SHARE * 100.0 - 1.0, 100.0)
    assert not admission.admit(beam, 1.0, LONG_SHARE * 100.0, 100.0)
    assert admission.admit(arm(), 1.0, LONG_SHARE * 100.0, 100.0)
