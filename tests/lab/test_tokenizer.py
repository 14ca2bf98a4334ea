"""The tokenizer: exact round trips, one token a word and a digit, and the files the models ship."""

import random
import string

import pytest
from transformers import AutoTokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.paths import lab_path
from apportion.lab.stories import training_stories
from apportion.lab.tokenizer import CONTEXT, EOS, STEP

ODD_TEXTS = [
    string.printable,
    "Annex xAnn  12  34",
    "caf\u00e9 \u4e2d\u6587 \U0001f600",
    "",
    "\n\n\t x '",
]


def story_texts(count: int) -> list[str]:
    stream = training_stories(random.Random(0))
    return [f"{story.problem}\n{story.solution}" for story, _ in zip(stream, range(count), strict=False)]


@pytest.mark.parametrize("model", ["small", "large", "prm", "reviser"])
def test_shipped_tokenizer_is_the_one_the_models_were_trained_with(model: str) -> None:
    built = lab_tokenizer.build()
    shipped = AutoTokenizer.from_pretrained(lab_path(f"lab:{model}"))
    for text in [*story_texts(50), *ODD_TEXTS]:
        ids = shipped(text)["input_ids"]
        assert ids == built.encode(text).ids
        assert shipped.decode(ids) == text
    assert shipped.eos_token == EOS
    assert shipped.convert_tokens_to_ids(STEP) == built.token_to_id(STEP)
    assert len(shipped) == built.get_vocab_size()


def test_words_and_digits_are_single_tokens_and_stories_fit() -> None:
    built = lab_tokenizer.build()
    assert built.encode("Ann has 12 boxes.\n").tokens == [
        "Ann",
        "\u0120has",
        "\u0120",
        "1",
        "2",
        "\u0120boxes",
        ".",
        "\u010a",
    ]
    assert max(len(encoding.ids) for encoding in built.encode_batch(story_texts(500))) < CONTEXT - 100


def test_chat_template() -> None:
    shipped = AutoTokenizer.from_pretrained(lab_path("lab:small"))
    user = {"role": "user", "content": "Ann has 1 box."}
    reply = {"role": "assistant", "content": f"1 + 1 = 2{STEP}"}
    asked = shipped.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert asked == "Ann has 1 box.\n"
    assert shipped.apply_chat_template([user, reply], tokenize=False) == f"Ann has 1 box.\n1 + 1 = 2{STEP}"
