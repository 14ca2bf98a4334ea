"""Skywork-o1-Open-PRM for vLLM, which lacks it: Qwen2 with a value head of one number at each position.

Loaded by vLLM, by name, in its own processes (`model_class_overrides`). Weights: `model.*` of a Qwen2Model, and the
head `v_head.summary` (github.com/SkyworkAI/skywork-o1-prm-inference); its dropout does nothing outside of training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import nn
from vllm.model_executor.layers.pooler.tokwise import pooler_for_token_classify
from vllm.model_executor.models.interfaces import SupportsPP
from vllm.model_executor.models.interfaces_base import default_pooling_type
from vllm.model_executor.models.qwen2 import Qwen2Model
from vllm.model_executor.models.utils import AutoWeightsLoader, maybe_prefix


class ValueHead(nn.Module):
    """One linear layer, under the name it is stored by."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.summary = nn.Linear(width, 1, dtype=dtype)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[tokens, width] to [tokens, 1]."""
        value: torch.Tensor = self.summary(hidden.to(self.summary.weight.dtype))
        return value


@default_pooling_type(tok_pooling_type="ALL")
class Qwen2ForPrmModel(nn.Module, SupportsPP):
    """As vLLM's own Qwen2ForProcessRewardModel, with the other head."""

    is_pooling_model = True
    hf_to_vllm_mapper = Qwen2Model.hf_to_vllm_mapper
    packed_modules_mapping: ClassVar[dict[str, list[str]]] = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        config.num_labels = 1
        self.config = config
        self.model = Qwen2Model(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.v_head = ValueHead(config.hidden_size, vllm_config.model_config.head_dtype)
        self.pooler = pooler_for_token_classify(vllm_config.model_config.pooler_config)
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Named by vLLM."""
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The value at each position, [tokens, 1]."""
        return self.v_head(self.model(input_ids, positions, intermediate_tensors, inputs_embeds))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """The folder's weights; it carries the language model's output head along, which has no use here."""
        loader = AutoWeightsLoader(self, ignore_unexpected_prefixes=["lm_head."])
        loaded: set[str] = loader.load_weights(weights)
        return loaded
