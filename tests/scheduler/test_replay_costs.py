"""What a replay charges: what calibrated candidates were charged, in the unit that tells most; a search whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from apportion.costs import Unit
from apportion.difficulty.pools import Deck, Pool
from apportion.errors import BudgetError
from apportion.scheduler import playing
from apportion.scheduler.contest import check_budgets, default_unit, least_costs, spread
from apportion.scheduler.dealing import GRAINS, Dealer, Table
from apportion.scheduler.frontier import replay

PROMPTS = 44
SAMPLES = 12
SEARCHES = 2
SIZE = 4
BEAM = f"beam@{SIZE}"
COSTS = {"vote": 1.0, BEAM: 1.5}
"""of one candidate, by arm, in thousands of tokens and millions of FLOPs"""


def deck_of(arm: str, size: int, rate: float, rng: np.random.Generator) -> Deck:
    """Answer 0 is right. A candidate's own length is a hundredth of the tokens that it was charged."""
    owner = np.repeat(np.arange(PROMPTS), size)
    ease = np.linspace(-1.0, 1.0, PROMPTS)[owner]
    right = rng.random(len(owner)) < 1.0 / (1.0 + np.exp(-(ease + np.log(rate / (1.0 - rate)))))
    charged = np.rint(1000.0 * COSTS[arm] * rng.uniform(0.8, 1.2, len(owner)))
    unknown = np.full(len(owner), np.nan)
    return Deck(
        arm=arm,
        begin=np.arange(PROMPTS + 1, dtype=np.int64) * size,
        answer=np.where(right, 0, rng.integers(1, 6, len(owner))).astype(np.int64),
        correct=right,
        tokens=charged / 100.0,
        score=unknown,
        dollars=unknown,
        charged=charged,
        flops=charged * 1e3,
    )


def pool_of(seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    decks = {"vote": deck_of("vote", SAMPLES, 0.4, rng), BEAM: deck_of(BEAM, SEARCHES * SIZE, 0.8, rng)}
    names = [f"q{at}" for at in range(PROMPTS)]
    return Pool("calibrated", names, [""] * PROMPTS, [["right", *"abcde"]] * PROMPTS, decks)


def without(pool: Pool, arm: str, **columns: None) -> Pool:
    return replace(pool, decks={**pool.decks, arm: replace(pool.decks[arm], **columns)})


@pytest.fixture
def dealt(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How many purchases of each size were dealt of each arm."""
    found: Counter[tuple[str, int]] = Counter()
    reply = Dealer.reply

    def watched(self, prompt, request):
        found[request.model, len(request.seeds)] += 1
        return reply(self, prompt, request)

    monkeypatch.setattr(playing.Dealer, "reply", watched)
    return found


def test_the_unit_is_flops_where_all_arms_know_them_then_tokens() -> None:
    pool = pool_of()
    assert default_unit(pool) is Unit.FLOPS
    for arm in pool.decks:
        assert default_unit(without(pool, arm, flops=None)) is Unit.TOKENS
    assert default_unit(without(pool, BEAM, flops=None).only(["vote"])) is Unit.FLOPS


@pytest.mark.parametrize("unit", [Unit.FLOPS, Unit.TOKENS])
@pytest.mark.parametrize("arm", ["vote", BEAM])
def test_all_that_was_recorded_costs_what_it_was_charged(unit: Unit, arm: str) -> None:
    pool = pool_of()
    deck = pool.decks[arm]
    whole = deck.flops if unit is Unit.FLOPS else deck.charged
    assert whole is not None
    each = whole.reshape(PROMPTS, -1).sum(axis=1)
    found = replay(pool, [arm], "uniform", [2.0 * float(each.mean())], repeats=1, unit=unit)
    # FLOPs are counted in grains.
    assert found.costs[0] == pytest.approx(each, abs=0.5 * len(whole) / PROMPTS * GRAINS[unit])


def test_where_nothing_was_charged_a_candidate_costs_its_length() -> None:
    pool = without(pool_of(), "vote", charged=None, flops=None).only(["vote"])
    each = np.rint(pool.decks["vote"].tokens).reshape(PROMPTS, -1).sum(axis=1)
    found = replay(pool, ["vote"], "uniform", [1e6], repeats=1)
    assert found.unit is Unit.TOKENS
    assert found.costs[0] == pytest.approx(each)


def test_a_search_is_dealt_whole_or_not_at_all(dealt: Counter[tuple[str, int]]) -> None:
    pool = pool_of()
    one = least_costs(pool, Unit.FLOPS)[BEAM]
    assert one == pytest.approx(SIZE * 1.5e6, rel=0.05)
    budget = 1.4 * one
    found = replay(pool, [BEAM], "uniform", [budget], repeats=2)
    assert set(dealt) == {(BEAM, SIZE), (BEAM, 2 * SIZE)}
    assert found.cost.max() <= budget
    # Two searches for as many prompts as the rest pays for, one for the others.
    assert dealt[BEAM, 2 * SIZE] / sum(dealt.values()) == pytest.approx(0.4, abs=0.1)


def test_a_part_of_a_search_cannot_be_bought() -> None:
    (arm,) = Table(pool_of().only([BEAM]), Unit.FLOPS, {BEAM: "majority"}, revealed=False).arms
    assert arm.amounts == (SIZE, 2 * SIZE)
    assert arm.strategy.check(SIZE) is None
    for part in (1, SIZE - 1, SIZE + 2):
        assert "a search of 4 is dealt whole" in str(arm.strategy.check(part))


def test_the_budgets_begin_where_the_cheapest_whole_purchase_can_be_made() -> None:
    pool = pool_of().only([BEAM])
    one = least_costs(pool, Unit.FLOPS)[BEAM]
    assert spread(pool, Unit.FLOPS, 3)[0] == pytest.approx(one)
    with pytest.raises(BudgetError, match="4 of arm 'beam@4'"):
        check_budgets(pool, Unit.FLOPS, [0.9 * one / PROMPTS])


def test_with_labels_price_buys_searches_in_fours_where_they_are_worth_more(dealt: Counter[tuple[str, int]]) -> None:
    pool = pool_of()
    budget = 1.2 * least_costs(pool, Unit.FLOPS)[BEAM]
    found = replay(pool, ["vote", BEAM], "price", [budget], repeats=2, fit="cross")
    assert {n for arm, n in dealt if arm == BEAM} <= {SIZE, 2 * SIZE}
    assert sum(count for (arm, _), count in dealt.items() if arm == BEAM) > PROMPTS / 2
    assert found.cost.max() <= budget
    alone = replay(pool, ["vote"], "uniform", [budget], repeats=2)
    assert found.accuracy.mean() > alone.accuracy.mean() + 0.05
    assert found.forecasts is not None
    (said, low, high), reached = found.forecasts[0], float(found.accuracy.mean())
    assert low <= reached <= high
    assert low < said < high
