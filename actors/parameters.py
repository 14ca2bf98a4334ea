"""Counting a model's parameters from the names and sizes of its tensors, packed ones by what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apportion.actors.spec import Role

LOOKUPS = ("embed_tokens.weight", "wte.weight", "wpe.weight", "word_embeddings.weight", "embed_in.weight")
# Tables that are indexed, not multiplied, under the names model families give them.

HEADS = ("lm_head.weight", "embed_out.weight")

PACKED = (".qweight", ".weight_packed")
# Weights of a few bits, several in each 32-bit integer: AWQ's and GPTQ's, and compressed-tensors'.

PAIRED = "_blocks"
# Two weights in each byte (MXFP4).

BESIDE = (".qzeros", ".scales", ".g_idx", "_scale", "_scale_inv", "_scales", "_zero_point", "_shape", "_g_idx")
# What goes with quantized weights: some numbers for every group of them.
# (bitsandbytes has `.weight.` in their names.)

STATES = ".absmax"
# Beside a tensor of bitsandbytes' 4-bit weights, two in each byte.

Config = Mapping[str, Any]


def active_parameters(config: Config, tensors: Iterable[tuple[str, int]], role: Role) -> float:
    """Parameters multiplied for each token, from the names and sizes of all tensors.

    The input lookup is left out and the output head is in (a tied table once, as the head) where a policy runs it.
    Of the routed experts of a mixture only the share that a token visits is counted.
    """
    experts = first_of(config, "num_experts", "num_local_experts", "n_routed_experts") or 0
    visited = first_of(config, "num_experts_per_tok") or experts
    share = visited / experts if experts else 1.0
    total = lookup = head = 0.0
    for tensor, size in _unpacked(config.get("quantization_config") or {}, tensors):
        if tensor.endswith(LOOKUPS):
            lookup += 0 if tensor.endswith("wpe.weight") else size
        elif tensor.endswith(HEADS):
            head += size
        else:
            total += size * (share if ".experts." in tensor else 1.0)
    return total + (head or lookup) if role is Role.POLICY else total


def first_of(config: Config, *names: str) -> int | None:
    """The first of these that a config has."""
    for name in names:
        if config.get(name) is not None:
            return int(config[name])
    return None


def _unpacked(quantized: Config, tensors: Iterable[tuple[str, int]]) -> Iterator[tuple[str, float]]:
    """The weights, and how many there are in each tensor."""
    if not quantized:
        yield from tensors
        return
    tensors = list(tensors)
    halves = {name.removesuffix(STATES) for name, _ in tensors if name.endswith(STATES)}
    each = 32.0 / _bits(quantized)
    for name, size in tensors:
        if name.endswith(BESIDE) or ".weight." in name:
            continue
        if name.endswith(PACKED):
            yield name, size * each
        elif name.endswith(PAIRED) or name in halves:
            yield name, size * 2.0
        else:
            yield name, size


def _bits(quantized: Config) -> int:
    """Bits of a packed weight."""
    groups = quantized.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        bits = (group.get("weights") or {}).get("num_bits")
        if bits:
            return int(bits)
    return first_of(quantized, "bits", "w_bit") or 4
