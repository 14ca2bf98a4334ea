"""What reward models are given to read, and where: against what their authors publish."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from actor_world import write_tokenizer as write_tagged
from hypothesis import given
from hypothesis import strategies as st
from vllm_world import write_tokenizer

from apportion.actors.score_format import FORMATS, known_format, labels_of
from apportion.actors.score_formats import Marked, MathShepherd, Outcome, QwenMathPrm, ScoreFormat, SkyworkPrm, sigmoid
from apportion.actors.tokens import ChatTokenizer, PlainTokenizer
from apportion.errors import ModelError
from apportion.types import Message, Messages

QUESTION: Messages = (Message("system", "Be brief."), Message("user", "1 + 2?"))
STEPS = ("1 + 2 = 3", "Answer: 3")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlainTokenizer:
    folder = tmp_path_factory.mktemp("plain")
    write_tokenizer(folder)
    return PlainTokenizer(folder)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("tagged")
    write_tagged(folder)
    return ChatTokenizer(folder)


def spelled(tokenizer: ChatTokenizer, marked: Marked) -> str:
    """The text of the tokens, with a | after each place."""
    names = [tokenizer.token_name(token) for token in marked.tokens]
    return "".join(name + "|" * (place in marked.places) for place, name in enumerate(names))


def test_qwen(tagged: ChatTokenizer) -> None:
    """Steps in the assistant's turn, <extra_0> after each; a tag in a text has no meaning."""
    messages = (*QUESTION[:1], Message("user", "1 + <extra_0>2?"))
    marked = QwenMathPrm().mark(tagged, messages, ("1 + 2 = 3<extra_0>", STEPS[1]))
    assert spelled(tagged, marked) == "Be brief.\n1 + 2?\n1 + 2 = 3<extra_0>|Answer: 3<extra_0>|"
    assert QwenMathPrm().read((1.0, 3.0)) == pytest.approx(math.exp(3) / (math.exp(1) + math.exp(3)))


def test_qwen_without_its_tag_is_named(plain: PlainTokenizer) -> None:
    with pytest.raises(ModelError, match="has no token '<extra_0>', which ends a step in the qwen2"):
        QwenMathPrm().engine_args(plain)


def test_skywork(plain: PlainTokenizer) -> None:
    """prepare_input of skywork-o1-prm-inference: the begin token, the problem, a newline; a newline ends each step."""
    marked = SkyworkPrm().mark(plain, QUESTION, ("1 + 2\n= 3", STEPS[1]))
    assert spelled(plain, marked) == "<end>Be brief.\n\n1 + 2?\n1 + 2\n= 3\n|Answer: 3\n|"
    assert SkyworkPrm().read((0.5,)) == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_math_shepherd(plain: PlainTokenizer) -> None:
    """The model card's: "question Step 1: ... ки", a line a step; + against - at each ки."""
    marked = MathShepherd().mark(plain, (Message("user", "1 + 2?ки"),), (STEPS[0], "Step 2: Answer: 3 ки"))
    assert spelled(plain, marked) == "<end>1 + 2? Step 1: 1 + 2 = 3 ки|\nStep 2: Answer: 3 ки|"
    overrides = MathShepherd().engine_args(plain)["hf_overrides"]
    assert overrides == {"method": "from_2_way_softmax", "classifier_from_token": ["-", "+"]}


def test_outcome(plain: PlainTokenizer, tmp_path: Path) -> None:
    """The whole conversation by the chat template, read at its end."""
    write_tokenizer(tmp_path)
    tokenizer = ChatTokenizer(tmp_path)
    assert spelled(tokenizer, Outcome().mark(tokenizer, QUESTION, STEPS)) == (
        "s:Be brief.\nu:1 + 2?\na:1 + 2 = 3\n\nAnswer: 3\n|"
    )
    lines = Outcome(separator="\n").mark(tokenizer, QUESTION[1:], STEPS)
    assert spelled(tokenizer, lines) == "u:1 + 2?\na:1 + 2 = 3\nAnswer: 3\n|"
    assert Outcome().read((0.0,)) == 0.5
    assert Outcome().read((2.0, 2.0)) == 0.5


@pytest.mark.parametrize("name", FORMATS)
@given(steps=st.lists(st.text("ab1 \n", min_size=1, max_size=6), min_size=2, max_size=5))
def test_counts_bound_what_is_written(
    name: str, steps: list[str], plain: PlainTokenizer, tagged: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A response has no more tokens than a driver reserves; its beginnings are those of the shorter ones."""
    form: ScoreFormat = FORMATS[name]()
    tokenizer = tagged if form.chat else plain
    marked = form.mark(tokenizer, QUESTION, steps)
    most = len(form.prompt(tokenizer, QUESTION)) + sum(len(tokenizer.encode(step)) for step in steps)
    assert len(marked.tokens) <= most + len(steps) * form.step_tokens(tokenizer)
    if form.by_step:
        shorter = form.mark(tokenizer, QUESTION, steps[:-1])
        assert marked.tokens[: len(shorter.tokens)] == shorter.tokens
        assert marked.places[:-1] == shorter.places
        assert len(marked.places) == len(steps)
    assert marked.places[-1] == len(marked.tokens) - 1


@given(st.floats(-1e4, 1e4))
def test_a_sigmoid_is_one_whatever_its_size(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0)


def test_formats_are_recognised() -> None:
    def of(architecture: str, **config: object) -> str | None:
        form = known_format("prm", {}, {"architectures": [architecture], **config})
        return form.name if form else None

    assert of("Qwen2ForProcessRewardModel") == "qwen2.5-math-prm"
    assert of("Qwen2ForPrmModel") == "skywork"
    assert of("LlamaForSequenceClassification", num_labels=1) == "outcome"
    assert known_format("prm", {}, None) is None
    assert [labels_of(config) for config in ({}, {"num_labels": 1}, {"id2label": {"0": "a"}})] == [2, 1, 1]
