"""The process reward model: a Qwen2 decoder with a two-layer head read at every `<extra_0>`.

Weight names and configuration are those of Qwen2.5-Math-PRM (`model.*`, `score.0.*`, `score.2.*`), which serving
engines know as `Qwen2ForProcessRewardModel`. A step's score is the probability, after reading the step, that every
step so far is right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen2Config, Qwen2Model

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import padded
from apportion.lab.models import Shape, config_of, write_folder
from apportion.lab.tokenizer import PAD, STEP, token_id

PRM_SHAPE: Final = Shape(hidden=128, layers=6, heads=4, kv_heads=1, intermediate=256, dtype="float32")
# The small policy's four layers, room beside its hidden state, and two layers that judge: see `prm_start`.

SCORING_TOKENS: Final = 16384
# Per forward pass: large enough to hide overheads, small enough for the processor's cache to matter little.


def split_steps(text: str) -> list[str]:
    """A completion's steps: its lines that are not empty, the `Answer:` line being the last."""
    return [line for line in text.split("\n") if line.strip()]


def prm_text(problem: str, steps: Sequence[str]) -> str:
    """What the model reads: the chat template applied to the problem and its tagged steps."""
    return f"{problem}\n" + "".join(f"{step}{STEP}" for step in steps)


def prm_config() -> dict[str, Any]:
    """The contents of the reward model's config.json."""
    return {
        **config_of(PRM_SHAPE),
        "architectures": ["Qwen2ForProcessRewardModel"],
        "num_labels": 2,
        "tie_word_embeddings": False,
        "use_cache": False,
    }


class ProcessRewardModel(nn.Module):
    """Two logits, wrong and right, at every position."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        hidden: int = config.hidden_size
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, tokens: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits `[wanted positions, 2]` of right-padded `tokens`, `[rows, length]` like the mask `wanted`."""
        hidden = self.model(input_ids=tokens, use_cache=False).last_hidden_state
        logits: torch.Tensor = self.score(hidden[wanted])
        return logits


def new_prm(attention: str = "sdpa") -> ProcessRewardModel:
    """An untrained reward model."""
    config = Qwen2Config(**{**prm_config(), "torch_dtype": "float32"})
    config._attn_implementation = attention
    return ProcessRewardModel(config)


def load_prm(folder: Path) -> ProcessRewardModel:
    """A shipped reward model in float32, ready to score."""
    model = new_prm()
    model.load_state_dict({name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()})
    model.eval()
    return model


def export_prm(model: ProcessRewardModel, folder: Path) -> None:
    """Write the reward model as a Hugging Face folder."""
    write_folder(folder, prm_config(), dict(model.state_dict()))


class Scorer:
    """Scores the steps of many solutions, longest with longest, without gradients."""

    def __init__(self, folder: Path) -> None:
        self.model = load_prm(folder)
        self.tokenizer: Tokenizer = lab_tokenizer.build()

    @torch.inference_mode()
    def score(self, solutions: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """Per (problem, steps) the score of every step."""
        encoded = self.tokenizer.encode_batch([prm_text(problem, steps) for problem, steps in solutions])
        ids = [encoding.ids for encoding in encoded]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        scores: list[list[float]] = [[] for _ in ids]
        tag, pad = token_id(self.tokenizer, STEP), token_id(self.tokenizer, PAD)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(ids[order[stop]]) * (stop + 1 - start) <= SCORING_TOKENS:
                stop += 1
            group = order[start:stop]
            tokens = padded([ids[index] for index in group], pad)
            wanted = tokens == tag
            right = self.model(tokens, wanted).softmax(dim=-1)[:, 1].tolist()
            for index, count in zip(group, wanted.sum(dim=1).tolist(), strict=True):
                scores[index], right = right[:count], right[count:]
            start = stop
        return scores
