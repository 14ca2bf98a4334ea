"""The reward model: its folder's layout, its labels, and right steps told from wrong ones."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.judging import within_stories
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm import Scorer, prm_text, split_steps
from apportion.lab.prm_data import Labelled, draw_stories, first_wrong_step, labelled_samples
from apportion.lab.prm_start import start_model
from apportion.lab.scoring import PoolScorer
from apportion.lab.tokenizer import STEP, token_id
from apportion.lab.train_prm import THRESHOLD, process_bench

LEAST_F1 = 0.4
LEAST_WITHIN_PROMPT = 0.6
# On a few dozen samples; the card has the figures from many.


def test_layout_is_the_process_reward_models() -> None:
    folder = lab_path("lab:prm")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForProcessRewardModel"]
    assert (config["model_type"], config["num_labels"]) == ("qwen2", 2)
    hidden = config["hidden_size"]
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in list(stored.keys())}
    head = {name: shape for name, shape in shapes.items() if not name.startswith("model.")}
    assert head == {
        "score.0.weight": [hidden, hidden],
        "score.0.bias": [hidden],
        "score.2.weight": [2, hidden],
        "score.2.bias": [2],
    }


def test_text_is_the_chat_template_applied() -> None:
    shipped = AutoTokenizer.from_pretrained(lab_path("lab:prm"))
    steps = ["1 + 1 = 2", "Answer: 2"]
    messages = [{"role": "user", "content": "A story."}, {"role": "assistant", "content": STEP.join(steps) + STEP}]
    assert prm_text("A story.", steps) == shipped.apply_chat_template(messages, tokenize=False)


@pytest.mark.parametrize(
    ("text", "first_wrong", "labels"),
    [
        ("1 + 1 = 2\n2 + 3 = 5\nAnswer: 5", None, [1, 1, 1]),
        ("1 + 1 = 2\n2 + 3 = 6\nAnswer: 6", 1, [1, 0, 0]),
        ("1 + 1 = 2\n2 + 3 = 5\nAnswer: 6", 2, [1, 1, 0]),
        ("1 + 1 = 2\n2 + 3 = 5\n5 + 1 = 6\nAnswer: 6", 2, [1, 1, 0, 0]),
        ("1 + 1 = 2\nAnswer: 2", 1, [1, 0]),
    ],
)
def test_labels(text: str, first_wrong: int | None, labels: list[int]) -> None:
    steps = split_steps(text)
    assert first_wrong_step(steps, "1 + 1 = 2\n2 + 3 = 5\nAnswer: 5") == first_wrong
    assert Labelled("", tuple(steps), "", first_wrong).labels() == labels


def test_process_bench_counts_exact_positions() -> None:
    samples = [Labelled("", ("a", "b"), "", None), Labelled("", ("a", "b"), "", 1), Labelled("", ("a", "b"), "", 0)]
    result = process_bench([[0.9, 0.8], [0.9, 0.1], [0.7, 0.1]], samples, THRESHOLD)
    assert (result.correct, result.erroneous, result.passed, result.found) == (1, 2, 1.0, 0.5)
    assert result.f1 == pytest.approx(2 / 3)


def test_it_separates_right_from_wrong_steps_of_real_samples() -> None:
    stories = draw_stories(random.Random(9), "calibration", 24)
    network = Network.load(lab_path("lab:small"))
    samples = labelled_samples(network, lab_tokenizer.build(), stories, 4, 0.8, seed=5)
    scores = Scorer(lab_path("lab:prm")).score([(sample.problem, sample.steps) for sample in samples])
    assert [len(steps) for steps in scores] == [len(sample.steps) for sample in samples]
    by_label: dict[int, list[float]] = {0: [], 1: []}
    for sample, steps in zip(samples, scores, strict=True):
        for label, score in zip(sample.labels(), steps, strict=True):
            by_label[label].append(score)
    means = {label: sum(values) / len(values) for label, values in by_label.items()}
    assert means[1] - means[0] > 0.15
    assert process_bench(scores, samples, THRESHOLD).f1 > LEAST_F1


def test_it_prefers_the_right_samples_of_a_prompt() -> None:
    stories = draw_stories(random.Random(10), "calibration", 40)
    network = Network.load(lab_path("lab:small"))
    samples = labelled_samples(network, lab_tokenizer.build(), stories, 8, 0.8, seed=6)
    scores = Scorer(lab_path("lab:prm")).score([(sample.problem, sample.steps) for sample in samples])
    wins = within_stories([steps[-1] for steps in scores], samples, lambda sample: sample.first_wrong is None)
    assert len(wins) >= 10
    assert sum(wins) / len(wins) > LEAST_WITHIN_PROMPT


def test_untrained_it_sees_a_changed_digit() -> None:
    model = start_model(lab_path("lab:small"), seed=0).eval()
    tokenizer = lab_tokenizer.build()
    problem = "Ann has 12 boxes. She buys 5 more. How many boxes does Ann have now?"
    scores = []
    for steps in (["12 + 5 = 17", "Answer: 17"], ["12 + 5 = 18", "Answer: 18"]):
        tokens = torch.tensor([tokenizer.encode(prm_text(problem, steps)).ids])
        with torch.no_grad():
            logits = model(tokens, tokens == token_id(tokenizer, STEP))
        scores.append(logits.softmax(dim=-1)[:, 1].tolist())
    right, wrong = scores
    assert min(right) > THRESHOLD > max(wrong)


def test_pool_scorer_agrees_with_the_plain_one() -> None:
    folder, problem = lab_path("lab:prm"), "Ann has 12 boxes. She buys 5 more. How many boxes does Ann have now?"
    solutions = [["12 + 5 = 17", "Answer: 17"], ["12 + 5 = 18", "Answer: 18"], ["Answer: 3"], ["12 + 5 = 17"]]
    plain = Scorer(folder).score([(problem, steps) for steps in solutions])
    shared = PoolScorer(folder).score(problem, solutions)
    for one, other in zip(plain, shared, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
