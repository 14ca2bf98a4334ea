"""The reward model's first weights: every token compared with what the small policy expected, by construction.

`comparison` has how. The head turns the largest surprise of the solution so far into two logits; training goes on from
there.
"""

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.comparison import (
    CLASSES,
    NEWLINE,
    Layout,
    Weights,
    blank_layer,
    class_rows,
    compare,
    expect,
    gather,
    mark_tokens,
    widened,
)
from apportion.lab.models import SHAPES
from apportion.lab.prm import PRM_SHAPE, ProcessRewardModel, new_prm
from apportion.lab.tokenizer import STEP, token_id

PRM: Final = Layout(SHAPES["small"], PRM_SHAPE, CLASSES, rms=37.0, code_size=0.4, code_gain=92.0, logit_size=3.7)


def _read(state: Weights) -> None:
    """A head whose logits differ by the surprise in nats less two."""
    state["model.norm.weight"].fill_(1.0)
    state["score.0.weight"][0] = 0
    state["score.0.weight"][0, PRM.surprise] = PRM.nat
    state["score.0.bias"].zero_()
    state["score.2.weight"].mul_(0.1)
    state["score.2.weight"][:, 0] = torch.tensor([0.5, -0.5])
    state["score.2.bias"].copy_(torch.tensor([-1.0, 1.0]))


def start_widened(small: Path, seed: int, attention: str) -> tuple[ProcessRewardModel, Weights]:
    """An untrained reward model whose first layers are those of the policy in the folder `small`; its weights there."""
    torch.manual_seed(seed)
    model = new_prm(attention)
    state, old = model.state_dict(), load_file(small / "model.safetensors")
    for name, weight in old.items():
        if name != "model.norm.weight":
            state[name].copy_(widened(PRM, name, weight, state[name].shape))
    return model, old


@torch.no_grad()
def start_model(small: Path, seed: int, attention: str = "sdpa") -> ProcessRewardModel:
    """The reward model built on the policy in the folder `small`, to be trained."""
    tokenizer = lab_tokenizer.build()
    model, old = start_widened(small, seed, attention)
    state = model.state_dict()
    embedding = state["model.embed_tokens.weight"]
    # A step tag stands where solutions have a newline.
    newline, tag = tokenizer.encode(NEWLINE).ids[0], token_id(tokenizer, STEP)
    ids = mark_tokens(PRM, embedding, tokenizer, newline, tag)
    comparing, gathering = blank_layer(PRM, state, PRM.comparing), blank_layer(PRM, state, PRM.gathering)
    expect(PRM, comparing, old["model.norm.weight"], class_rows(PRM, old["model.embed_tokens.weight"], tokenizer, ids))
    compare(PRM, comparing)
    gather(PRM, gathering)
    _read(state)
    return model
