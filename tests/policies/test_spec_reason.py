"""SpecReason: who writes each step, what the second model is asked, and what is left where cut off."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from judged_world import TOKENS, TwoModels, carry_out

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.registry import build_strategy
from apportion.policies.spec_reason import NOTHING_YET, QUESTION, SpecReason
from apportion.policies.speculation import REJECTED
from apportion.policies.strategy import Lengths, Task
from apportion.types import Finish

SHORT = "{problem}>{so_far}>{step}"

# Two chains. The policy drafts small letters and the second model writes capitals; a dot ends a response. Each line is
# what is asked at once: who, the text that is continued or the question, and how often.
SCHEDULE = """
policy()*2
second(> a)*1 second(> b)*1
second()*1
policy(a)*1 policy(B)*1
second(a > c.)*1 second(B > d)*1
policy(Bd)*1
second(Bd > e.)*1
second(Bd)*1
"""
DIGITS = {"a": "7", "b": "6", "c.": "9", "d": "score: 8", "e.": "bad"}


def world() -> TwoModels:
    return TwoModels({"policy": ["a\n", "b\n", "c.", "d\n", "e."], "second": ["B\n", "E."]}, judged)


def judged(question: str, at: int) -> str:
    return DIGITS[question.rpartition(">")[2]]


def asked(both: TwoModels) -> list[str]:
    """What was asked, questions without the problem and as one line."""
    lines = [line.replace("\n", "").replace("What is it?>", "").replace(NOTHING_YET, "") for line in both.asked]
    return [re.sub(r"\((\w*)>([\w.]+)\)", r"(\1 > \2)", line).replace("( >", "(>") for line in lines]


def test_schedule() -> None:
    both = world()
    first, second = carry_out(SpecReason(question=SHORT), both, 2)
    assert asked(both) == SCHEDULE.strip().splitlines()
    assert (first.text, second.text) == ("a\nc.", "B\nd\nE.")
    assert (first.steps, second.steps) == (("a", "c."), ("B", "d", "E."))
    # Rejected drafts are no part of a response.
    assert (first.tokens, second.tokens) == (2 * TOKENS, 3 * TOKENS)
    assert first.finish is second.finish is Finish.END
    assert first.weight == second.weight == 1.0
    assert first.step_scores is None
    assert len(set(both.seeds)) == len(both.seeds)
    assert {question.sampling.temperature for question in both.questions} == {0.0}
    assert {question.sampling.max_tokens for question in both.questions} == {1}


def test_a_question_may_hold_the_solution_as_it_was_written() -> None:
    both = TwoModels({"policy": ["a\n", "c."], "second": []}, lambda question, at: "9")
    carry_out(SpecReason(question="{before}#{step}"), both, 1)
    assert both.questions[0].messages[0].content == "What is it?#a"
    assert both.questions[1].messages[0].content == "What is it?\na#c."


@pytest.mark.parametrize(
    ("cut_at", "left"),
    [
        (0, []),
        (1, ["a\n", "b\n"]),
        (2, ["a\n", "b\n"]),
        (3, ["a\n", "B\n"]),
        (4, ["a\nc.", "B\nd\n"]),
        (5, ["a\nc.", "B\nd\n"]),
        # In doubt or not, the draft holds an answer and what is before it does not.
        (7, ["a\nc.", "B\nd\ne."]),
    ],
)
def test_cut_off_returns_what_there_is(cut_at: int, left: list[str]) -> None:
    drafts = carry_out(SpecReason(question=SHORT), world(), 2, cut_at)
    assert [draft.text for draft in drafts] == left
    assert all(d.finish is (Finish.END if d.text.endswith(".") else Finish.LENGTH) for d in drafts)


def test_a_draft_that_is_too_long_is_no_step() -> None:
    class Long(TwoModels):
        def _piece(self, model: str):  # type: ignore[no-untyped-def]
            piece = super()._piece(model)
            return replace(piece, finish=Finish.LENGTH) if model == "policy" else piece

    both = Long({"policy": ["a"], "second": ["A."]}, judged)
    (draft,) = carry_out(SpecReason(question=SHORT, draft_tokens=TOKENS), both, 1)
    assert both.asked == ["policy()*1", "second()*1"], "it is not judged"
    assert (draft.text, draft.tokens) == ("A.", TOKENS)


def test_a_step_that_cannot_be_asked_about_is_written_by_the_second_model() -> None:
    both = TwoModels({"policy": ["a\n"], "second": ["A."]}, judged)
    purchase = replace(conformance.task(1, verified=False, second=True), second_room=lambda messages: 0)
    (draft,) = carry_out(SpecReason(question=SHORT), both, purchase)
    assert both.asked == ["policy()*1", "second()*1"]
    assert draft.text == "A."


def test_alike_chains_are_asked_about_once() -> None:
    both = TwoModels({"policy": ["a\n", "a\n", "c.", "c."]}, judged)
    assert len(carry_out(SpecReason(question=SHORT), both, 2)) == 2
    assert asked(both) == ["policy()*2", "second(> a)*1", "policy(a)*2", "second(a > c.)*1"]


def test_a_verifier_scores_the_finished_responses() -> None:
    both = TwoModels({"policy": ["a\n", "c."]}, judged, scores={"c.": 0.9})
    (draft,) = carry_out(SpecReason(question=SHORT), both, conformance.task(1, verified=True, second=True))
    assert draft.step_scores == (0.5, 0.9)
    assert both.asked[-1] == "verifier(ac.)"


def test_without_a_separator_the_response_is_one_step() -> None:
    purchase: Task = replace(conformance.task(1, verified=False, second=True), step_separator="")
    both = TwoModels({"policy": ["b"], "second": ["B\nC."]}, judged)
    (draft,) = carry_out(SpecReason(question=SHORT), both, purchase)
    assert (draft.text, draft.steps) == ("B\nC.", ("B\nC.",))


@pytest.mark.parametrize(
    ("answer", "kept"), [("7", True), ("9", True), ("6", False), (" 8", True), ("Score: 3", False), ("", False)]
)
def test_reading_a_digit(answer: str, kept: bool) -> None:
    assert SpecReason().keeps(answer) is kept


@pytest.mark.parametrize("strategy", [SpecReason(draft_tokens=7), SpecReason(threshold=1, score_tokens=5)], ids=str)
def test_conforms(strategy: SpecReason) -> None:
    conformance.check_strategy(strategy, ns=(1, 4, 16))


def test_a_later_purchase_begins_other_chains() -> None:
    texts = [
        draft.text
        for drawn in (0, 2)
        for draft in conformance.drive(
            SpecReason(), conformance.task(2, drawn=drawn, verified=False, second=True), conformance.World()
        )
    ]
    whole = conformance.drive(SpecReason(), conformance.task(4, verified=False, second=True), conformance.World())
    assert texts == [draft.text for draft in whole], "two chains and then two more are the same four"


def test_expected_work_counts_both_models() -> None:
    problem, response, steps, n = 40.0, 60.0, 3.0, 2
    work = SpecReason().workload(n, Lengths(problem, response, steps), verified=False)
    assert work.completion_tokens == n * response
    assert work.samples == pytest.approx(n * (1 + REJECTED) + n * steps)
    assert work.second_completion_tokens == pytest.approx(REJECTED * n * response + n * steps)
    # Each question goes on from the one before: the step twice, and the half of the template that comes after it.
    half = len(QUESTION) / 8
    questions = problem + half + 2 * n * response + n * steps * half
    assert work.second_prompt_tokens == pytest.approx(problem + (1 - REJECTED) * n * response + questions)
    both = SpecReason().workload(n, Lengths(np.array([40.0, 1.0]), np.array([60.0, 2.0]), np.ones(2)), verified=False)
    assert np.shape(both.second_attended) == (2,)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"threshold": 0}, "threshold is 0; it must be 1 to 9"),
        ({"threshold": 10}, "threshold is 10; it must be 1 to 9"),
        ({"threshold": 0.7}, "threshold is 0.7; it must be an integer"),
        ({"draft_tokens": 0}, "draft_tokens is 0; it must be 1 or more"),
        ({"score_tokens": 0}, "score_tokens is 0; it must be 1 or more"),
        ({"question": "{problem}"}, r"question lacks \{so_far\} and \{step\}"),
        ({"question": "{before}"}, r"question lacks \{step\}"),
    ],
)
def test_refused_settings(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        build_strategy("spec_reason", settings)
