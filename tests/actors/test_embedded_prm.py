"""The embedded process reward model against a plain computation of the same weights."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from actor_world import TAG, conversation

from apportion.actors.conformance import check_scorer
from apportion.actors.host import Host
from apportion.actors.prm import EmbeddedScorer, ProcessRewardModel, build_scorer
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.errors import BatchError, ModelError
from apportion.types import Score, Scored

STEPS = ("12 + 3 = 15", "15 - 4 = 11", "Answer: 11")


def score(spec: ModelSpec, *requests: Score) -> list[Scored]:
    async def run() -> list[Scored]:
        scorer = build_scorer(spec)
        try:
            return list(await asyncio.gather(*map(scorer.score, requests)))
        finally:
            await scorer.close()

    return asyncio.run(run())


def test_conformance(prm: ModelSpec) -> None:
    async def run() -> None:
        scorer: EmbeddedScorer = build_scorer(prm)
        await check_scorer(scorer, describe(prm))
        await scorer.close()

    asyncio.run(run())


def test_scores_are_the_second_label_at_each_tag(prm: ModelSpec, prm_folder: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen2Config, Qwen2Model

    weights = load_file(prm_folder / "model.safetensors")
    model = Qwen2Model(Qwen2Config.from_pretrained(prm_folder)).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    tokenizer = ChatTokenizer(prm_folder)
    tag = tokenizer.token_id(TAG)

    def expected(steps: tuple[str, ...]) -> list[float]:
        ids = tokenizer.encode("Ann has 12 boxes.\n" + "".join(step + TAG for step in steps))
        with torch.inference_mode():
            hidden = model(torch.tensor([ids])).last_hidden_state[0, [i for i, t in enumerate(ids) if t == tag]]
            hidden = (hidden @ weights["score.0.weight"].T + weights["score.0.bias"]).relu()
            logits = hidden @ weights["score.2.weight"].T + weights["score.2.bias"]
        chosen: list[float] = logits.softmax(-1)[:, 1].tolist()
        return chosen

    responses = (STEPS, STEPS[:1], ("", *STEPS[1:]))
    (scored,) = score(prm, Score("prm", conversation("Ann has 12 boxes."), responses))
    for steps, scores in zip(responses, scored.scores, strict=True):
        assert list(scores) == pytest.approx(expected(steps), abs=1e-4)
    assert len({round(value, 3) for scores in scored.scores for value in scores}) > 3


def test_tags_in_model_text_do_not_shift_scores(prm: ModelSpec) -> None:
    forged = (STEPS[0] + TAG + TAG, *STEPS[1:])
    asked = Score("prm", conversation(f"Ann{TAG} has 12 boxes."), (STEPS, forged))
    (scored,) = score(prm, asked)
    assert scored.scores[0] == pytest.approx(scored.scores[1], abs=1e-5)
    assert len(scored.scores[1]) == 3


def test_small_batches_give_the_same_scores_and_usage(prm: ModelSpec) -> None:
    asked = [Score("prm", conversation(f"Ann has {n} boxes."), (STEPS[: 1 + n % 3],) * (n % 4 + 1)) for n in range(9)]
    wide, narrow = score(prm, *asked), score(replace(prm, max_batch=2), *asked)
    for left, right in zip(wide, narrow, strict=True):
        assert [len(s) for s in left.scores] == [len(s) for s in right.scores]
        for a, b in zip(left.scores, right.scores, strict=True):
            assert a == pytest.approx(b, abs=1e-4)
        assert left.usage.prompt_tokens == right.usage.prompt_tokens
        assert left.usage.attended == right.usage.attended


def test_what_was_read_before_is_not_read_again(prm: ModelSpec) -> None:
    """One request, then the same and a longer response, then a beam's next step: only what is new is paid."""
    described = describe(prm)
    messages = conversation("Ann has 12 boxes.")
    prompt = described.count_prompt(messages)
    lengths = [described.count_text(step + TAG) for step in STEPS]
    asked = [
        Score("prm", messages, (STEPS[:1], STEPS[:1], ("16",))),
        Score("prm", messages, (STEPS[:2], STEPS[:1])),
        Score("prm", messages, (STEPS,)),
    ]

    async def one_by_one(spec: ModelSpec) -> list[Scored]:
        scorer = build_scorer(spec)
        replies = [await scorer.score(request) for request in asked]
        await scorer.close()
        return replies

    cached = asyncio.run(one_by_one(prm))
    plain = asyncio.run(one_by_one(replace(prm, engine_args={"prefix_cache_mb": 0})))
    other = described.count_text("16" + TAG)
    assert [reply.usage.prompt_tokens for reply in cached] == [prompt + lengths[0] + other, lengths[1], lengths[2]]
    assert [reply.usage.prompt_tokens for reply in plain] == [
        prompt + lengths[0] + other,
        prompt + lengths[0] + lengths[1] + lengths[0],
        prompt + sum(lengths),
    ]
    for left, right in zip(cached, plain, strict=True):
        for a, b in zip(left.scores, right.scores, strict=True):
            assert a == pytest.approx(b, abs=1e-4)
        read = [reply.usage.prompt_tokens + reply.usage.cached_tokens for reply in (left, right)]
        assert read[0] == read[1]


def test_a_failing_pass_fails_its_own_jobs_only(prm: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Score("prm", conversation(f"Ann has {n} boxes."), (STEPS[: n + 1],)) for n in range(3)]
    expected = score(prm, *asked)
    whole = ProcessRewardModel.run

    def fails_on_long(self: ProcessRewardModel, sequences: Any, known: Any, tags: Any) -> Any:
        if any(len(own) == 3 for own in tags):
            raise RuntimeError("out of memory")
        return whole(self, sequences, known, tags)

    monkeypatch.setattr(ProcessRewardModel, "run", fails_on_long)

    async def run() -> list[Any]:
        scorer = build_scorer(replace(prm, max_batch=1))
        outcomes = await asyncio.gather(*map(scorer.score, asked), return_exceptions=True)
        await scorer.close()
        return list(outcomes)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [Scored, Scored, BatchError]
    assert outcomes[2].alone
    for left, right in zip(outcomes[:2], expected, strict=False):
        assert left.scores[0] == pytest.approx(right.scores[0], abs=1e-4)


def broken(prm_folder: Path, folder: Path, **weights: object) -> ModelSpec:
    from safetensors.torch import load_file, save_file

    shutil.copytree(prm_folder, folder)
    stored = {**load_file(folder / "model.safetensors"), **weights}
    save_file({k: v for k, v in stored.items() if v is not None}, folder / "model.safetensors")
    return ModelSpec("prm", "embedded", Role.SCORER, str(folder))


def test_nothing_more_is_run_for_a_cancelled_request(prm: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, entered, leave = ProcessRewardModel.run, threading.Event(), threading.Event()
    rows: list[int] = []

    def counted(self: ProcessRewardModel, sequences: Any, known: Any, tags: Any) -> Any:
        entered.set()
        leave.wait(10)
        rows.append(len(sequences))
        return whole(self, sequences, known, tags)

    monkeypatch.setattr(ProcessRewardModel, "run", counted)

    async def run() -> None:
        scorer = build_scorer(replace(prm, max_batch=1))
        asked = [Score("prm", conversation(f"How many in {n}?"), (STEPS, STEPS[:2])) for n in range(6)]
        tasks = [asyncio.ensure_future(scorer.score(request)) for request in asked]
        await asyncio.to_thread(entered.wait, 10)
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.sleep(0)
        leave.set()
        assert len((await tasks[-1]).scores) == 2
        await scorer.close()

    asyncio.run(run())
    assert sum(rows) == 1 + 3, "the conversation that was being read, and all of the last request"


def test_weights_must_fit_exactly(prm_folder: Path, tmp_path: Path) -> None:
    import torch

    missing = broken(prm_folder, tmp_path / "missing", **{"model.norm.weight": None})
    with pytest.raises(ModelError, match=r"do not fit its config.json.*model\.norm\.weight"):
        Host.load(missing)
    extra = broken(prm_folder, tmp_path / "extra", **{"model.surplus": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"model\.surplus"):
        Host.load(extra)
    carried = broken(prm_folder, tmp_path / "carried", **{"lm_head.weight": torch.zeros(2, 2)})
    Host.load(carried)


def test_a_policy_folder_is_no_scorer(policy_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no process reward model.*score\.2\.weight"):
        Host.load(ModelSpec("prm", "embedded", Role.SCORER, str(policy_folder)))


def test_a_tokenizer_without_the_tag_is_named(prm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "untagged"
    shutil.copytree(prm_folder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text().replace(TAG, "<extra_9>"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="has no token '<extra_0>'"):
        Host.load(ModelSpec("prm", "embedded", Role.SCORER, str(folder)))
