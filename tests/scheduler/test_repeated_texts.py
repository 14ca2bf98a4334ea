"""Which candidates repeat the text of an earlier one: told where candidates are counted, and nowhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from job_world import World, make_prompts

from apportion.difficulty.objectives import Objective
from apportion.policies.registry import answer_type
from apportion.scheduler.finish import Finisher
from apportion.scheduler.prompt_state import PromptState
from apportion.types import Draft, Finish

ARMS = {arm.name: arm for arm in World(make_prompts(1)).arms}
TEXTS = st.lists(st.lists(st.sampled_from(["1", " 1", "1\n", "2", "", " "]), max_size=4), max_size=5)


def drafts(texts: list[str]) -> list[Draft]:
    return [Draft(text, (), 1, Finish.END) for text in texts]


@given(TEXTS)
def test_a_candidate_counts_the_earlier_ones_of_any_arm_with_its_text(purchases: list[list[str]]) -> None:
    finisher = Finisher(answer_type("number", {}), ARMS, Objective("quota", 2))
    state = PromptState(0, make_prompts(1)[0])
    for number, texts in enumerate(purchases):
        arm = ARMS["vote" if number % 2 else "best"]
        state.take(finisher.candidates(state, arm, number, drafts(texts)))
    bare = [one.draft.text.strip() for one in state.candidates]
    assert [one.repeats for one in state.candidates] == [bare[:at].count(text) for at, text in enumerate(bare)]


def test_where_nothing_is_counted_nothing_is_told() -> None:
    finisher, state = Finisher(answer_type("number", {}), ARMS), PromptState(0, make_prompts(1)[0])
    assert [one.repeats for one in finisher.candidates(state, ARMS["vote"], 0, drafts(["1", "1"]))] == [0, 0]
