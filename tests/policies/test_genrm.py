"""Best-of-n judged by a second policy: who is asked what, how verdicts are read, and what is left where cut off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judged_world import TwoModels, carry_out

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.asking import fill, problem_of
from apportion.policies.genrm import GenRM
from apportion.policies.registry import build_strategy
from apportion.policies.strategy import Lengths
from apportion.types import Message

SHORT = "{problem} {solution}?"
VERDICTS = {
    "a?": ["Verdict: Yes", "so it is.\n**Verdict:** no", "verdict - YES", "I cannot say"],
    "b?": ["Yes", "No.", "No", "Verdict: No"],
    "c?": ["yes, maybe no", "hm", "Verdict: perhaps", ""],
}


def judged(question: str, at: int) -> str:
    return VERDICTS[question.removeprefix("What is it? ")][at]


def world() -> TwoModels:
    return TwoModels({"policy": ["a", "b", "a", "", "c", "b"]}, judged)


# One line for each yield. `a` is drawn twice and judged once; the empty response is not judged.
SCHEDULE = [
    "policy()*6",
    "second(What is it? a?)*4 second(What is it? b?)*4 second(What is it? c?)*4",
]


def test_each_different_response_is_judged_once() -> None:
    asked = world()
    drafts = carry_out(GenRM(question=SHORT, verdict_tokens=7), asked, 6)
    assert asked.asked == SCHEDULE
    assert [draft.text for draft in drafts] == ["a", "b", "a", "", "c", "b"]
    # Two of a's three verdicts that can be read say yes, one of b's four; none of c's can be read.
    assert [draft.step_scores for draft in drafts] == [(2 / 3,), (1 / 4,), (2 / 3,), (), (), (1 / 4,)]
    assert {question.sampling.max_tokens for question in asked.questions} == {7}
    assert len(set(asked.seeds)) == len(asked.seeds) == 6 + 3 * 4


def test_cut_off_before_the_verdicts_leaves_responses_without_scores() -> None:
    assert carry_out(GenRM(question=SHORT), world(), 6, cut_at=0) == ()
    drafts = carry_out(GenRM(question=SHORT), world(), 6, cut_at=1)
    assert [draft.text for draft in drafts] == ["a", "b", "a", "", "c", "b"]
    assert [draft.step_scores for draft in drafts] == [None] * 6


def test_a_later_purchase_asks_only_about_what_is_new() -> None:
    first = TwoModels({"policy": ["a", "c"]}, judged)
    earlier = carry_out(GenRM(question=SHORT), first, 2)
    later = TwoModels({"policy": ["b", "a", "c"]}, judged)
    purchase = conformance.task(3, drawn=2, verified=False, second=True, earlier=earlier)
    drafts = carry_out(GenRM(question=SHORT), later, purchase)
    assert later.asked == ["policy()*3", "second(What is it? b?)*4"]
    assert [draft.step_scores for draft in drafts] == [(1 / 4,), (2 / 3,), ()]
    assert not set(first.seeds) & set(later.seeds)
    cut = carry_out(GenRM(question=SHORT), TwoModels({"policy": ["b", "a", "c"]}, judged), purchase, cut_at=1)
    assert [draft.step_scores for draft in cut] == [None, (2 / 3,), ()], "what was judged before is still known"


def test_a_response_that_the_verifier_cannot_read_whole_has_no_score() -> None:
    both = TwoModels({"policy": ["a", "b"]}, judged)
    task = conformance.task(2, verified=False, second=True)
    task = replace(task, second_room=lambda messages: 0 if "b?" in messages[-1].content else 1)
    assert [draft.step_scores for draft in carry_out(GenRM(question=SHORT), both, task)] == [(2 / 3,), ()]
    assert both.asked == ["policy()*2", "second(What is it? a?)*4"]


def test_responses_that_were_cut_off_unjudged_are_judged_when_drawn_again() -> None:
    earlier = carry_out(GenRM(question=SHORT), TwoModels({"policy": ["a"]}, judged), 1, cut_at=1)
    purchase = conformance.task(1, drawn=1, verified=False, second=True, earlier=earlier)
    (draft,) = carry_out(GenRM(question=SHORT), TwoModels({"policy": ["a"]}, judged), purchase)
    assert draft.step_scores == (2 / 3,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Step 1 is right.\nVerdict: Yes", True),
        ("Verdict: Yes\nWait. Step 2 is wrong.\nVerdict: No", False),
        ("**VERDICT**: *no*.", False),
        ("Yes", True),
        ("Is it? Let me see.\nNo.", False),
        ("Yes, the first step is fine, but I am not done", None),
        ("Verdict: not sure", None),
        ("Verdict: yesterday", None),
        ("", None),
    ],
)
def test_reading_a_verdict(text: str, said: bool | None) -> None:
    assert GenRM().verdict_of(text) is said


def test_other_words_for_a_verdict_are_a_setting() -> None:
    strategy = GenRM(says_yes=r"\bright\b", says_no=r"\bwrong\b")
    assert strategy.share_of_yes(["It is Right", "wrong, or right", "right, no, wrong", "Yes"]) == (2 / 3,)


def test_a_response_that_looks_like_the_template_stays_as_it_is() -> None:
    assert fill("{problem}|{solution}|{x}", problem="{solution}", solution="{problem}") == "{solution}|{problem}|{x}"


def test_the_problem_is_the_question_without_the_system_message() -> None:
    system, user = Message("system", "Use \\boxed{}."), Message("user", "2 + 2?")
    assert problem_of((system, user)) == "2 + 2?"
    talk = problem_of((system, user, Message("assistant", "4"), Message("user", "And 2 * 2?")))
    assert talk == "User: 2 + 2?\n\nAssistant: 4\n\nUser: And 2 * 2?"


def test_it_conforms_where_verdicts_can_be_read() -> None:
    strategy = GenRM(says_yes="Answer: [0-4]", says_no="Answer: [5-9]", verdicts=3)
    conformance.check_strategy(strategy, ns=(1, 4, 16))
    purchase = conformance.task(8, verified=False, second=True)
    scores = [draft.step_scores for draft in conformance.drive(strategy, purchase, conformance.World())]
    assert len(set(scores)) > 1


def test_expected_work_is_what_is_done_where_no_response_is_like_another() -> None:
    problem, response, n, verdicts = 40.0, 20.0, 4, 3
    strategy = GenRM(question="{problem}{solution}", verdicts=verdicts, verdict_tokens=5)
    work = strategy.workload(n, Lengths(problem, response, 2.0), verified=False)
    question = problem + response + len("{problem}{solution}") / 4
    assert work.samples == n + n * verdicts
    assert work.completion_tokens == n * response
    assert work.second_prompt_tokens == n * question
    assert work.second_completion_tokens == n * verdicts * 5
    assert work.second_attended == n * (attended(0.0, question) + verdicts * attended(question, 5.0))
    both = strategy.workload(n, Lengths(np.array([40.0, 1.0]), np.array([20.0, 2.0]), np.ones(2)), verified=False)
    assert list(np.asarray(both.second_completion_tokens)) == [60.0, 24.0], "a short response has short verdicts"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"verdicts": 0}, "verdicts is 0; it must be 1 or more"),
        ({"verdict_tokens": 0}, "verdict_tokens is 0; it must be 1 or more"),
        ({"verdict_temperature": -1.0}, "it must be 0 or more"),
        ({"verdict_temperature": 0.0}, "use verdicts: 1, or a temperature above 0"),
        ({"question": "Is {solution} right?"}, r"lacks \{problem\}"),
        ({"question": "?"}, r"lacks \{problem\} and \{solution\}"),
        ({"says_yes": "("}, "says_yes is no regular expression"),
        ({"says_yes": ""}, "says_yes is '', which matches any text, also one without a verdict"),
        ({"says_no": "no|"}, r"says_no is 'no\|', which matches any text"),
        ({"verdict_temperature": float("inf")}, "verdict_temperature is inf; it must be 0 or more, and finite"),
    ],
)
def test_refused_settings(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        build_strategy("genrm", settings)


def test_one_verdict_may_be_greedy() -> None:
    assert build_strategy("genrm", {"verdicts": 1, "verdict_temperature": 0}).check(1) is None
