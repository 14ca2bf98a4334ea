"""The embedded engine against transformers' own generation, and against itself in other batches."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from actor_world import conversation, write_policy

from apportion.actors.conformance import check_embedder, check_engine
from apportion.actors.embedded import EmbeddedEngine, EmbeddedSettings, build_engine, load_model
from apportion.actors.host import Host
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.errors import BatchError, ConfigError, EngineError, ModelError
from apportion.types import Embed, Embedded, Finish, Generate, Generated, Sampling

PROBLEMS = tuple(f"Ann has {number} boxes." + " She wins many." * (number % 5) for number in range(12))


def using(spec: ModelSpec, work: Callable[[EmbeddedEngine], Awaitable[Any]]) -> Any:
    """Run `work` on an engine of its own and close it."""

    async def run() -> Any:
        engine = build_engine(spec)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def requests(count: int = 12, seeds: int = 4, tokens: int = 30) -> list[Generate]:
    return [
        Generate("policy", conversation(PROBLEMS[index]), tuple(range(seeds)), Sampling(1.0, 1.0, tokens + index))
        for index in range(count)
    ]


async def all_of(engine: EmbeddedEngine, asked: Sequence[Generate]) -> list[Generated]:
    return list(await asyncio.gather(*map(engine.generate, asked)))


def texts(replies: Sequence[Generated]) -> list[list[str]]:
    return [[completion.text for completion in reply.completions] for reply in replies]


def test_conformance(policy: ModelSpec) -> None:
    using(policy, lambda engine: check_engine(engine, describe(policy)))
    using(policy, lambda engine: check_embedder(engine, describe(policy)))


def test_a_hidden_state_is_what_transformers_computes_and_its_pass_is_not_done_again(policy: ModelSpec) -> None:
    """The state at the last token of the rendered conversation; a later completion finds the prompt run but for it."""
    messages = conversation(PROBLEMS[3])

    async def work(engine: EmbeddedEngine) -> tuple[Embedded, Generated]:
        asked = [engine.embed(Embed("policy", conversation(problem))) for problem in PROBLEMS]
        states = await asyncio.gather(*asked)
        return states[3], await engine.generate(Generate("policy", messages, (1,), Sampling(max_tokens=4)))

    told, after = using(policy, work)
    model, _ = load_model(policy, EmbeddedSettings.of(policy))
    prompt = ChatTokenizer(Path(policy.path), None).encode_prompt(messages)
    with torch.inference_mode():
        own = model(input_ids=torch.tensor([prompt]), output_hidden_states=True, use_cache=False).hidden_states[-1]
    assert torch.allclose(torch.tensor(told.vector), own[0, -1].float(), atol=2e-3, rtol=2e-3)
    assert (told.usage.prompt_tokens, told.usage.cached_tokens) == (len(prompt), 0)
    assert (after.usage.prompt_tokens, after.usage.cached_tokens) == (1, len(prompt) - 1)


def test_a_scorer_and_an_engine_without_states_refuse_to_tell_them(prm: ModelSpec) -> None:
    async def work() -> None:
        host = Host.load(prm)
        try:
            await host.run(Embed("prm", conversation(PROBLEMS[0])))
        finally:
            await host.close()

    with pytest.raises(EngineError, match="Embed to policies of an engine that tells hidden states"):
        asyncio.run(work())


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {"num_key_value_heads": 4},
    "mistral": {"sliding_window": None},
    "gemma2": {"head_dim": 8, "sliding_window": 256, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_greedy_text_and_statistics_are_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = write_policy(tmp_path / model_type, model_type, sharpness=1.5, **ARCHITECTURES[model_type])
    spec = ModelSpec("policy", "embedded", Role.POLICY, str(folder))
    asked = [replace(request, sampling=Sampling(0.0, max_tokens=12), seeds=(1,)) for request in requests(5)]

    async def work(engine: EmbeddedEngine) -> list[Generated]:
        first = await all_of(engine, asked)
        # Prompts of which only a part has been run before: these go through a pass with a past.
        asked.extend([replace(request, prefix="12 + many") for request in asked])
        return [*first, *await all_of(engine, asked[5:])]

    replies = using(spec, work)
    assert all(reply.usage.cached_tokens > 0 for reply in replies[5:])
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    from apportion.actors.tokens import ChatTokenizer

    tokenizer = ChatTokenizer(folder)
    for request, reply in zip(asked, replies, strict=True):
        prompt = tokenizer.encode_prompt(request.messages) + tokenizer.encode(request.prefix)
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0]
            log_probabilities = model(whole[None]).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        (completion,) = reply.completions
        written = whole[len(prompt) :].tolist()
        assert completion.tokens == len(written)
        assert completion.text == tokenizer.decode(written)
        mean = log_probabilities.gather(1, whole[len(prompt) :, None]).mean()
        entropy = -(log_probabilities.exp() * log_probabilities).sum(-1).mean()
        certainty = -log_probabilities.mean() - torch.tensor(log_probabilities.shape[1]).log()
        assert completion.stats is not None
        assert completion.stats.mean_logprob == pytest.approx(float(mean), abs=1e-3)
        assert completion.stats.mean_entropy == pytest.approx(float(entropy), abs=1e-3)
        assert completion.stats.self_certainty == pytest.approx(float(certainty), abs=1e-3)


def test_batch_size_changes_nothing_but_time(policy: ModelSpec) -> None:
    wide = using(policy, lambda engine: all_of(engine, requests()))
    narrow = using(replace(policy, max_batch=3), lambda engine: all_of(engine, requests()))
    assert texts(narrow) == texts(wide)
    for left, right in zip(wide, narrow, strict=True):
        assert replace(left.usage, busy_seconds=0.0) == replace(right.usage, busy_seconds=0.0)


def test_arrival_in_the_middle_changes_nothing(policy: ModelSpec) -> None:
    async def staggered(engine: EmbeddedEngine) -> list[Generated]:
        tasks = []
        for request in requests():
            tasks.append(asyncio.ensure_future(engine.generate(request)))
            await asyncio.sleep(0.003)
        return list(await asyncio.gather(*tasks))

    together = using(policy, lambda engine: all_of(engine, requests()))
    assert texts(using(replace(policy, max_batch=9), staggered)) == texts(together)


def test_long_completions_outgrow_the_first_allocation(policy: ModelSpec) -> None:
    async def work(engine: EmbeddedEngine) -> list[Generated]:
        long = [replace(request, sampling=Sampling(1.0, max_tokens=220)) for request in requests(3)]
        return [await engine.generate(long[0]), *await all_of(engine, long[1:])]

    replies = using(policy, work)
    assert max(completion.tokens for reply in replies for completion in reply.completions) == 220
    for reply, short in zip(replies, using(policy, lambda engine: all_of(engine, requests(3))), strict=True):
        for completion, start in zip(reply.completions, short.completions, strict=True):
            assert completion.text.startswith(start.text)


def test_any_integer_is_a_seed(policy: ModelSpec) -> None:
    seeds = (-1, 2**64 + 5, 2**200, 0)
    (reply,) = using(policy, lambda engine: all_of(engine, [replace(requests(1)[0], seeds=seeds)]))
    assert len(reply.completions) == 4


def test_end_token_ends_and_is_counted(policy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ends"
    shutil.copytree(policy_folder, folder)
    generation = json.loads((folder / "generation_config.json").read_text())
    # Every printable character is an end token, so nothing can be written.
    generation["eos_token_id"] = list(range(4, 105))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    spec = ModelSpec("policy", "embedded", Role.POLICY, str(folder))
    (reply,) = using(spec, lambda engine: all_of(engine, requests(1)))
    assert {(c.text, c.finish) for c in reply.completions} == {("", Finish.END)}
    assert reply.usage.completion_tokens == sum(completion.tokens for completion in reply.completions)


def test_the_context_ends_a_completion(policy: ModelSpec) -> None:
    spec = replace(policy, engine_args={"max_model_len": 40})
    prompt = describe(spec).count_prompt(conversation(PROBLEMS[0]))
    (reply,) = using(spec, lambda engine: all_of(engine, requests(1, tokens=500)))
    assert {completion.finish for completion in reply.completions} <= {Finish.LENGTH, Finish.END}
    assert max(completion.tokens for completion in reply.completions) == 40 - prompt


def test_busy_seconds_are_shared_out_whole(policy: ModelSpec) -> None:
    async def work(engine: EmbeddedEngine) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        replies = await all_of(engine, requests())
        return sum(reply.usage.busy_seconds for reply in replies), loop.time() - began

    busy, wall = using(policy, work)
    assert 0.2 * wall < busy <= wall


def test_a_cancelled_request_leaves_the_batch(policy: ModelSpec) -> None:
    async def work(engine: EmbeddedEngine) -> list[Generated]:
        endless = replace(requests(1)[0], seeds=tuple(range(64)), sampling=Sampling(1.0, max_tokens=200))
        given_up = asyncio.ensure_future(engine.generate(endless))
        await asyncio.sleep(0.02)
        given_up.cancel()
        replies = await all_of(engine, requests(4))
        assert given_up.cancelled()
        assert engine.live == 0
        return replies

    assert texts(using(policy, work)) == texts(using(policy, lambda engine: all_of(engine, requests(4))))


def test_a_failing_model_fails_its_requests_and_no_others(policy: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    from apportion.actors import batching

    async def work(engine: EmbeddedEngine) -> tuple[list[Any], list[Generated]]:
        def broken(*_: Any) -> None:
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patched:
            patched.setattr(batching.Decoder, "step", broken)
            failed = await asyncio.gather(*map(engine.generate, requests(3)), return_exceptions=True)
        return failed, await all_of(engine, requests(3))

    failed, answered = using(policy, work)
    assert [type(error) for error in failed] == [BatchError] * 3
    assert "out of memory" in str(failed[0])
    assert texts(answered) == texts(using(policy, lambda engine: all_of(engine, requests(3))))


def failing_once(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """The first call of a method of Decoder fails."""
    from apportion.actors import batching

    whole, calls = getattr(batching.Decoder, method), iter((True,))

    def once(*args: Any) -> Any:
        if next(calls, False):
            raise error
        return whole(*args)

    monkeypatch.setattr(batching.Decoder, method, once)


async def outcomes_of(engine: EmbeddedEngine, count: int) -> list[Any]:
    return list(await asyncio.gather(*map(engine.generate, requests(count)), return_exceptions=True))


@pytest.mark.parametrize("method", ["prefill", "step", "place"])
def test_what_waits_outlives_a_failing_batch(policy: ModelSpec, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    failing_once(monkeypatch, method, RuntimeError("out of memory"))
    narrow = replace(policy, max_batch=4)
    outcomes = using(narrow, lambda engine: outcomes_of(engine, 6))
    failed = [outcome for outcome in outcomes if isinstance(outcome, BatchError)]
    assert 1 <= len(failed) <= 4
    assert [error.alone for error in failed] == [len(failed) == 1] * len(failed)
    expected = using(narrow, lambda engine: all_of(engine, requests(6)))
    answered = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Generated)]
    assert len(answered) + len(failed) == 6
    assert texts([outcomes[number] for number in answered]) == texts([expected[number] for number in answered])


def test_nothing_is_answered_after_the_accelerator_broke(policy: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_once(monkeypatch, "step", RuntimeError("CUDA error: device-side assert triggered"))

    async def work(engine: EmbeddedEngine) -> list[Any]:
        return [*await outcomes_of(engine, 3), *await outcomes_of(engine, 2)]

    outcomes = using(policy, work)
    assert [(type(outcome), outcome.broken) for outcome in outcomes] == [(BatchError, True)] * 5


def test_closing_fails_what_is_in_flight(policy: ModelSpec) -> None:
    async def run() -> list[Any]:
        engine = build_engine(policy)
        tasks = [asyncio.ensure_future(engine.generate(request)) for request in requests(3, tokens=200)]
        await asyncio.sleep(0.01)
        await engine.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(EngineError, match="closed"):
            await engine.generate(requests(1)[0])
        return outcomes

    assert all(isinstance(outcome, EngineError) for outcome in asyncio.run(run()))


@pytest.mark.parametrize(
    ("settings", "error", "rule"),
    [
        ({"max_model_length": 9}, ConfigError, "did you mean 'max_model_len'"),
        ({"dtype": "int8"}, ConfigError, "float32, bfloat16, float16"),
        ({"device": "gpu"}, ConfigError, "device is 'gpu'; it must be cpu, cuda or cuda:N"),
        ({"prefix_cache_mb": "lots"}, ConfigError, "prefix_cache_mb is 'lots'; it must be an integer"),
        ({"prefix_cache_mb": -1}, ConfigError, "must be 0, for none, or more"),
        ({"chat_template": 5}, ConfigError, "chat_template is 5; it must be a string or null"),
        ({"max_model_len": "4k"}, ConfigError, "max_model_len is '4k'; it must be an integer"),
        ({"max_model_len": -1}, ConfigError, "max_model_len is -1; it must be an integer of at least 2"),
    ],
)
def test_wrong_settings(policy: ModelSpec, settings: dict[str, Any], error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        build_engine(replace(policy, engine_args=settings))


def test_a_folder_without_weights_is_named(policy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        Host.load(ModelSpec("policy", "embedded", Role.POLICY, str(folder)))


def test_a_model_without_the_head_that_writes_is_refused_and_tells_its_states_all_the_same(tmp_path: Path) -> None:
    """transformers would make the head up at random, and what it wrote would be paid for."""
    from safetensors.torch import load_file, save_file

    folder = write_policy(tmp_path / "headless", tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    spec = ModelSpec("policy", "embedded", Role.POLICY, str(folder))
    with pytest.raises(ModelError, match=r"lack lm_head\.weight \(1 in all\) of Qwen2ForCausalLM: give"):
        build_engine(spec)
    probe = replace(spec, role=Role.EMBEDDER)
    using(probe, lambda engine: check_embedder(engine, describe(probe)))


def test_weights_that_do_not_fit_are_named(policy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(ModelError, match=r"does not load with the embedded engine"):
        Host.load(ModelSpec("policy", "embedded", Role.POLICY, str(folder)))
