"""The grader: a policy that writes as `lab:large` does, and says with a digit how good a step of a solution is.

It is the second model of the strategy `spec_reason`, which asks about each drafted step and has this model write its
own where it does not like that. Nothing is trained. The layers of `lab:large` keep their function; two more compare
every token with what it expected (see `comparison`), and a step after a mark is answered by the largest surprise in it:
9 where there is none, less the more there is. Where other large models judge by reading, this one was built to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.comparison import (
    CLASSES,
    NEWLINE,
    Layout,
    Weights,
    class_rows,
    compare,
    expect,
    gather,
    mark_tokens,
    sharpen,
    silent_layer,
    widened,
)
from apportion.lab.models import SHAPES, config_of, write_folder, write_generation
from apportion.lab.runs import WEIGHTS

GRADER_SHAPE: Final = replace(SHAPES["large"], hidden=288, heads=9, layers=8)

GRADER: Final = Layout(
    SHAPES["large"],
    GRADER_SHAPE,
    # One class fewer makes room for what is below; to double and to treble are seldom mistaken for anything.
    tuple(one for one in CLASSES if one != " *"),
    rms=22.0,
    code_size=1e-3,
    code_gain=2.2e4,
    logit_size=0.1,
    loudness={" +": 2.2, " -": 1.9, " =": 4.3},
)
MARKED: Final = GRADER.surprise + 1
GRADE: Final = MARKED + 1
# Whether this is the step that is asked about, and the grade.

QUESTION: Final = "{before}#{step}"
# What a job sets as `question` of the strategy spec_reason: the solution as it was written, but for the mark where the
# line before the step ends.

MARK: Final = "#"
DIGITS: Final = tuple("0123456789")

KEPT: Final = 7
BEST: Final = 9
# The least digit that keeps a step where a job does not say otherwise, and that of a step without surprise.

SHARPNESS: Final = 4.0
MARGIN: Final = 2.0
# Of the units that compare: they open where another token is as little as three nats less expected than this one.

LARGEST: Final = 8.0
# Of the attention to the largest surprise, so that one of a nat gets nearly all of it.

MARKED_SIZE: Final = 1.0
GRADE_SIZE: Final = 40.0
# What these are written as, where they are one; the code that is where the grade goes is nothing beside it.

LOUD: Final = 50.0
SILENT: Final = 500.0
# How far digits are apart in logits, and all else below them: what `lab:large` would write there does not matter.


def grade_text(problem: str, steps: Sequence[str]) -> str:
    """What the model reads: the chat template applied to the question about the last of the steps."""
    return f"{QUESTION.format(before=NEWLINE.join([problem, *steps[:-1]]), step=steps[-1])}\n"


def grader_config() -> dict[str, Any]:
    """The contents of config.json: the head is not tied, because a grade is no matter of the words read."""
    return {**config_of(GRADER_SHAPE), "tie_word_embeddings": False}


def new_grader() -> Qwen2ForCausalLM:
    """A float32 model of the grader's layout; its weights are random, and nobody else's random numbers change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2ForCausalLM(Qwen2Config(**{**grader_config(), "torch_dtype": "float32"}))


def _mark_step(own: Weights) -> None:
    """Beside whether this is before the mark, whether it is after it: what is looked at there has no digit's code."""
    value = own["self_attn.v_proj.weight"]
    value[GRADER.count + 1] = 0
    value[GRADER.count + 1, GRADER.place] = 0.5
    value[GRADER.count + 1, GRADER.code] = -0.5
    own["self_attn.o_proj.weight"][MARKED, GRADER.head_dim + GRADER.count + 1] = MARKED_SIZE


def _grade(own: Weights, doubtful: float) -> None:
    """Two units that write `1 - surprise / doubtful` after the mark, and nothing elsewhere: silu(x) - silu(-x) = x."""
    gate, up, down = (own[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    for part in (gate, up, down):
        part.zero_()
    for unit, sign in enumerate((1.0, -1.0)):
        gate[unit, MARKED] = up[unit, MARKED] = sign * GRADER.rms / MARKED_SIZE
        gate[unit, GRADER.surprise] = -sign * GRADER.nat / doubtful
        down[GRADE, unit] = GRADE_SIZE


def _answer(head: torch.Tensor, tokenizer: Tokenizer) -> None:
    """Output rows by which, after the mark, the digit nearest to the grade is the likeliest, and all else is not.

    A grade of one is BEST, one of nought lies between the digits that keep and those that do not.
    """
    middle = KEPT - 0.5
    head[:, MARKED] = -SILENT * GRADER.rms / MARKED_SIZE
    for digit, text in enumerate(DIGITS):
        row = head[tokenizer.encode(text).ids[0]]
        row[GRADE] = LOUD * (BEST - middle) * digit * GRADER.rms / GRADE_SIZE
        row[MARKED] = LOUD * (middle * digit - digit**2 / 2.0) * GRADER.rms / MARKED_SIZE


@torch.no_grad()
def build(large: Path, doubtful: float) -> Qwen2ForCausalLM:
    """The grader on the policy in the folder `large`, which keeps steps whose surprise is less than `doubtful` nats."""
    tokenizer, model = lab_tokenizer.build(), new_grader()
    state, old = model.state_dict(), {name: one.float() for name, one in load_file(large / WEIGHTS).items()}
    for name, weight in old.items():
        state[name].copy_(widened(GRADER, name, weight, state[name].shape))
    words, norm = old["model.embed_tokens.weight"], old["model.norm.weight"]
    head = state["lm_head.weight"]
    head.zero_()
    head[:, : GRADER.old] = words
    mark, newline = (tokenizer.encode(text).ids[0] for text in (MARK, NEWLINE))
    ids = mark_tokens(GRADER, state["model.embed_tokens.weight"], tokenizer, mark, newline)
    comparing, gathering = (silent_layer(GRADER, state, one) for one in (GRADER.comparing, GRADER.gathering))
    expect(GRADER, comparing, norm, class_rows(GRADER, words, tokenizer, ids))
    compare(GRADER, comparing)
    sharpen(GRADER, comparing, SHARPNESS, MARGIN)
    _mark_step(comparing)
    gather(GRADER, gathering)
    gathering["self_attn.k_proj.weight"][GRADER.half - 1] *= LARGEST
    _grade(gathering, doubtful)
    _answer(head, tokenizer)
    return model.eval()


def export_grader(model: Qwen2ForCausalLM, folder: Path) -> None:
    """Write the grader as a Hugging Face folder."""
    config = grader_config()
    write_folder(folder, config, dict(model.state_dict()))
    write_generation(folder, config)


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader found in a step, in nats, and what it answers."""

    surprise: float
    answer: str


@torch.inference_mode()
def grades(model: Qwen2ForCausalLM, texts: Sequence[str]) -> list[Grade]:
    """A grader's answers to questions as `grade_text` makes them, at temperature 0."""
    tokenizer, surprises, answers = lab_tokenizer.build(), [], []

    def read(_: object, __: object, normed: torch.Tensor) -> None:
        last = normed[0, -1]
        surprises.append(float(last[GRADER.surprise] / last[MARKED]) * MARKED_SIZE / GRADER.logit_size)

    watching = model.model.layers[GRADER.gathering].post_attention_layernorm.register_forward_hook(read)
    try:
        for text in texts:
            logits = model(torch.tensor([tokenizer.encode(text).ids])).logits[0, -1]
            answers.append(tokenizer.decode([int(logits.argmax())]))
    finally:
        watching.remove()
    return list(map(Grade, surprises, answers))
