"""The weak reward model: a valid one that knows hard problems from easy ones, not right solutions from wrong ones."""

import json
import random

from safetensors import safe_open

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.judging import within_stories
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm import Scorer
from apportion.lab.prm_data import draw_stories, labelled_samples

MOST_WITHIN_PROMPT = 0.6
"""The reward model is above it (tests/lab/test_prm.py); the card has the figures from many samples."""


def test_layout_is_the_reward_models() -> None:
    shapes = []
    for name in ("lab:prm", "lab:weak-prm"):
        with safe_open(lab_path(name) / "model.safetensors", framework="pt") as stored:
            shapes.append({key: stored.get_slice(key).get_shape() for key in stored.keys()})  # noqa: SIM118
    assert shapes[0] == shapes[1]
    configs = [json.loads((lab_path(name) / "config.json").read_text()) for name in ("lab:prm", "lab:weak-prm")]
    assert configs[0] == configs[1]


def test_it_scores_every_step_and_hardly_prefers_right_samples() -> None:
    stories = draw_stories(random.Random(10), "calibration", 40)
    samples = labelled_samples(Network.load(lab_path("lab:small")), lab_tokenizer.build(), stories, 8, 0.8, seed=6)
    scores = Scorer(lab_path("lab:weak-prm")).score([(sample.problem, sample.steps) for sample in samples])
    assert [len(steps) for steps in scores] == [len(sample.steps) for sample in samples]
    assert all(0.0 <= score <= 1.0 for steps in scores for score in steps)
    wins = within_stories([steps[-1] for steps in scores], samples, lambda sample: sample.first_wrong is None)
    assert len(wins) >= 10
    assert sum(wins) / len(wins) < MOST_WITHIN_PROMPT
