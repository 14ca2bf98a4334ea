"""The shipped models: sizes, loading by transformers alone, and the sampler agreeing with transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.models import SHAPES, config_of, parameter_count
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.sampling import complete

PROBLEMS = [
    "Ann has 12 boxes. She buys 5 more. How many boxes does Ann have now?",
    "Dan has 9 cups. He loses 4. Eve has 3 pens. He wins 6. He doubles them. How many cups does Dan have now?",
]


def test_sizes() -> None:
    small, large, prm = (parameter_count(lab_path(f"lab:{name}")) for name in ("small", "large", "prm"))
    assert small <= 1_000_000
    assert prm <= 1_000_000
    assert large >= 10 * small


@pytest.mark.parametrize("name", ["small", "large", "reviser"])
def test_loads_with_auto_classes(name: str) -> None:
    folder = lab_path(f"lab:{name}")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert json.loads((folder / "config.json").read_text()) == config_of(SHAPES[name])
    assert model.num_parameters() == parameter_count(folder)
    assert str(model.dtype) == f"torch.{SHAPES[name].dtype}"
    assert model.generation_config.eos_token_id == AutoTokenizer.from_pretrained(folder).eos_token_id
    assert model.generation_config.temperature == 0.8


@pytest.mark.parametrize("name", ["small", "large", "reviser"])
def test_sampler_agrees_with_transformers(name: str) -> None:
    folder = lab_path(f"lab:{name}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shipped = AutoTokenizer.from_pretrained(folder)
    ours = complete(Network.load(folder), lab_tokenizer.build(), PROBLEMS, 3, 0.0, seed=0)
    for problem, rows in zip(PROBLEMS, ours, strict=True):
        prompt = shipped.apply_chat_template(
            [{"role": "user", "content": problem}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        whole = model.generate(**prompt, do_sample=False, max_new_tokens=128)[0]
        text = shipped.decode(whole[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert [row.text for row in rows] == [text] * 3


def test_sampling_depends_on_the_seed_alone() -> None:
    network, built = Network.load(lab_path("lab:small")), lab_tokenizer.build()
    first, again, other = (complete(network, built, PROBLEMS, 16, 1.5, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", ["small", "large"])
def test_models_answer_short_stories(name: str) -> None:
    rows = complete(Network.load(lab_path(f"lab:{name}")), lab_tokenizer.build(), PROBLEMS, 16, 0.8, seed=0)
    expected = ["12 + 5 = 17\nAnswer: 17", "9 - 4 = 5\n5 + 6 = 11\n11 * 2 = 22\nAnswer: 22"]
    for solution, drawn in zip(expected, rows, strict=True):
        assert sum(done.text == solution for done in drawn) >= 8


def test_weights_are_finite() -> None:
    for name in ("small", "large", "prm", "reviser"):
        weights = load_file(lab_path(f"lab:{name}") / "model.safetensors")
        assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())
