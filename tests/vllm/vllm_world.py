"""Stories to ask about, and tiny random reward models in the layouts of published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apportion.types import Message, Messages

PAD, EOS, UNKNOWN, SHEPHERD = "<pad>", "<end>", "<unk>", "ки"
TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}{{ '\\n' }}{% endfor %}"
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
CONTEXT = 256


def story(number: int) -> Messages:
    """A question whose answer is `number` + 3."""
    return (Message("user", f"Ann has {number} boxes. She buys 3 more. How many boxes does Ann have now?"),)


def solution(number: int, wrong: int = 0) -> tuple[str, ...]:
    """Its steps."""
    return (f"{number} + 3 = {number + 3 + wrong}", f"Answer: {number + 3 + wrong}")


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Single ASCII characters and Math-Shepherd's tag; the vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    specials = (PAD, EOS, UNKNOWN)
    tokens = [*specials, SHEPHERD, "\n", *map(chr, range(32, 127))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.add_tokens([AddedToken(SHEPHERD, special=False, normalized=False)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": EOS, "unk_token": UNKNOWN}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": EOS, "chat_template": TEMPLATE}))
    return vocabulary


def write_model(folder: Path, cls: str, model_type: str, **changes: Any) -> Path:
    """A random model of a transformers class, its weights large enough for logits that differ."""
    import torch
    import transformers

    vocabulary = write_tokenizer(folder)
    torch.manual_seed(5)
    settings = {
        **SHAPE,
        "num_key_value_heads": 1,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": vocabulary[EOS],
        "eos_token_id": vocabulary[EOS],
        "pad_token_id": vocabulary[PAD],
        "tie_word_embeddings": False,
        **changes,
    }
    model = getattr(transformers, cls)(transformers.AutoConfig.for_model(model_type, **settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4.0)
    model.save_pretrained(folder)
    return folder


def write_skywork(folder: Path) -> Path:
    """Qwen2 and a value head, stored as Skywork-o1-Open-PRM is."""
    import torch
    from safetensors.torch import load_file, save_file

    write_model(folder, "Qwen2ForCausalLM", "qwen2")
    weights = load_file(folder / "model.safetensors")
    weights["v_head.summary.weight"] = torch.randn(1, SHAPE["hidden_size"]) / 8
    weights["v_head.summary.bias"] = torch.tensor([0.25])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForPrmModel"]}))
    return folder
