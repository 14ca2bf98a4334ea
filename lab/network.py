"""Qwen2 as plain float32 tensors: what the sampler runs, without the generality of a model class.

Norm weights are folded into the matrix that follows, and matrices that read the same input are joined, so a decoding
step is few large multiplications. `tests/lab` compares its logits with transformers'.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; every matrix is `[inputs, outputs]`."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True, slots=True)
class Network:
    """A model's weights and dimensions; `cos` and `sin` are `[positions, head_dim / 2]`."""

    embedding: torch.Tensor
    layers: list[Layer]
    head: torch.Tensor
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def load(cls, folder: Path) -> "Network":
        """Read a lab model folder."""
        config = json.loads((folder / "config.json").read_text())
        weights = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
        heads = config["num_attention_heads"]
        head_dim = config["hidden_size"] // heads
        layers = [_layer(weights, f"model.layers.{index}.") for index in range(config["num_hidden_layers"])]
        embedding = weights["model.embed_tokens.weight"]
        frequencies = config["rope_theta"] ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        angles = torch.arange(config["max_position_embeddings"]).float()[:, None] * frequencies
        return cls(
            embedding=embedding,
            layers=layers,
            head=(weights.get("lm_head.weight", embedding) * weights["model.norm.weight"]).T.contiguous(),
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_dim=head_dim,
            eps=config["rms_norm_eps"],
            cos=angles.cos(),
            sin=angles.sin(),
        )

    def normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """RMS norm without its weight."""
        return F.rms_norm(hidden, hidden.shape[-1:], eps=self.eps)

    def project(
        self, layer: Layer, hidden: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotated queries `[rows, kv_heads, group, head_dim]`, rotated keys and values `[rows, kv_heads, head_dim]`."""
        joined = torch.addmm(layer.qkv_bias, self.normed(hidden), layer.qkv)
        joined = joined.view(len(hidden), self.heads + 2 * self.kv_heads, self.head_dim)
        turning = self.heads + self.kv_heads
        first, second = joined[:, :turning].chunk(2, dim=-1)
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        group = self.heads // self.kv_heads
        queries = turned[:, : self.heads].reshape(len(hidden), self.kv_heads, group, self.head_dim)
        return queries, turned[:, self.heads :], joined[:, turning:]

    def finish_layer(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Add the attention's output `[rows, hidden]` and the feed-forward part."""
        hidden = torch.addmm(hidden, mixed, layer.out)
        gate, up = (self.normed(hidden) @ layer.gate_up).chunk(2, dim=-1)
        return torch.addmm(hidden, F.silu(gate) * up, layer.down)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Next-token logits `[rows, vocabulary]`."""
        return self.normed(hidden) @ self.head


def _layer(weights: dict[str, torch.Tensor], prefix: str) -> Layer:
    def named(name: str) -> torch.Tensor:
        return weights[prefix + name]

    parts = ("q_proj", "k_proj", "v_proj")
    qkv = torch.cat([named(f"self_attn.{part}.weight") for part in parts]) * named("input_layernorm.weight")
    gate_up = torch.cat([named("mlp.gate_proj.weight"), named("mlp.up_proj.weight")])
    return Layer(
        qkv=qkv.T.contiguous(),
        qkv_bias=torch.cat([named(f"self_attn.{part}.bias") for part in parts]),
        out=named("self_attn.o_proj.weight").T.contiguous(),
        gate_up=(gate_up * named("post_attention_layernorm.weight")).T.contiguous(),
        down=named("mlp.down_proj.weight").T.contiguous(),
    )
