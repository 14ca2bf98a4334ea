"""The reward model's first weights: every token compared with what the small policy expected, by construction.

The small policy's four layers keep their function in the first 96 dimensions of a wider residual stream. In the 32 new
ones the first layer on top writes, at every token, the logits that the token before predicted for it, and its
feed-forward units add up by how much other tokens were expected more: the token's surprise. The layer after that lets
every position look at the largest surprise of the solution so far, and the head turns it into two logits. Training
starts from there, because plain gradient descent hardly finds the comparison.
"""

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.models import ROPE_THETA, SHAPES
from apportion.lab.prm import PRM_SHAPE, ProcessRewardModel, new_prm
from apportion.lab.stories import NAMES
from apportion.lab.tokenizer import EOS, STEP, token_id

CLASSES: Final = (*"0123456789", " +", " -", " *", " =", "\n")
# The tokens of solutions that can be wrong; the others always follow from the one before.

OLD: Final = SHAPES["small"].hidden
COUNT: Final = len(CLASSES)
CODE: Final = OLD
PLACE: Final = CODE + COUNT
LOGIT: Final = PLACE + 1
SURPRISE: Final = LOGIT + COUNT
# Where things are in the residual stream: which class the token is, whether it is in the problem, the expected logits
# of the classes, and the surprise.

COMPARING: Final = SHAPES["small"].layers
GATHERING: Final = COMPARING + 1
HEAD_DIM: Final = PRM_SHAPE.hidden // PRM_SHAPE.heads
HALF: Final = HEAD_DIM // 2

RMS: Final = 37.0
# Of the residual stream after the small policy's layers.

CODE_SIZE: Final = 0.4
CODE_GAIN: Final = 92.0
# Codes are too small to disturb the small policy's norms, and enlarged to about one where they are read.

LOGIT_SCALE: Final = RMS / 10
NAT: Final = RMS / LOGIT_SCALE
# Of a logit in the residual stream, and the weight that reads one from the normed stream.

PREVIOUS: Final = 10.0
NEWLINE: Final = 9.0
# Attention biases, sharp enough for the token before, and for the newline after the problem, to get all the weight.

HIDDEN_IN_PROBLEM: Final = 60.0
UNSEEN_IN_PROBLEM: Final = 20.0
# How much the units and the gathering attention are held down in the problem, where nothing was predicted in earnest.


def widened(name: str, old: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A weight of the small policy in the reward model's wider shape."""
    if name.endswith("norm.weight"):
        new = torch.ones(shape)
        # The same sum of squares is a smaller mean over more dimensions.
        new[:OLD] = old * (OLD / PRM_SHAPE.hidden) ** 0.5
        return new
    new = torch.zeros(shape)
    new[tuple(slice(size) for size in old.shape)] = old
    return new


def _mark_tokens(embedding: torch.Tensor, tokenizer: Tokenizer) -> list[int]:
    """Write the codes into the embeddings; the ids of the classes, the step tag standing for the newline."""
    newline, tag = tokenizer.encode("\n").ids[0], token_id(tokenizer, STEP)
    embedding[tag, :OLD] = embedding[newline, :OLD]
    ids = [tag if one == "\n" else tokenizer.encode(one).ids[0] for one in CLASSES]
    for index, one in enumerate(ids):
        embedding[one, CODE + index] = CODE_SIZE
    # Every token looks for the first newline, or else for the name that opens the problem, which tells the two apart.
    embedding[newline, PLACE] = 2 * CODE_SIZE
    for name in NAMES:
        first = tokenizer.encode(name).ids[0]
        embedding[first, PLACE] = embedding[first, CODE] = CODE_SIZE
    return ids


def blank_layer(state: dict[str, torch.Tensor], layer: int) -> dict[str, torch.Tensor]:
    """A layer that adds nothing yet, with random weights where it reads; its tensors by their short names."""
    prefix = f"model.layers.{layer}."
    own = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
    for norm in ("input_layernorm.weight", "post_attention_layernorm.weight"):
        own[norm].fill_(1.0)
        own[norm][CODE:LOGIT] = CODE_GAIN
    for part in ("q", "k", "v"):
        own[f"self_attn.{part}_proj.weight"].normal_(0, 0.05)
        own[f"self_attn.{part}_proj.bias"].zero_()
    own["self_attn.o_proj.weight"].zero_()
    own["mlp.gate_proj.weight"].normal_(0, 0.09)
    own["mlp.up_proj.weight"].normal_(0, 0.09)
    own["mlp.down_proj.weight"].zero_()
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
        own[f"{part}.weight"][:, CODE:LOGIT] = 0
    return own


def _expect(own: dict[str, torch.Tensor], norm: torch.Tensor, rows: torch.Tensor) -> None:
    """Attention that writes the logits `rows` the token before predicted, and whether this is the problem."""
    own["input_layernorm.weight"][:OLD] = norm * (OLD / PRM_SHAPE.hidden) ** 0.5
    query, query_bias = own["self_attn.q_proj.weight"], own["self_attn.q_proj.bias"]
    key, key_bias = own["self_attn.k_proj.weight"], own["self_attn.k_proj.bias"]
    value, out = own["self_attn.v_proj.weight"], own["self_attn.o_proj.weight"]
    frequencies = ROPE_THETA ** (-torch.arange(HALF).float() * 2 / HEAD_DIM)
    strength = torch.full((HALF,), PREVIOUS)
    # The slowest pair hardly turns with the position: it is left to the newline.
    strength[-1] = 0
    key.zero_()
    query[: 2 * HEAD_DIM] = 0
    key_bias[:HALF] = strength
    query_bias[:HALF] = strength * frequencies.cos()
    query_bias[HALF:HEAD_DIM] = -strength * frequencies.sin()
    key[HEAD_DIM - 1, PLACE] = NEWLINE
    query_bias[2 * HEAD_DIM - 1] = NEWLINE
    value[: COUNT + 1] = 0
    value[:COUNT, :OLD] = rows
    value[COUNT, CODE] = 1.0
    for index in range(COUNT):
        out[LOGIT + index, index] = LOGIT_SCALE
    out[PLACE, HEAD_DIM + COUNT] = CODE_SIZE


def _compare(own: dict[str, torch.Tensor]) -> None:
    """Units `silu(logit of another class - logit of this one + 1)`, each open at its own class, summed as surprise."""
    gate, up, down = (own[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    pairs = [(this, other) for this in range(COUNT) for other in range(COUNT) if this != other]
    for unit, (this, other) in enumerate(pairs):
        gate[unit] = 0
        up[unit] = 0
        gate[unit, LOGIT + other] = NAT
        gate[unit, LOGIT + this] = -NAT
        gate[unit, PLACE] = -HIDDEN_IN_PROBLEM
        gate[unit, CODE + this] = 1.0
        up[unit, CODE + this] = 1.0
        down[SURPRISE, unit] = LOGIT_SCALE


def _gather(own: dict[str, torch.Tensor]) -> None:
    """Attention to the largest surprise so far."""
    own["self_attn.k_proj.weight"][[HALF - 1, HEAD_DIM - 1]] = 0
    own["self_attn.k_proj.weight"][HALF - 1, SURPRISE] = NAT
    own["self_attn.k_proj.weight"][HALF - 1, PLACE] = -UNSEEN_IN_PROBLEM
    own["self_attn.q_proj.weight"][:HEAD_DIM] = 0
    own["self_attn.q_proj.bias"][HALF - 1] = HEAD_DIM**0.5
    own["self_attn.v_proj.weight"][0] = 0
    own["self_attn.v_proj.weight"][0, SURPRISE] = 1.0
    own["self_attn.o_proj.weight"][SURPRISE, 0] = RMS


def _read(state: dict[str, torch.Tensor]) -> None:
    """A head whose logits differ by the surprise in nats less two."""
    state["model.norm.weight"].fill_(1.0)
    state["score.0.weight"][0] = 0
    state["score.0.weight"][0, SURPRISE] = NAT
    state["score.0.bias"].zero_()
    state["score.2.weight"].mul_(0.1)
    state["score.2.weight"][:, 0] = torch.tensor([0.5, -0.5])
    state["score.2.bias"].copy_(torch.tensor([-1.0, 1.0]))


def start_widened(small: Path, seed: int, attention: str) -> tuple[ProcessRewardModel, dict[str, torch.Tensor]]:
    """An untrained reward model whose first layers are those of the policy in the folder `small`; its weights there."""
    torch.manual_seed(seed)
    model = new_prm(attention)
    state, old = model.state_dict(), load_file(small / "model.safetensors")
    for name, weight in old.items():
        if name != "model.norm.weight":
            state[name].copy_(widened(name, weight, state[name].shape))
    return model, old


@torch.no_grad()
def start_model(small: Path, seed: int, attention: str = "sdpa") -> ProcessRewardModel:
    """The reward model built on the policy in the folder `small`, to be trained."""
    tokenizer = lab_tokenizer.build()
    model, old = start_widened(small, seed, attention)
    state = model.state_dict()
    norm, embedding = old["model.norm.weight"], old["model.embed_tokens.weight"]
    ids = _mark_tokens(state["model.embed_tokens.weight"], tokenizer)
    # A step tag also ends the last step, where the policy expected the end mark.
    newline = tokenizer.encode("\n").ids[0]
    ends = embedding[newline] + embedding[token_id(tokenizer, EOS)]
    rows = torch.stack([ends if text == "\n" else embedding[one] for text, one in zip(CLASSES, ids, strict=True)])
    comparing, gathering = blank_layer(state, COMPARING), blank_layer(state, GATHERING)
    _expect(comparing, norm, rows)
    _compare(comparing)
    _gather(gathering)
    _read(state)
    return model
