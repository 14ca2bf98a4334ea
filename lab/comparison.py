"""Every token compared with what a policy expected, by construction: two layers on top of a policy's.

The policy's layers keep their function in the first dimensions of a wider residual stream. In the new ones the first
layer on top writes, at every token, the logits that the token before predicted for it, and its feed-forward units add
up by how much other tokens were expected more: the token's surprise. The layer after that lets every position look at
the largest surprise of the solution so far. Plain gradient descent hardly finds the comparison.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from tokenizers import Tokenizer

from apportion.lab.models import ROPE_THETA, Shape
from apportion.lab.stories import NAMES
from apportion.lab.tokenizer import EOS, token_id

Weights = dict[str, torch.Tensor]

NEWLINE: Final = "\n"
CLASSES: Final = (*"0123456789", " +", " -", " *", " =", NEWLINE)
# The tokens of solutions that can be wrong; the others always follow from the one before.

PREVIOUS: Final = 10.0
AT_OPENING: Final = 9.0
# Attention biases, sharp enough for the token before, and for what opens the solution, to get all the weight.

HIDDEN_IN_PROBLEM: Final = 60.0
UNSEEN_IN_PROBLEM: Final = 20.0
# How much the units and the gathering attention are held down in the problem, where nothing was predicted in earnest.


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in the residual stream above the policy's, and how large they are written there.

    `rms` is the residual stream's after the policy's layers. Codes are written too small to disturb the policy's norms,
    `code_size`, and enlarged to about one where they are read; `logit_size` is what a nat is written as.
    """

    base: Shape
    wide: Shape
    classes: tuple[str, ...]
    rms: float
    code_size: float
    code_gain: float
    logit_size: float
    loudness: Mapping[str, float] = field(default_factory=dict)
    """how many times `rms` the residual stream is at tokens of a class, where that is far from one"""

    @property
    def old(self) -> int:
        """Dimensions of the policy."""
        return self.base.hidden

    @property
    def count(self) -> int:
        """Classes of tokens."""
        return len(self.classes)

    @property
    def code(self) -> int:
        """First of the dimensions that say which class a token is."""
        return self.old

    @property
    def place(self) -> int:
        """The dimension that says whether this is the problem."""
        return self.code + self.count

    @property
    def logit(self) -> int:
        """First of the dimensions that hold the classes' expected logits."""
        return self.place + 1

    @property
    def surprise(self) -> int:
        """The dimension of the surprise; those after it are free."""
        return self.logit + self.count

    @property
    def nat(self) -> float:
        """The weight that reads a nat from the normed stream."""
        return self.rms / self.logit_size

    @property
    def comparing(self) -> int:
        """The first layer on top."""
        return self.base.layers

    @property
    def gathering(self) -> int:
        """The second layer on top."""
        return self.base.layers + 1

    @property
    def head_dim(self) -> int:
        """Dimensions of an attention head."""
        return self.wide.hidden // self.wide.heads

    @property
    def half(self) -> int:
        """Rotary pairs of an attention head."""
        return self.head_dim // 2

    @property
    def norm_scale(self) -> float:
        """Of a norm's weights: the same sum of squares is a smaller mean over more dimensions."""
        return math.sqrt(self.old / self.wide.hidden)


def widened(at: Layout, name: str, old: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A weight of the policy in the wider shape."""
    if name.endswith("norm.weight"):
        new = torch.ones(shape)
        new[: at.old] = old * at.norm_scale
        return new
    new = torch.zeros(shape)
    new[tuple(slice(size) for size in old.shape)] = old
    return new


def mark_tokens(at: Layout, embedding: torch.Tensor, tokenizer: Tokenizer, opens: int, ends: int) -> list[int]:
    """Write the codes into the embeddings; the ids of the classes.

    `opens` is the token after which tokens are to be compared, `ends` the one that ends a step; either is read as a
    newline by the policy.
    """
    newline = tokenizer.encode(NEWLINE).ids[0]
    embedding[[opens, ends], : at.old] = embedding[newline, : at.old].clone()
    ids = [ends if one == NEWLINE else tokenizer.encode(one).ids[0] for one in at.classes]
    for index, one in enumerate(ids):
        embedding[one, at.code + index] = at.code_size
    # Every token looks for what opens, or else for the name at the beginning of the problem, which tells the two apart.
    embedding[opens, at.place] = 2 * at.code_size
    for name in NAMES:
        first = tokenizer.encode(name).ids[0]
        embedding[first, at.place] = embedding[first, at.code] = at.code_size
    return ids


def class_rows(at: Layout, embedding: torch.Tensor, tokenizer: Tokenizer, ids: list[int]) -> torch.Tensor:
    """The policy's output rows of the classes. What ends a step also ends the last, where the end mark is expected."""
    newline = tokenizer.encode(NEWLINE).ids[0]
    ends = embedding[newline] + embedding[token_id(tokenizer, EOS)]
    pairs = zip(at.classes, ids, strict=True)
    return torch.stack([ends if text == NEWLINE else embedding[one] for text, one in pairs])


def silent_layer(at: Layout, state: Weights, layer: int) -> Weights:
    """A layer that adds nothing, its norms ready to read codes; its tensors by their short names."""
    prefix = f"model.layers.{layer}."
    own = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
    for name, weight in own.items():
        if name.endswith("layernorm.weight"):
            weight.fill_(1.0)
            weight[at.code : at.logit] = at.code_gain
        else:
            weight.zero_()
    return own


def blank_layer(at: Layout, state: Weights, layer: int) -> Weights:
    """A silent layer with random weights where it reads, but for the codes, to be trained."""
    own = silent_layer(at, state, layer)
    for part in ("q", "k", "v"):
        own[f"self_attn.{part}_proj.weight"].normal_(0, 0.05)
    own["mlp.gate_proj.weight"].normal_(0, 0.09)
    own["mlp.up_proj.weight"].normal_(0, 0.09)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
        own[f"{part}.weight"][:, at.code : at.logit] = 0
    return own


def expect(at: Layout, own: Weights, norm: torch.Tensor, rows: torch.Tensor) -> None:
    """Attention that writes the logits `rows` the token before predicted, and whether this is the problem."""
    own["input_layernorm.weight"][: at.old] = norm * at.norm_scale
    value, out = own["self_attn.v_proj.weight"], own["self_attn.o_proj.weight"]
    own["self_attn.k_proj.weight"].zero_()
    own["self_attn.q_proj.weight"][: 2 * at.head_dim] = 0
    look_before(at, own)
    own["self_attn.k_proj.weight"][at.head_dim - 1, at.place] = AT_OPENING
    own["self_attn.q_proj.bias"][2 * at.head_dim - 1] = AT_OPENING
    value[: at.count + 1] = 0
    value[: at.count, : at.old] = rows
    value[at.count, at.code] = 1.0
    for index in range(at.count):
        out[at.logit + index, index] = at.logit_size
    out[at.place, at.head_dim + at.count] = at.code_size


def look_before(at: Layout, own: Weights) -> None:
    """Biases by which the first head looks at the token before."""
    frequencies = ROPE_THETA ** (-torch.arange(at.half).float() * 2 / at.head_dim)
    strength = torch.full((at.half,), PREVIOUS)
    # The slowest pair hardly turns with the position: it is left to what opens the solution.
    strength[-1] = 0
    query_bias = own["self_attn.q_proj.bias"]
    own["self_attn.k_proj.bias"][: at.half] = strength
    query_bias[: at.half] = strength * frequencies.cos()
    query_bias[at.half : at.head_dim] = -strength * frequencies.sin()


def compare(at: Layout, own: Weights) -> None:
    """Units `silu(logit of another class - logit of this one + 1)`, each open at its own class, summed as surprise."""
    gate, up, down = (own[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    pairs = [(this, other) for this in range(at.count) for other in range(at.count) if this != other]
    for unit, (this, other) in enumerate(pairs):
        louder = at.loudness.get(at.classes[this], 1.0)
        gate[unit] = 0
        up[unit] = 0
        gate[unit, at.logit + other] = louder * at.nat
        gate[unit, at.logit + this] = -louder * at.nat
        gate[unit, at.place] = -HIDDEN_IN_PROBLEM
        gate[unit, at.code + this] = louder
        up[unit, at.code + this] = louder
        down[at.surprise, unit] = at.logit_size


def sharpen(at: Layout, own: Weights, sharpness: float, margin: float) -> None:
    """The comparing units closer to `max(0, logit of another class - logit of this one + 1 + margin)`."""
    gate, down = own["mlp.gate_proj.weight"], own["mlp.down_proj.weight"]
    units = at.count * (at.count - 1)
    gate[:units, at.code : at.code + at.count] *= 1.0 + margin
    gate[:units] *= sharpness
    down[at.surprise, :units] /= sharpness


def gather(at: Layout, own: Weights) -> None:
    """Attention to the largest surprise so far."""
    key = own["self_attn.k_proj.weight"]
    key[[at.half - 1, at.head_dim - 1]] = 0
    key[at.half - 1, at.surprise] = at.nat
    key[at.half - 1, at.place] = -UNSEEN_IN_PROBLEM
    own["self_attn.q_proj.weight"][: at.head_dim] = 0
    own["self_attn.q_proj.bias"][at.half - 1] = at.head_dim**0.5
    own["self_attn.v_proj.weight"][0] = 0
    own["self_attn.v_proj.weight"][0, at.surprise] = 1.0
    own["self_attn.o_proj.weight"][at.surprise, 0] = at.rms
