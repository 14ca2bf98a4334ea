"""The generative verifier: a Qwen2 policy that reads a story and a solution and writes `Yes` or `No`.

Its trunk starts as the reward model's does, with every token compared with what the small policy expected (see
`prm_start`), and it has an output head of its own, so that it is an ordinary causal language model. The conversation
is the story and the solution in one user turn, which the chat template ends with a newline; the verdict is the answer.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from apportion.lab.comparison import UNSEEN_IN_PROBLEM, sharpen
from apportion.lab.models import config_of, write_folder, write_generation
from apportion.lab.prm import PRM_SHAPE
from apportion.lab.prm_data import Labelled
from apportion.lab.prm_start import PRM, start_model

JUDGE_SHAPE: Final = replace(PRM_SHAPE, dtype="bfloat16")
YES: Final = "Yes"
NO: Final = "No"

QUESTION: Final = "{problem}\n{solution}"
# What a job sets as `question` of the strategy genrm: the layout the model was trained on.

SHARPNESS: Final = 4.0
MARGIN: Final = 1.0
# Surprise is added up here, so what is none must add nothing: units closer to a hinge than the reward model's, which
# only looks for the largest, and that open a nat earlier.

MEAN_GAIN: Final = 30.0
# A mean over a hundred tokens, most of which are no surprise, is that much smaller than the largest.

DOUBT: Final = 0.25
# Logits of the verdict start apart by half of the surprise in nats; training does the rest.


def judge_text(problem: str, solution: str) -> str:
    """What the model reads: the chat template applied to the question."""
    return f"{QUESTION.format(problem=problem, solution=solution)}\n"


def verdict_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """What an answer of Yes and one of No begin with."""
    yes, no = (tokenizer.encode(word).ids[0] for word in (YES, NO))
    return yes, no


def is_right(sample: Labelled) -> bool:
    """Whether the sample's answer is the story's, however it was reached."""
    return sample.steps[-1] == sample.solution.rsplit("\n", 1)[-1]


def judge_config() -> dict[str, Any]:
    """The contents of config.json: the head is not tied, because the verdict is no matter of the words read."""
    return {**config_of(JUDGE_SHAPE), "tie_word_embeddings": False}


def _average(layer: nn.Module) -> None:
    """The second head of the gathering layer looks at all of the solution alike: the mean surprise, beside the largest.

    It is written where the code of one class of tokens was, which is too small to matter beside it.
    """
    own = dict(layer.named_parameters())
    place = PRM.half - 2
    # The two slowest rotary pairs hardly turn with the position: one finds the largest surprise, this one the problem.
    own["self_attn.k_proj.weight"][[place, place + PRM.half]] = 0
    own["self_attn.k_proj.weight"][place, PRM.place] = -UNSEEN_IN_PROBLEM
    own["self_attn.q_proj.weight"][PRM.head_dim : 2 * PRM.head_dim] = 0
    own["self_attn.q_proj.bias"][PRM.head_dim + place] = PRM.head_dim**0.5
    own["self_attn.o_proj.weight"][PRM.code, PRM.head_dim] = MEAN_GAIN * PRM.rms
    own["post_attention_layernorm.weight"][PRM.code] = 1.0


@torch.no_grad()
def start_judge(small: Path, seed: int, yes: int, no: int, attention: str = "sdpa") -> Qwen2ForCausalLM:
    """The judge built on the policy in the folder `small`, to be trained; `yes` and `no` are the verdicts' tokens."""
    trunk = start_model(small, seed, attention)
    config = Qwen2Config(**{**judge_config(), "torch_dtype": "float32"})
    config._attn_implementation = attention
    model = Qwen2ForCausalLM(config)
    model.model.load_state_dict(trunk.model.state_dict())
    sharpen(PRM, dict(model.model.layers[PRM.comparing].named_parameters()), SHARPNESS, MARGIN)
    _average(model.model.layers[PRM.gathering])
    head = model.lm_head.weight
    head.zero_()
    head[yes, [PRM.surprise, PRM.code]], head[no, [PRM.surprise, PRM.code]] = -DOUBT * PRM.nat, DOUBT * PRM.nat
    return model


def export_judge(model: Qwen2ForCausalLM, folder: Path) -> None:
    """Write the judge as a Hugging Face folder."""
    config = judge_config()
    write_folder(folder, config, dict(model.state_dict()))
    write_generation(folder, config)
