"""The prefix cache: found where it begins a prompt, bounded, and invisible in what is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch
from actor_world import conversation
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.embedded import EmbeddedEngine, build_engine
from apportion.actors.prefixes import BLOCK, WORTH, PrefixCache
from apportion.actors.registry import describe
from apportion.actors.spec import ModelSpec
from apportion.costs import attended
from apportion.lab.prm_data import agreement
from apportion.types import Finish, Generate, Generated, Sampling

PROBLEM = conversation("Ann has 12 boxes. She wins many. How many boxes now?")


def layers_of(tokens: list[int]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return ((torch.tensor(tokens, dtype=torch.float32)[None, :, None], torch.zeros(1, len(tokens), 1)),)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12), st.lists(st.integers(0, 2)))
def test_find_gives_the_longest_beginning(kept: list[list[int]], prompt: list[int]) -> None:
    cache = PrefixCache(10**6)
    for tokens in kept:
        cache.keep(tokens, layers_of(tokens))
    longest = max((len(tokens) for tokens in kept if prompt[: len(tokens)] == tokens), default=0)
    found = cache.find(prompt)
    if longest == 0:
        assert found is None
    else:
        assert found is not None
        assert found.tokens == tuple(prompt[:longest])
        assert found.layers[0][0][0, :, 0].tolist() == prompt[:longest]


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(0, 1), max_size=40),
    st.integers(0, 3),
)
def test_find_shared_gives_a_common_beginning_of_blocks(kept: list[list[int]], prompt: list[int], like: int) -> None:
    # Random sequences seldom begin alike.
    prompt = (kept[like][:35] if like < len(kept) else []) + prompt
    cache = PrefixCache(10**6)
    for tokens in kept:
        cache.keep(tokens, layers_of(tokens))
    common = max((agreement(tokens, prompt) for tokens in kept), default=0)
    whole, found = cache.find(prompt), cache.find_shared(prompt)
    length = len(found.tokens) if found is not None else 0
    blocks = common // BLOCK * BLOCK
    least = max(blocks if blocks > len(prompt) // WORTH else 0, len(whole.tokens) if whole is not None else 0)
    assert least <= length <= common
    if found is not None:
        assert found.tokens == tuple(prompt[:length])
        assert found.layers[0][0][0, :, 0].tolist() == prompt[:length]


def test_what_went_is_not_shared() -> None:
    cache = PrefixCache(2 * 2 * 4 * 40)
    for last in range(3):
        cache.keep([7] * 39 + [last], layers_of([7] * 39 + [last]))
        assert cache.find_shared([7] * 36) is not None
    for last in range(2):
        cache.keep([8 + last] * 40, layers_of([8 + last] * 40))
    assert cache.find_shared([7] * 36) is None
    assert cache.find_shared([9] * 36) is not None


@pytest.mark.parametrize("used", ["find", "find_shared", "keep"])
def test_what_is_still_there_is_shared_though_what_was_kept_later_is_gone(used: str) -> None:
    first, second, third = ([7] * 32 + [last] * 8 for last in (1, 2, 3))
    cache = PrefixCache(2 * 2 * 4 * 40)
    cache.keep(first, layers_of(first))
    cache.keep(second, layers_of(second))
    if used == "keep":
        cache.keep(first, layers_of(first))
    else:
        assert getattr(cache, used)(first) is not None
    third[0] = 5
    cache.keep(third, layers_of(third))
    assert cache.find(second) is None
    found = cache.find_shared([7] * 36)
    assert found is not None
    assert found.tokens == (7,) * 32


def test_little_of_a_long_prompt_is_not_worth_a_continuation() -> None:
    cache = PrefixCache(10**6)
    cache.keep([7] * 40, layers_of([7] * 40))
    assert cache.find_shared([7] * 20 + [8] * 20) is not None
    assert cache.find_shared([7] * 20 + [8] * 200) is None


def test_the_least_recently_used_goes_first_and_size_is_bounded() -> None:
    cache = PrefixCache(3 * 2 * 4 * 10)
    for first in range(3):
        cache.keep([first] * 10, layers_of([first] * 10))
    assert cache.find([0] * 12) is not None
    cache.keep([3] * 10, layers_of([3] * 10))
    assert [cache.find([first] * 12) is not None for first in range(4)] == [True, False, True, True]
    assert cache.size_bytes == 3 * 2 * 4 * 10
    cache.keep([9] * 1000, layers_of([9] * 1000))
    assert cache.find([9] * 1000) is None


def test_what_is_kept_holds_no_larger_tensor() -> None:
    cache = PrefixCache(10**6)
    ((keys, values),) = layers_of(list(range(100)))
    cache.keep([0, 1], ((keys[:, :2], values[:, :2]),))
    found = cache.find([0, 1])
    assert found is not None
    assert found.layers[0][0].untyped_storage().nbytes() == 8


def walk(spec: ModelSpec) -> list[Generated]:
    """A prompt, the prompt again, then three steps of a search over it, then prompts that share only a part."""

    async def run() -> list[Generated]:
        engine: EmbeddedEngine = build_engine(spec)
        step = Sampling(1.0, 1.0, 60, stop=tuple("dituDITU123"))
        replies = [
            await engine.generate(Generate("policy", PROBLEM, (1, 2), Sampling(1.0, max_tokens=10))),
            await engine.generate(Generate("policy", PROBLEM, (3, 4, 5), step)),
        ]
        for depth in range(3):
            grown = [c.text for c in replies[-1].completions if c.finish is Finish.STOP]
            replies.append(await engine.generate(Generate("policy", PROBLEM, (depth, 9), step, prefix=grown[0])))
        prefixes = ["xyz", "xyzxyz", "other text", ""]
        replies += await asyncio.gather(
            *(engine.generate(Generate("policy", PROBLEM, (7, 8), step, prefix=prefix)) for prefix in prefixes)
        )
        await engine.close()
        return replies

    return asyncio.run(run())


def test_a_cache_changes_what_is_paid_and_nothing_that_is_written(policy: ModelSpec) -> None:
    cached = walk(policy)
    plain = walk(replace(policy, engine_args={"prefix_cache_mb": 0}))
    assert [[c.text for c in r.completions] for r in cached] == [[c.text for c in r.completions] for r in plain]
    prompt = describe(policy).count_prompt(PROBLEM)
    assert [reply.usage.cached_tokens for reply in plain] == [0] * len(plain)
    # The second request finds the whole prompt but its last token, which every sequence reads for itself.
    assert cached[1].usage.cached_tokens == prompt - 1
    # A continued step finds all that was written before it.
    first_step = next(c for c in cached[1].completions if c.finish is Finish.STOP)
    assert cached[2].usage.cached_tokens == prompt + first_step.tokens - 1
    assert cached[2].usage.prompt_tokens == 1
    # Texts that nobody wrote share the prompt's part.
    assert cached[-4].usage.cached_tokens >= prompt - 1
    for with_cache, without in zip(cached, plain, strict=True):
        whole = with_cache.usage.prompt_tokens + with_cache.usage.cached_tokens
        assert whole == without.usage.prompt_tokens
        saved = attended(0, with_cache.usage.cached_tokens)
        assert with_cache.usage.attended == without.usage.attended - saved


def test_questions_about_one_problem_read_it_once(policy: ModelSpec) -> None:
    story = (
        "Ann has 12 boxes. She wins many. She buys 17 more. She sells 3 of them, and then how many boxes has she now?"
    )

    async def run(spec: ModelSpec) -> list[Generated]:
        engine: EmbeddedEngine = build_engine(spec)
        asked = [conversation(f"{story} {end}") for end in ("12 + 17 = 29", "12 + 71 = 83", "")]
        replies = [await engine.generate(Generate("policy", one, (1,), Sampling(0.0, max_tokens=8))) for one in asked]
        await engine.close()
        return replies

    shared, plain = (asyncio.run(run(replace(policy, engine_args={"prefix_cache_mb": size}))) for size in (256, 0))
    assert [one.completions[0].text for one in shared] == [one.completions[0].text for one in plain]
    least = describe(policy).count_prompt(conversation(story)) // BLOCK * BLOCK - BLOCK
    assert [one.usage.cached_tokens >= least > 0 for one in shared] == [False, True, True]
    for one, other in zip(shared, plain, strict=True):
        assert one.usage.prompt_tokens + one.usage.cached_tokens == other.usage.prompt_tokens
