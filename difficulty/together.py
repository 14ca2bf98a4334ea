"""Several pools of one task as one pool.

A prompt is the same in two pools where its id is, unless their texts differ: then the later one is another prompt, and
is called POOL/ID. Candidates of an arm that two pools have for one prompt are put one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.costs import Unit
from apportion.difficulty.hidden import HiddenStates
from apportion.difficulty.pools import Deck, Floats, Ints, Pool, Reuse
from apportion.errors import DataError, nearest


def together(pools: Sequence[Pool]) -> Pool:
    """One pool with all arms and all prompts. Raises DataError where no pool has a candidate."""
    if not any(deck.sizes.any() for pool in pools for deck in pool.decks.values()):
        names = ", ".join(pool.name for pool in pools) or "no pool"
        raise DataError(f"{names}: no labelled candidate; record a pool with apportion calibrate")
    if len(pools) == 1:
        return pools[0]
    ids: dict[str, int] = {}
    texts: list[str] = []
    places: list[Ints] = []
    for pool in pools:
        rows = [_place(pool, prompt, text, ids, texts) for prompt, text in zip(pool.ids, pool.texts, strict=True)]
        places.append(np.array(rows, dtype=np.int64))
    answers: list[dict[str, int]] = [{} for _ in ids]
    parts: dict[str, list[tuple[Deck, Ints, Ints]]] = {}
    for pool, place in zip(pools, places, strict=True):
        numbers = _numbers(pool, place, answers)
        for arm, deck in pool.decks.items():
            owner = deck.owner
            parsed = deck.answer >= 0
            answer = np.full(len(owner), -1, dtype=np.int64)
            answer[parsed] = numbers[owner[parsed], deck.answer[parsed]]
            parts.setdefault(arm, []).append((deck, place[owner], answer))
    decks = {arm: _join(arm, parts[arm], len(ids)) for arm in sorted(parts)}
    name = "+".join(dict.fromkeys(pool.name for pool in pools))
    hidden = _hidden(pools, places, len(ids))
    return Pool(name, list(ids), texts, [list(one) for one in answers], decks, hidden)


def chosen(pools: Sequence[Pool], arms: Sequence[str] | None) -> list[Pool]:
    """The pools with these arms only, all where None; a pool without any of them is left out.

    Raises DataError for an arm that no pool has.
    """
    if arms is None:
        return list(pools)
    there = {arm for pool in pools for arm in pool.decks}
    for arm in arms:
        if arm not in there:
            raise DataError(f"no pool has an arm {arm!r}: {nearest(arm, there)}")
    found = [pool.only([arm for arm in arms if arm in pool.decks]) for pool in pools]
    return [pool for pool in found if pool.decks]


def _place(pool: Pool, prompt: str, text: str, ids: dict[str, int], texts: list[str]) -> int:
    """Where a prompt stands among those of all pools; it is added where it is new."""
    known = ids.get(prompt)
    if known is not None and text and texts[known] and texts[known] != text:
        prompt = f"{pool.name}/{prompt}"
        known = ids.get(prompt)
    if known is None:
        ids[prompt] = len(texts)
        texts.append(text)
        return len(texts) - 1
    texts[known] = texts[known] or text
    return known


def _numbers(pool: Pool, place: Ints, answers: list[dict[str, int]]) -> Ints:
    """The new number of each answer of each prompt of a pool, [prompts, answers]."""
    width = max((len(one) for one in pool.answers), default=0)
    numbers = np.full((len(pool.ids), max(1, width)), -1, dtype=np.int64)
    for at, (prompt, own) in enumerate(zip(place.tolist(), pool.answers, strict=True)):
        known = answers[prompt]
        numbers[at, : len(own)] = [known.setdefault(answer, len(known)) for answer in own]
    return numbers


def _join(arm: str, parts: Sequence[tuple[Deck, Ints, Ints]], prompts: int) -> Deck:
    owner = np.concatenate([place for _, place, _ in parts])
    order = np.argsort(owner, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=prompts))]).astype(np.int64)

    def column(name: str) -> Floats:
        return np.asarray(np.concatenate([getattr(deck, name) for deck, _, _ in parts])[order])

    def charged(name: str) -> Floats | None:
        # Of use only where all of it is known.
        return column(name) if all(getattr(deck, name) is not None for deck, _, _ in parts) else None

    apart = {deck.reuse is None for deck, _, _ in parts}
    apart_tokens = {deck.reuse is None or deck.reuse.prompt_tokens is None for deck, _, _ in parts}
    return Deck(
        arm,
        begin,
        np.concatenate([answer for _, _, answer in parts])[order],
        column("correct").astype(bool),
        column("tokens"),
        column("score"),
        column("dollars"),
        # Where some leave the prompt out and some do not, they are not to be compared.
        charged("charged") if len(apart_tokens) == 1 else None,
        charged("flops") if len(apart) == 1 else None,
        None if True in apart else _reuse(parts, order, prompts),
        _certainty([deck for deck, _, _ in parts], order),
    )


def _reuse(parts: Sequence[tuple[Deck, Ints, Ints]], order: Ints, prompts: int) -> Reuse:
    """What is paid once, of decks that all know it; responses of two decks are not known to be alike."""
    prompt, tokens, once, like, offset = np.zeros(prompts), np.zeros(prompts), [], [], 0
    for deck, place, _ in parts:
        own = deck.reuse
        assert own is not None
        np.maximum.at(prompt, place, own.prompt[deck.owner])
        np.maximum.at(tokens, place, own.reading(Unit.TOKENS)[deck.owner])
        once.append(own.once)
        like.append(own.like + offset)
        offset += int(own.like.max(initial=-1)) + 1
    return Reuse(prompt, np.concatenate(once)[order], np.concatenate(like)[order], tokens)


def _certainty(decks: Sequence[Deck], order: Ints) -> Floats | None:
    if all(deck.certainty is None for deck in decks):
        return None
    known = [np.full(len(one.answer), np.nan) if one.certainty is None else one.certainty for one in decks]
    return np.asarray(np.concatenate(known)[order])


def _hidden(pools: Sequence[Pool], places: Sequence[Ints], prompts: int) -> HiddenStates | None:
    """The states of all prompts; None where no pool has any. Raises DataError for those of two models."""
    there = [(pool.name, pool.hidden, place) for pool, place in zip(pools, places, strict=True) if pool.hidden]
    if not there:
        return None
    first = there[0][1]
    for name, own, _ in there:
        if own.files != first.files:
            raise DataError(
                f"pools {there[0][0]} and {name} have hidden states of two models ({first.model}, {own.model}), which "
                "nothing can be learned from together: fit them apart, or remove hidden.parquet from one"
            )
    vectors = np.full((prompts, first.vectors.shape[1]), np.nan, dtype=np.float32)
    for _, own, place in there:
        vectors[place[own.known]] = own.vectors[own.known]
    return HiddenStates(first.model, first.files, vectors)
