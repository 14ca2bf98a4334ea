"""Published formats by tiny random models in their layout, each against its plain computation by transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from vllm_world import SHEPHERD, write_model, write_skywork

from apportion.actors.conformance import check_scorer
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.types import Message, Score

Run = Callable[[Any], Any]

QUESTION = "Ann has 12 boxes. She buys 3 more. How many?"
STEPS = ("12 + 3 = 15", "Answer: 15")
WRONG = ("12 + 3 = 16", "so", "Answer: 16")


@contextmanager
def scorer_of(run: Run, spec: ModelSpec) -> Iterator[Any]:
    from apportion.actors.vllm_scorer import build_scorer

    scorer = build_scorer(spec)
    try:
        yield scorer
    finally:
        run(scorer.close())


def spec_of(folder: Path, **engine_args: Any) -> ModelSpec:
    return ModelSpec("prm", "vllm", Role.SCORER, str(folder), engine_args=engine_args)


def asked() -> Score:
    return Score("prm", (Message("user", QUESTION),), (STEPS, WRONG))


def ids_of(folder: Path, text: str) -> Any:
    import torch

    from apportion.actors.tokens import PlainTokenizer

    return torch.tensor([PlainTokenizer(folder).encode(text)])


def test_skywork(run: Run, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen2ForCausalLM

    folder = write_skywork(tmp_path / "skywork")
    weights = load_file(folder / "model.safetensors")
    model = Qwen2ForCausalLM.from_pretrained(folder).eval()

    def expected(steps: Sequence[str]) -> list[float]:
        ids = ids_of(folder, "<end>" + QUESTION + "\n" + "".join(step + "\n" for step in steps))
        newline = ids_of(folder, "\n")[0, 0]
        with torch.inference_mode():
            hidden = model.model(ids).last_hidden_state[0]
            values = hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
        scores: list[float] = values.sigmoid()[ids[0] == newline][1:, 0].tolist()
        return scores

    with scorer_of(run, spec_of(folder)) as scorer:
        run(check_scorer(scorer, describe(spec_of(folder))))
        reply = run(scorer.score(asked()))
    assert [list(scores) for scores in reply.scores] == [
        pytest.approx(expected(steps), abs=1e-3) for steps in (STEPS, WRONG)
    ]
    assert len({round(score, 3) for scores in reply.scores for score in scores}) > 3


def test_math_shepherd(run: Run, tmp_path: Path) -> None:
    import torch
    from transformers import MistralForCausalLM

    folder = write_model(tmp_path / "shepherd", "MistralForCausalLM", "mistral")
    model = MistralForCausalLM.from_pretrained(folder).eval()

    def expected(steps: Sequence[str]) -> list[float]:
        lines = [f"Step {number}: {step} {SHEPHERD}" for number, step in enumerate(steps, 1)]
        ids = ids_of(folder, "<end>" + QUESTION + " " + "\n".join(lines))
        candidates = [int(ids_of(folder, verdict)[0, 0]) for verdict in "+-"]
        with torch.inference_mode():
            chances = model(ids).logits[0][:, candidates].softmax(-1)[:, 0]
        scores: list[float] = chances[ids[0] == ids_of(folder, SHEPHERD)[0, 0]].tolist()
        return scores

    spec = spec_of(folder, format="math-shepherd")
    with scorer_of(run, spec) as scorer:
        run(check_scorer(scorer, describe(spec)))
        reply = run(scorer.score(asked()))
    assert [list(scores) for scores in reply.scores] == [
        pytest.approx(expected(steps), abs=1e-3) for steps in (STEPS, WRONG)
    ]
    assert len({round(score, 3) for scores in reply.scores for score in scores}) > 3


def test_an_outcome_reward_model_scores_a_response_once(run: Run, tmp_path: Path) -> None:
    import torch
    from transformers import Qwen2ForSequenceClassification

    folder = write_model(tmp_path / "outcome", "Qwen2ForSequenceClassification", "qwen2", num_labels=1)
    model = Qwen2ForSequenceClassification.from_pretrained(folder).eval()

    def expected(steps: Sequence[str]) -> float:
        with torch.inference_mode():
            logit = float(model(ids_of(folder, f"u:{QUESTION}\na:" + "\n\n".join(steps) + "\n")).logits[0, 0])
        return 1.0 / (1.0 + math.exp(-logit))

    with scorer_of(run, spec_of(folder)) as scorer:
        reply = run(scorer.score(asked()))
        longer = run(scorer.score(Score("prm", (Message("user", QUESTION),), ((*STEPS, "!"), (), STEPS))))
    assert [len(scores) for scores in (*reply.scores, *longer.scores)] == [1, 1, 1, 0, 1]
    assert [scores[0] for scores in reply.scores] == pytest.approx([expected(STEPS), expected(WRONG)], abs=1e-3)
    assert longer.scores[2] == reply.scores[0]
