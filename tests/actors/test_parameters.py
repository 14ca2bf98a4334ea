"""Counting the parameters of quantized models: as many as before they were packed."""

from __future__ import annotations

import pytest

from apportion.actors.parameters import active_parameters
from apportion.actors.spec import Role

IN, OUT = 256, 512
HEAD = {"lm_head.weight": 1000}
LAYER = "model.layers.0.mlp.up_proj"
QUANTIZED = {
    "none": ({}, {f"{LAYER}.weight": IN * OUT}),
    "awq": (
        {"quant_method": "awq", "bits": 4},
        {
            f"{LAYER}.qweight": IN * OUT // 8,
            f"{LAYER}.qzeros": IN // 128 * OUT // 8,
            f"{LAYER}.scales": IN // 128 * OUT,
        },
    ),
    "gptq of 8 bits": (
        {"quant_method": "gptq", "bits": 8},
        {f"{LAYER}.qweight": IN * OUT // 4, f"{LAYER}.scales": IN // 128 * OUT, f"{LAYER}.g_idx": IN},
    ),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
        {f"{LAYER}.weight_packed": IN * OUT // 8, f"{LAYER}.weight_scale": OUT, f"{LAYER}.weight_shape": 2},
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {
            f"{LAYER}.weight": IN * OUT // 2,
            f"{LAYER}.weight.absmax": IN * OUT // 64,
            f"{LAYER}.weight.quant_map": 16,
            f"{LAYER}.weight.quant_state.bitsandbytes__nf4": 90,
        },
    ),
    "fp8": ({"quant_method": "fp8"}, {f"{LAYER}.weight": IN * OUT, f"{LAYER}.weight_scale_inv": 8}),
    "mxfp4": ({"quant_method": "mxfp4"}, {f"{LAYER}_blocks": IN * OUT // 2, f"{LAYER}_scales": IN * OUT // 32}),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_packed_weights_count_as_what_they_stand_for(name: str) -> None:
    quantized, tensors = QUANTIZED[name]
    config = {"quantization_config": quantized} if quantized else {}
    assert active_parameters(config, [*HEAD.items(), *tensors.items()], Role.POLICY) == IN * OUT + 1000


def test_experts_of_a_quantized_mixture_count_by_their_share() -> None:
    config = {"quantization_config": {"bits": 4}, "num_experts": 8, "num_experts_per_tok": 2}
    tensors = [(f"model.layers.0.mlp.experts.{index}.up_proj.qweight", 100) for index in range(8)]
    assert active_parameters(config, tensors, Role.SCORER) == 2 * 100 * 8
