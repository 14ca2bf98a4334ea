"""Reward-guided speculative decoding: which steps are kept by their score, and what comes back."""

from __future__ import annotations

import pytest
from judged_world import TOKENS, TwoModels, carry_out

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.registry import build_strategy
from apportion.policies.rsd import RewardGuided
from apportion.policies.speculation import REJECTED
from apportion.policies.strategy import Lengths
from apportion.types import Draft, Finish

# Two chains. The policy drafts small letters and the second model writes capitals; a dot ends a response. Each line is
# what is asked at once. A step's score is read with the steps before it, so B is scored with the draft after it.
SCHEDULE = """
policy()*2
verifier(a b)
second()*1
policy(a)*1 policy(B)*1
verifier(ac. Bd)
policy(Bd)*1
verifier(Bde.)
second(Bd)*1
verifier(BdE.)
"""
SCORES = {"a": 0.7, "b": 0.69, "c.": 0.9, "d": 0.8, "e.": 0.1, "E.": 0.4}


def world() -> TwoModels:
    return TwoModels({"policy": ["a\n", "b\n", "c.", "d\n", "e."], "second": ["B\n", "E."]}, scores=SCORES)


def run(cut_at: int | None = None) -> tuple[TwoModels, tuple[Draft, ...]]:
    both = world()
    return both, carry_out(RewardGuided(), both, conformance.task(2, verified=True, second=True), cut_at)


def test_schedule() -> None:
    both, (first, second) = run()
    assert both.asked == SCHEDULE.strip().splitlines()
    assert (first.text, second.text) == ("a\nc.", "B\nd\nE.")
    # What the second model wrote is not judged, and is scored with its response all the same.
    assert (first.step_scores, second.step_scores) == ((0.5, 0.9), (0.5, 0.5, 0.4))
    assert (first.tokens, second.tokens) == (2 * TOKENS, 3 * TOKENS)
    assert len(set(both.seeds)) == len(both.seeds)


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, []),
        (1, [("a\n", None), ("b\n", None)]),
        (2, [("a\n", (0.7,)), ("b\n", (0.69,))]),
        (3, [("a\n", (0.7,)), ("B\n", None)]),
        (7, [("a\nc.", (0.5, 0.9)), ("B\nd\ne.", (0.5, 0.5, 0.1))]),
        (8, [("a\nc.", (0.5, 0.9)), ("B\nd\nE.", None)]),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: list[tuple[str, tuple[float, ...] | None]]) -> None:
    _, drafts = run(cut_at)
    assert [(draft.text, draft.step_scores) for draft in drafts] == left
    assert all(d.finish is (Finish.END if d.text.endswith(".") else Finish.LENGTH) for d in drafts)


def test_a_draft_without_text_is_rejected_without_a_score() -> None:
    both = TwoModels({"policy": ["\n"], "second": ["E."]}, scores=SCORES)
    (draft,) = carry_out(RewardGuided(), both, conformance.task(1, verified=True, second=True))
    assert both.asked == ["policy()*1", "second()*1", "verifier(E.)"]
    assert draft.text == "E."


@pytest.mark.parametrize("strategy", [RewardGuided(0.3), RewardGuided(draft_tokens=7), RewardGuided(1.0)], ids=str)
def test_conforms(strategy: RewardGuided) -> None:
    conformance.check_strategy(strategy, ns=(1, 4, 16))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_a_higher_threshold_asks_more_of_the_second_model(threshold: float) -> None:
    def share(least: float) -> float:
        both = conformance.World()
        conformance.drive(RewardGuided(least), conformance.task(16, verified=True, second=True), both)
        written = [r.model for requests in both.requests for r in requests if r.model != "verifier"]
        return written.count("second") / len(written)

    assert share(threshold - 0.2) < share(threshold)


def test_expected_work_counts_rejected_drafts_for_the_verifier() -> None:
    problem, response, n = 40.0, 60.0, 2
    work = RewardGuided().workload(n, Lengths(problem, response, 3.0), verified=True)
    assert work.verifier_tokens == pytest.approx(problem + (1 + REJECTED) * n * response)
    assert work.second_completion_tokens == pytest.approx(REJECTED * n * response)
    assert work.samples == pytest.approx(n * (1 + REJECTED))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"threshold": 0}, "threshold is 0; it must be above 0"),
        ({"threshold": 7}, "threshold is 7; it must be above 0 and at most 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"draft_tokens": 0}, "draft_tokens is 0; it must be 1 or more"),
    ],
)
def test_refused_settings(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        build_strategy("rsd", settings)
