"""The attention function of the embedded engine, registered with transformers under `GROUPED`.

Decoding one token a row, the query heads that share a key head are treated as so many queries of it: keys and values
are read once for all of them and never repeated in memory, which is most of the time of a small model's step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

GROUPED = "apportion_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [rows, heads, tokens, width] over `key` and `value` [rows, kv heads, positions, width].

    `attention_mask` is True where a query attends, or None for causal attention within the query's own tokens.
    Returns [rows, tokens, heads, width].
    """
    rows, heads, tokens, _width = query.shape
    kv_heads = key.shape[1]
    if tokens == 1:
        grouped = query.reshape(rows, kv_heads, heads // kv_heads, -1)
        mixed = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
        return mixed.reshape(rows, 1, heads, -1), None
    mixed = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        is_causal=attention_mask is None,
        scale=scaling,
        enable_gqa=heads != kv_heads,
    )
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(GROUPED, grouped_attention)
