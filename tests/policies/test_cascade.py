"""The cascade: when the dear model is asked, whose responses come back, and what counts as agreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_world import TwoModels, carry_out

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.cascade import ESCALATED, Cascade, agreement, repeated
from apportion.policies.registry import build_strategy
from apportion.policies.selectors import majority
from apportion.policies.strategy import Lengths
from apportion.types import Candidate, Draft, Finish

# What the policy answers (- is no answer), the second model's answers, and what then comes back. A digit is a
# response that ends `Answer: digit`.
SCHEDULE = """
threshold large | policy | second | asked                  | back
.6        1     | 1112   | 9      | policy()*4             | 1112
.75       1     | 1112   | 9      | policy()*4             | 1112
.8        1     | 1112   | 9      | policy()*4 second()*1  | 9999
.6        1     | 1122   | 9      | policy()*4 second()*1  | 9999
.6        2     | 1234   | 89     | policy()*4 second()*2  | 8989
.6        4     | 1234   | 7899   | policy()*4 second()*4  | 7899
.5        1     | 11--   | 9      | policy()*4             | 11--
.6        1     | 11--   | 9      | policy()*4 second()*1  | 9999
.6        1     | ----   | -      | policy()*4 second()*1  | ----
1         1     | 1111   | 9      | policy()*4             | 1111
"""


def text(answer: str) -> str:
    return "no idea" if answer == "-" else f"Answer: {answer}"


def shown(drafts: tuple[Draft, ...]) -> str:
    return "".join(conformance.answer_in(draft.text) or "-" for draft in drafts)


def candidates(drafts: tuple[Draft, ...]) -> list[Candidate]:
    return [Candidate("p", at, "arm", 0, draft, conformance.answer_in(draft.text)) for at, draft in enumerate(drafts)]


def world(policy: str, second: str = "", **more: dict[str, float]) -> TwoModels:
    return TwoModels({"policy": [*map(text, policy)], "second": [*map(text, second)]}, **more)


@pytest.mark.parametrize("line", SCHEDULE.strip().splitlines()[1:])
def test_schedule(line: str) -> None:
    settings, policy, second, asked, back = (cell.strip() for cell in line.split("|"))
    threshold, large = settings.split()
    both = world(policy, second)
    drafts = carry_out(Cascade(float(threshold), int(large)), both, 4)
    assert both.asked == asked.split()
    assert shown(drafts) == back
    assert sum(draft.weight for draft in drafts) == pytest.approx(4 if len(both.asked) == 1 else int(large))
    assert len(set(both.seeds)) == len(both.seeds)


def test_cut_off_leaves_what_the_policy_wrote() -> None:
    assert carry_out(Cascade(), world("1234"), 4, cut_at=0) == ()
    drafts = carry_out(Cascade(), world("1234"), 4, cut_at=1)
    assert shown(drafts) == "1234"
    assert [draft.weight for draft in drafts] == [1.0] * 4


def test_only_what_comes_back_is_scored() -> None:
    purchase = conformance.task(4, verified=True, second=True)
    both = world("1234", "9", scores={"Answer: 9": 0.7})
    drafts = carry_out(Cascade(), both, purchase)
    assert both.asked == ["policy()*4", "second()*1", "verifier(Answer: 9)"]
    assert [draft.step_scores for draft in drafts] == [(0.7,)] * 4
    cut = carry_out(Cascade(), world("1234", "9"), purchase, cut_at=2)
    assert (shown(cut), cut[0].step_scores) == ("9999", None)


def test_earlier_purchases_count_in_the_agreement() -> None:
    earlier = carry_out(Cascade(), world("1111"), 4)
    purchase = conformance.task(4, drawn=4, verified=False, second=True, earlier=earlier)
    agreed = world("1123")
    assert shown(carry_out(Cascade(), agreed, purchase)) == "1123"
    assert agreed.asked == ["policy()*4"]
    # The dear model's one response weighs 1 in all its copies, so it does not decide what the cheap one says.
    earlier = carry_out(Cascade(), world("1234", "9"), 4)
    purchase = replace(purchase, earlier=earlier)
    assert shown(carry_out(Cascade(), world("1119", "8"), purchase)) == "1119"
    assert shown(carry_out(Cascade(), world("1129", "8"), purchase)) == "8888"


def test_without_a_reader_the_last_step_is_the_answer() -> None:
    purchase = replace(conformance.task(2, verified=False, second=True), read=None)
    both = TwoModels({"policy": ["by this way\nso 4", "by that way\nso 4"]})
    assert len(carry_out(Cascade(), both, purchase)) == 2
    assert both.asked == ["policy()*2"]


drafts = st.lists(
    st.builds(
        lambda answer, weight: Draft(text(answer), (text(answer),), 1, Finish.END, weight=weight),
        st.sampled_from("123-"),
        st.floats(0.1, 1.0),
    ),
    min_size=1,
    max_size=12,
)


@given(drafts, st.integers(1, 30))
def test_agreement_is_a_share_and_copies_keep_it(written: list[Draft], n: int) -> None:
    task = conformance.task(1, verified=False)
    share = agreement(task, written)
    assert 0.0 <= share <= 1.0 + 1e-9
    assert agreement(task, written[::-1]) == pytest.approx(share)
    if n >= len(written):
        copies = repeated(written, n)
        assert len(copies) == n
        alone = agreement(task, [replace(draft, weight=1.0) for draft in written])
        assert agreement(task, copies) == pytest.approx(alone)
        assert sum(draft.weight for draft in copies) == pytest.approx(len(written))


@pytest.mark.parametrize("n", range(3, 10))
def test_what_the_second_model_says_most_often_is_what_comes_back_most_often(n: int) -> None:
    strategy = Cascade(1.0, 3)
    assert (strategy.check(n) is None) == (n % 3 == 0)
    if n % 3 == 0:
        drafts = carry_out(strategy, world("123456789"[:n], "788"), n)
        assert majority(candidates(drafts)).answer == "8"


@pytest.mark.parametrize("strategy", [Cascade(), Cascade(1.0, 4), Cascade(0.3, 3)], ids=str)
def test_conforms(strategy: Cascade) -> None:
    conformance.check_strategy(strategy, ns=(1, 2, 4, 6, 16))


def test_expected_work_is_between_the_two_ways_it_may_go() -> None:
    problem, response, n = 40.0, 20.0, 4
    work = Cascade(large=2).workload(n, Lengths(problem, response, 2.0), verified=True)
    assert (work.completion_tokens, work.unshared_prompt_tokens) == (n * response, n * problem)
    assert work.samples == n + ESCALATED * 2
    assert work.second_prompt_tokens == ESCALATED * problem
    assert work.second_completion_tokens == ESCALATED * 2 * response
    assert work.second_attended == ESCALATED * (attended(0.0, problem) + 2 * attended(problem, response))
    assert problem + 2 * response < work.verifier_tokens < problem + n * response
    both = Cascade().workload(n, Lengths(np.array([40.0, 1.0]), np.array([20.0, 2.0]), np.ones(2)), verified=False)
    assert np.shape(both.second_completion_tokens) == (2,)


@pytest.mark.parametrize(
    ("settings", "n", "rule"),
    [
        ({"threshold": 0.6}, 1, "use n: 2 or more"),
        ({"threshold": 0.25}, 4, "use n: 5 or more"),
        ({"large": 3}, 2, "large is 3: a purchase of n holds no more; use n: 3 or more"),
        ({"large": 3}, 4, "3 responses of the second model cannot fill equally; use n: 6 or another multiple of 3"),
        ({"large": 2, "threshold": 0.25}, 3, "use n: 6 or another multiple of 2"),
        ({"large": 2, "threshold": 0.25}, 4, "use n: 6 or more"),
    ],
)
def test_amounts_that_cannot_be(settings: dict[str, object], n: int, rule: str) -> None:
    reason = build_strategy("cascade", settings).check(n)
    assert reason is not None
    assert rule in reason
    advised = int(rule.rsplit("n: ", 1)[1].split()[0])
    assert build_strategy("cascade", settings).check(advised) is None


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"threshold": 0.0}, "threshold is 0; it must be above 0"),
        ({"threshold": 1.5}, "at most 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"large": 0}, "large is 0; it must be 1 or more"),
    ],
)
def test_refused_settings(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        build_strategy("cascade", settings)
