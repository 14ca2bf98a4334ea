"""Shapes of the lab's models, and reading and writing them as ordinary Hugging Face folders.

Configurations are written by hand with the keys both transformers 4 and 5 understand, so that whichever version a
serving engine pins can load them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer

SAMPLING_TEMPERATURE: Final = 0.8
ROPE_THETA: Final = 10000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of one Qwen2 model and the type its weights are stored in."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    dtype: str
    context: int = lab_tokenizer.CONTEXT


SHAPES: Final = {
    "small": Shape(hidden=96, layers=4, heads=3, kv_heads=1, intermediate=256, dtype="float32"),
    "large": Shape(hidden=256, layers=6, heads=8, kv_heads=1, intermediate=736, dtype="bfloat16"),
    "reviser": Shape(hidden=96, layers=4, heads=3, kv_heads=1, intermediate=256, dtype="bfloat16", context=1280),
}


def config_of(shape: Shape) -> dict[str, Any]:
    """The contents of config.json for a causal model."""
    tokenizer = lab_tokenizer.build()
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "max_window_layers": shape.layers,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-6,
        "rope_theta": ROPE_THETA,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": lab_tokenizer.token_id(tokenizer, lab_tokenizer.EOS),
        "pad_token_id": lab_tokenizer.token_id(tokenizer, lab_tokenizer.PAD),
        "torch_dtype": shape.dtype,
    }


def new_model(shape: Shape, seed: int, attention: str = "sdpa") -> Qwen2ForCausalLM:
    """A freshly initialised float32 model."""
    torch.manual_seed(seed)
    config = Qwen2Config(**{**config_of(shape), "torch_dtype": "float32"})
    config._attn_implementation = attention
    return Qwen2ForCausalLM(config)


def load_model(folder: Path) -> Qwen2ForCausalLM:
    """A shipped or exported model in float32, ready to evaluate."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def write_folder(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """config.json, model.safetensors and the tokenizer, replacing what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, config["torch_dtype"])
    stored = {name: weight.detach().to(dtype).contiguous() for name, weight in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    lab_tokenizer.save(folder, config["max_position_embeddings"])


def stored_weights(model: Qwen2ForCausalLM) -> dict[str, torch.Tensor]:
    """A causal model's weights, the head left out: it is the embedding."""
    return {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}


def export(model: Qwen2ForCausalLM, shape: Shape, folder: Path) -> None:
    """Write a causal model as a Hugging Face folder."""
    config = config_of(shape)
    write_folder(folder, config, stored_weights(model))
    write_generation(folder, config)


def write_generation(folder: Path, config: dict[str, Any]) -> None:
    """How a causal model with this config.json is sampled unless one says otherwise."""
    generation = {
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "do_sample": True,
        "temperature": SAMPLING_TEMPERATURE,
        "top_p": 1.0,
        # 0 switches it off; left out, transformers would cut to the 50 most likely tokens.
        "top_k": 0,
        "max_new_tokens": 256,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def parameter_count(folder: Path) -> int:
    """Stored parameters of a model folder, tied weights once."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in list(stored.keys())]
    return sum(int(torch.Size(shape).numel()) for shape in shapes)
