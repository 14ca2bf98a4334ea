"""Describing model folders from their files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from actor_world import conversation

from apportion.actors.describe import describe, tensor_sizes
from apportion.actors.parameters import active_parameters
from apportion.actors.registry import describe as describe_model
from apportion.actors.registry import kind_of
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.errors import EngineError, ModelError
from apportion.types import Message


def spec_of(folder: Path, role: Role = Role.POLICY, engine: str = "embedded", **engine_args: object) -> ModelSpec:
    return ModelSpec("m", engine, role, str(folder), engine_args=engine_args)


def write_weights(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, file)


def with_architecture(policy_folder: Path, folder: Path, architecture: str) -> Path:
    """A copy of a model folder whose config.json names another architecture."""
    shutil.copytree(policy_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    return folder


def check(spec: ModelSpec) -> None:
    """What an engine says of a config that names such a model."""
    look = kind_of(spec).check
    assert look is not None
    look(spec, Unit.TOKENS, False, False)


def test_profile_counts_what_is_multiplied(policy_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy_folder)
    profile = describe(spec_of(policy_folder)).profile()
    # The head is tied to the lookup, so all of the parameters are multiplied once.
    assert profile.active_parameters == sum(weight.numel() for weight in model.parameters())
    assert (profile.layers, profile.attention_width, profile.context, profile.gpus) == (2, 32, 256, 1.0)


def test_a_part_of_a_gpu_is_billed_as_that_part(policy_folder: Path) -> None:
    bills = {gpus: describe(replace(spec_of(policy_folder), gpus=gpus)).profile().gpus for gpus in (0.0, 0.5, 2.0)}
    assert bills == {0.0: 1.0, 0.5: 0.5, 2.0: 2.0}


def test_a_template_that_refuses_a_conversation_says_why(policy_folder: Path) -> None:
    template = "{{ raise_exception('no system turn') if messages[0].role == 'system' }}{{ messages[0].content }}"
    described = describe(spec_of(policy_folder, chat_template=template))
    assert described.count_prompt(conversation("1 2")) > 0
    with pytest.raises(EngineError, match=r"turns system, user: no system turn"):
        described.count_prompt((Message("system", "Be kind."), Message("user", "1")))


def test_lookup_is_left_out_and_head_is_in(tmp_path: Path) -> None:
    shapes = {"model.embed_tokens.weight": (10, 4), "lm_head.weight": (10, 4), "model.layers.0.mlp.weight": (4, 8)}
    write_weights(tmp_path / "model.safetensors", shapes)
    tensors = list(tensor_sizes(tmp_path / "model.safetensors"))
    assert active_parameters({}, tensors, Role.POLICY) == 40 + 32
    assert active_parameters({}, tensors, Role.SCORER) == 32


def test_a_mixture_counts_the_experts_a_token_visits(tmp_path: Path) -> None:
    experts = {f"model.layers.0.mlp.experts.{index}.w.weight": (4, 5) for index in range(8)}
    write_weights(tmp_path / "a.safetensors", {"lm_head.weight": (10, 4), **experts})
    write_weights(tmp_path / "b.safetensors", {"model.layers.0.mlp.shared_expert.w.weight": (3, 3)})
    config = {"num_experts": 8, "num_experts_per_tok": 2}
    tensors = [entry for file in sorted(tmp_path.glob("*.safetensors")) for entry in tensor_sizes(file)]
    assert active_parameters(config, tensors, Role.POLICY) == 40 + 2 * 20 + 9


def test_a_model_that_lacks_files_of_its_index_is_named(policy_folder: Path, tmp_path: Path) -> None:
    """A download that was cut short would count fewer parameters, and cost less."""
    folder = tmp_path / "cut"
    shutil.copytree(policy_folder, folder)
    whole = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": whole}))
    with pytest.raises(ModelError, match=r"has no model-00002-of-00002\.safetensors \(1 files"):
        describe(spec_of(folder))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    assert describe(spec_of(folder)).profile().layers == 2
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="is no index of weights"):
        describe(spec_of(folder))


@pytest.mark.parametrize(
    ("architecture", "role"),
    [
        ("Qwen2ForProcessRewardModel", "process reward model: `role: scorer` runs it;"),
        ("Qwen2ForPrmModel", "process reward model: `role: scorer` runs it;"),
        ("LlamaForSequenceClassification", "classifier or reward model: `role: scorer` runs it, with engine: vllm;"),
        ("InternLM2ForRewardModel", "classifier or reward model: `role: scorer` runs it, with engine: vllm;"),
        ("BertForMaskedLM", "of no role here;"),
    ],
)
@pytest.mark.parametrize("engine", ["embedded", "vllm"])
def test_a_policy_that_cannot_write_is_refused(
    policy_folder: Path, tmp_path: Path, architecture: str, role: str, engine: str
) -> None:
    folder = with_architecture(policy_folder, tmp_path / "other", architecture)
    spec = spec_of(folder, engine=engine)
    for look in (describe_model, check):
        with pytest.raises(ModelError, match=rf"models\.m: .*has the architecture {architecture}, .*{role}.*causal"):
            look(spec)
    # Its hidden states are there.
    assert describe_model(replace(spec, role=Role.EMBEDDER)).profile().layers == 2


@pytest.mark.parametrize(
    "architecture", ["Phi3ForCausalLM", "GPT2LMHeadModel", "Gemma3ForConditionalGeneration", "Odd"]
)
@pytest.mark.parametrize("engine", ["embedded", "vllm"])
def test_what_may_write_is_described(policy_folder: Path, tmp_path: Path, architecture: str, engine: str) -> None:
    folder = with_architecture(policy_folder, tmp_path / "other", architecture)
    check(spec_of(folder, engine=engine))
    assert describe_model(spec_of(folder, engine=engine)).profile().layers == 2


def test_an_architecture_that_vllm_is_told_instead_counts(policy_folder: Path, tmp_path: Path) -> None:
    folder = with_architecture(policy_folder, tmp_path / "other", "Qwen2ForRewardModel")
    told = spec_of(folder, engine="vllm", hf_overrides={"architectures": ["Qwen2ForCausalLM"]})
    assert describe_model(told).profile().layers == 2
    with pytest.raises(ModelError, match="has the architecture Qwen2ForRewardModel"):
        describe_model(replace(told, engine_args={"hf_overrides": {"rope_theta": 1.0}}))


def test_context_is_the_least_of_what_limits_it(policy_folder: Path, tmp_path: Path) -> None:
    assert describe(spec_of(policy_folder, max_model_len=100)).profile().context == 100
    assert describe(spec_of(policy_folder, max_model_len=10_000)).profile().context == 256
    folder = tmp_path / "sliding"
    shutil.copytree(policy_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert describe(spec_of(folder)).profile().context == 64
    assert describe(spec_of(folder, engine="vllm")).profile().context == 256


def test_counts_are_the_tokenizers(policy_folder: Path) -> None:
    described = describe(spec_of(policy_folder))
    # "A", "n", "n", " has", " ", "1", "2", " boxes", "." and the template's newline
    assert described.count_prompt(conversation("Ann has 12 boxes.")) == 10
    assert described.count_text(" boxes\n") == 2


def test_describing_and_counting_import_no_torch(policy_folder: Path) -> None:
    code = (
        "import sys; from apportion.actors.describe import describe; "
        "from apportion.actors.spec import ModelSpec, Role; "
        f"d = describe(ModelSpec('m', 'embedded', Role.POLICY, {str(policy_folder)!r})); d.count_text('x'); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("remove", "rule"),
    [
        (".", r"there is no folder.*give a local model folder"),
        ("config.json", r"has no config.json.*point `model` at"),
        ("model.safetensors", r"no \*\.safetensors.*convert"),
        ("tokenizer.json", r"has no tokenizer; copy"),
    ],
)
def test_what_is_missing_is_named(policy_folder: Path, tmp_path: Path, remove: str, rule: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    target = folder / remove
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    with pytest.raises(ModelError, match=rule):
        describe(spec_of(folder))


def test_broken_files_are_named(policy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError, match="no safetensors file"):
        describe(spec_of(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        describe(spec_of(folder))
