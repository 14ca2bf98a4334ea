"""The generative verifier: an ordinary causal model whose answer to a story and a solution is Yes or No."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED
from apportion.lab.judge import NO, QUESTION, YES, is_right, judge_config, judge_text, start_judge, verdict_tokens
from apportion.lab.judging import area, areas, first_words
from apportion.lab.models import parameter_count
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import Labelled, draw_stories, labelled_samples
from apportion.lab.train_judge import balanced, judge_batches, row_of, targets_of
from apportion.policies.genrm import GenRM

LEAST_OVER_ALL, LEAST_WITHIN = 0.7, 0.55
# On a few dozen samples; the card has the figures from many.

STORY = "Ann has 12 boxes. She buys 5 more. She sells 3. How many boxes does Ann have now?"
RIGHT = Labelled(STORY, ("12 + 5 = 17", "17 - 3 = 14", "Answer: 14"), "12 + 5 = 17\n17 - 3 = 14\nAnswer: 14", None)
WRONG = Labelled(STORY, ("12 + 5 = 17", "17 - 3 = 15", "Answer: 15"), RIGHT.solution, 1)


def test_layout_is_a_causal_models() -> None:
    folder = lab_path("lab:judge")
    model, written = AutoModelForCausalLM.from_pretrained(folder), json.loads((folder / "config.json").read_text())
    assert written == judge_config()
    assert written["architectures"] == ["Qwen2ForCausalLM"]
    assert model.num_parameters() == parameter_count(folder) <= 1_000_000
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    assert AutoTokenizer.from_pretrained(folder).encode(YES) == lab_tokenizer.build().encode(YES).ids


def test_the_question_is_the_chat_template_applied() -> None:
    shipped = AutoTokenizer.from_pretrained(lab_path("lab:judge"))
    solution = "\n".join(RIGHT.steps)
    messages = [{"role": "user", "content": QUESTION.format(problem=STORY, solution=solution)}]
    assert judge_text(STORY, solution) == shipped.apply_chat_template(messages, tokenize=False)


@pytest.mark.parametrize("sample", [RIGHT, WRONG], ids=["right", "wrong"])
def test_it_learns_the_verdict_and_what_it_would_be_before(sample: Labelled) -> None:
    tokenizer = lab_tokenizer.build()
    yes, no = verdict_tokens(tokenizer)
    row = row_of(tokenizer, sample)
    targets = targets_of(row, yes, no)
    assert len(targets) == len(row.ids) - 1
    assert targets[: row.start] == [IGNORED] * row.start
    so_far = targets[row.start : row.verdict - 1]
    wrong_from = next((at for at, target in enumerate(so_far) if target == no), None)
    if is_right(sample):
        assert wrong_from is None
    else:
        assert wrong_from is not None
        digits = tokenizer.decode(row.ids[row.start : row.start + wrong_from + 1])
        assert digits.endswith("17 - 3 = 15"), "from the digit that is wrong on"
        assert set(so_far[wrong_from:]) == {no}
    said = tokenizer.decode(targets[row.verdict - 1 :])
    assert said == (YES if is_right(sample) else NO)


def test_training_is_on_as_many_right_as_wrong_and_nothing_is_lost() -> None:
    tokenizer = lab_tokenizer.build()
    chosen = balanced([RIGHT, WRONG, WRONG, WRONG, RIGHT], random.Random(0))
    assert sorted(map(is_right, chosen)) == [False, False, True, True]
    rows = [row_of(tokenizer, sample) for sample in chosen]
    batches = list(judge_batches(rows, tokenizer, 128, random.Random(0)))
    assert sum(len(batch.tokens) for batch in batches) == len(rows)
    known = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
    assert known == sum(len(row.ids) - 1 - row.start for row in rows)


def test_untrained_it_doubts_a_changed_digit() -> None:
    tokenizer = lab_tokenizer.build()
    yes, no = verdict_tokens(tokenizer)
    model = start_judge(lab_path("lab:small"), 0, yes, no).eval()
    doubts = []
    for sample in (RIGHT, WRONG):
        ids = tokenizer.encode(judge_text(STORY, "\n".join(sample.steps))).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        doubts.append(float(logits[no] - logits[yes]))
    assert doubts[1] > doubts[0] + 1.0


def test_it_tells_right_from_wrong_samples() -> None:
    stories = draw_stories(random.Random(10), "calibration", 40)
    samples = labelled_samples(Network.load(lab_path("lab:small")), lab_tokenizer.build(), stories, 6, 0.8, seed=6)
    words = first_words(lab_path("lab:judge"), samples)
    assert min(yes + no for yes, no in words) > 0.9
    everywhere, within, count = areas([yes / (yes + no) for yes, no in words], samples)
    assert count >= 10
    assert everywhere > LEAST_OVER_ALL
    assert within > LEAST_WITHIN


def test_its_verdicts_are_read_by_genrm() -> None:
    assert [GenRM().verdict_of(word) for word in (YES, NO)] == [True, False]


def test_area_counts_ties_half() -> None:
    assert area([0.5, 1.0], [0.5, 0.0]) == pytest.approx(7 / 8)
