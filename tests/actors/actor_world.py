"""Tiny models with random weights in real model folders, and specs of fakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apportion.actors.spec import ModelSpec, Role
from apportion.types import Message, Messages

PAD, EOS, UNKNOWN, TAG = "<pad>", "<end>", "<unk>", "<extra_0>"
WORDS = (" has", " boxes", " now", " many", "Answer")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] != 'assistant' %}{{ '\\n' }}{% endif %}{% endfor %}"
)
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def conversation(text: str) -> Messages:
    return (Message("user", text),)


def fake(name: str = "policy", role: Role = Role.POLICY, replicas: int = 1, **engine_args: Any) -> ModelSpec:
    return ModelSpec(name, "fake", role, "none", replicas=replicas, engine_args=engine_args)


def write_tokenizer(folder: Path) -> dict[str, int]:
    """A tokenizer of single ASCII characters and a few words; its vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    specials = (PAD, EOS, UNKNOWN, TAG)
    tokens = [*specials, "\n", *map(chr, range(32, 127)), *WORDS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join((*WORDS, r"[\s\S]"))), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": EOS, "unk_token": UNKNOWN}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": CHAT_TEMPLATE}))
    return vocabulary


def write_policy(folder: Path, model_type: str = "qwen2", sharpness: float = 3.0, **changes: Any) -> Path:
    """A random causal model of any transformers type with the lab's tokenizer, saved as a user's would be."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = write_tokenizer(folder)
    settings = {
        **SHAPE,
        "num_key_value_heads": 2,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": vocabulary[EOS],
        "pad_token_id": vocabulary[PAD],
        "tie_word_embeddings": True,
    }
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**settings, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(sharpness)
    model.save_pretrained(folder)
    return folder


def write_prm(folder: Path) -> Path:
    """A random process reward model in the layout of Qwen2ForProcessRewardModel."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2Model

    vocabulary = write_tokenizer(folder)
    torch.manual_seed(3)
    config = Qwen2Config(**SHAPE, num_key_value_heads=2, vocab_size=len(vocabulary), max_position_embeddings=256)
    model = Qwen2Model(config)
    width = SHAPE["hidden_size"]
    head = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))
    weights = {f"model.{name}": weight * 4 for name, weight in model.state_dict().items()}
    weights |= {f"score.{name}": weight for name, weight in head.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({**config.to_dict(), "architectures": ["Qwen2ForProcessRewardModel"], "num_labels": 2})
    )
    return folder
