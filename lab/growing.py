"""Start the large model as the small one: wider and deeper, but computing exactly the same function.

What is added reads at random and writes zero, so nothing changes at first while every new weight gets a gradient. It
spares the large model the slow first half of training. The two share the head dimension and the single key-value head,
which is what makes an exact copy possible.
"""

import torch
from transformers import Qwen2ForCausalLM

from apportion.lab.models import SHAPES

LAYERS_FROM = (0, 1, None, 2, 3, None)
# For each layer of the large model the layer of the small one it starts as; None starts as the identity.

READING = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")


def _grown(name: str, old: torch.Tensor | None, shape: torch.Size, spread: float, norm_scale: float) -> torch.Tensor:
    if name.endswith("norm.weight"):
        new = torch.full(shape, norm_scale)
        if old is not None:
            new[: len(old)] = old * norm_scale
        return new
    new = torch.randn(shape) * spread if name.endswith(READING) else torch.zeros(shape)
    if old is not None:
        new[tuple(slice(size) for size in old.shape)] = old
    return new


@torch.no_grad()
def grow(small: Qwen2ForCausalLM, large: Qwen2ForCausalLM, seed: int) -> None:
    """Overwrite `large` so that it computes what `small` does."""
    torch.manual_seed(seed)
    source = small.state_dict()
    # An RMS norm over more, empty, dimensions would scale what is left up by this factor's inverse.
    norm_scale = (SHAPES["small"].hidden / SHAPES["large"].hidden) ** 0.5
    for name, weight in large.state_dict().items():
        if name == "lm_head.weight":
            continue
        origin: str | None = name
        if name.startswith("model.layers."):
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            old_layer = LAYERS_FROM[int(layer)]
            origin = None if old_layer is None else f"model.layers.{old_layer}.{rest}"
            spread = float(source[f"model.layers.{old_layer or 0}.{rest}"].std())
        else:
            spread = 0.0
        weight.copy_(_grown(name, source[origin] if origin else None, weight.shape, spread, norm_scale))
