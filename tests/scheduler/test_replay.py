"""Replay: a real job's machine on recorded candidates. Its books balance, and what it says is what the pool says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_world import World, make_prompts
from made_pools import make_pool, write_pool

from apportion.costs import Unit
from apportion.difficulty.curves import curves_of
from apportion.difficulty.objectives import Objective
from apportion.difficulty.pools import Deck, Pool, read_pool
from apportion.errors import BudgetError, DataError
from apportion.scheduler import contest
from apportion.scheduler.allocation import Forecast, Offer, Problem, Rest
from apportion.scheduler.allocations import build_allocation
from apportion.scheduler.contest import default_select, default_unit, goal_of, spread
from apportion.scheduler.dealing import GRAINS, Dealer, Table
from apportion.scheduler.frontier import replay
from apportion.scheduler.playing import Game, play
from apportion.types import Candidate, Purchase


class Greedy:
    """Buys what a list says, prompt by prompt, as far as the limits and the budget go; keeps what it was dealt."""

    price = 0.0

    def __init__(self, problem: Problem, script: Sequence[Purchase], lawful: bool = True) -> None:
        assert problem.limits is not None
        self.problem = problem
        self.left = problem.limits.copy()
        self.lawful = lawful
        self.script = [list(script) for _ in problem.texts]
        self.names = [arm.name for arm in problem.arms]
        self.dealt: list[list[Candidate]] = [[] for _ in problem.texts]
        self.cost = 0.0

    def offer(self, prompt: int, most: float) -> Offer | Rest:
        while self.script[prompt]:
            bought = self.script[prompt][0]
            if not self.lawful or bought.n <= self.left[prompt, self.names.index(bought.arm)]:
                cost = self.problem.costs.predict_one(prompt, bought.arm, bought.n)
                return Offer(bought, 1.0, cost) if cost <= most else Rest.WAIT
            self.script[prompt].pop(0)
        return Rest.STOP

    def observe(self, prompt: int, purchase: Purchase, candidates: Sequence[Candidate], cost: float) -> None:
        self.script[prompt].pop(0)
        self.left[prompt, self.names.index(purchase.arm)] -= len(candidates)
        self.dealt[prompt].extend(candidates)
        self.cost += cost

    def reprice(self, available: float) -> None:
        pass

    def difficulty(self, prompt: int) -> float:
        raise AssertionError("a replay has no use for it")

    def forecast(self, budgets: Sequence[float]) -> tuple[Forecast, ...]:
        return tuple(Forecast(budget, budget, 0.5, 0.4, 0.6) for budget in budgets)


def table_of(pool: Pool, unit: Unit = Unit.TOKENS, revealed: bool = False) -> Table:
    return Table(pool, unit, {name: default_select(deck) for name, deck in pool.decks.items()}, revealed)


purchases = st.builds(Purchase, st.sampled_from(["small", "large"]), st.integers(1, 5))


@settings(max_examples=40)
@given(
    script=st.lists(purchases, min_size=1, max_size=6),
    share=st.floats(0.02, 1.2),
    unit=st.sampled_from([Unit.TOKENS, Unit.SAMPLES, Unit.DOLLARS]),
    in_flight=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_books_balance_and_no_candidate_is_dealt_twice(
    script: list[Purchase], share: float, unit: Unit, in_flight: int, seed: int
) -> None:
    pool = make_pool(6, {"small": 8, "large": 4}, seed, dollars=unit is Unit.DOLLARS)
    table = table_of(pool, unit)
    worth = GRAINS[unit]
    everything = 72.0 if unit is Unit.SAMPLES else sum(draft.tokens for draft in table.drafts) * worth
    made: list[Greedy] = []

    def make(problem: Problem) -> Greedy:
        made.append(Greedy(problem, script))
        return made[-1]

    game = Game(np.arange(6), everything * share, Objective(), {}, in_flight)
    played = play(table, game, make, Dealer(table, seed, 0))
    (policy,) = made
    assert played.cost.sum() == pytest.approx(policy.cost)
    assert played.cost.sum() <= game.budget * (1 + 1e-9)
    for prompt, dealt in enumerate(policy.dealt):
        rows = [int(candidate.draft.text) for candidate in dealt]
        assert len(set(rows)) == len(rows)
        if unit is not Unit.SAMPLES:
            assert played.cost[prompt] == pytest.approx(worth * sum(table.drafts[row].tokens for row in rows))
        for name, deck in pool.decks.items():
            own = [row - table.offset[name] for row, one in zip(rows, dealt, strict=True) if one.arm == name]
            assert all(deck.begin[prompt] <= row < deck.begin[prompt + 1] for row in own)


def test_a_policy_that_buys_more_than_there_is_is_stopped() -> None:
    table = table_of(make_pool(2, {"small": 3}))
    game = Game(np.arange(2), 1e6, Objective(), {})
    with pytest.raises(BudgetError, match=r"candidate 4 of arm 'small' for a prompt that has 3.*Problem\.limits"):
        play(table, game, lambda problem: Greedy(problem, [Purchase("small", 4)], lawful=False), Dealer(table, 0, 0))


def test_a_search_of_which_no_prompt_has_a_whole_one_is_named() -> None:
    pool = make_pool(4, {"beam@4": 4, "model@2024": 6})
    assert replay(pool, ["beam@4"], "uniform", [4.0], repeats=1, unit=Unit.SAMPLES).cost.mean() == 4.0
    with pytest.raises(DataError, match=r"'model@2024' of pool made-up is by its name a search of 2024.*more than 6"):
        replay(pool, ["model@2024"], "uniform", [4.0], repeats=1, unit=Unit.SAMPLES)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_uniform_reaches_what_its_votes_are_worth(n: int) -> None:
    """The mean over all orders of the majority of n, worked out from the counts alone by drawing many orders."""
    pool = make_pool(40, {"small": 9}, seed=3)
    deck = pool.deck("small")
    rng = np.random.default_rng(1)
    expected = 0.0
    for prompt in range(40):
        answers = deck.answer[deck.begin[prompt] : deck.begin[prompt + 1]]
        for _ in range(400):
            drawn = rng.permutation(answers)[:n]
            votes = np.bincount(drawn[drawn >= 0], minlength=4)
            first = next((one for one in drawn if one >= 0 and votes[one] == votes.max()), -1)
            expected += (first == 0) / 400 / 40
    found = replay(pool, ["small"], "uniform", [float(n)], repeats=60, unit=Unit.SAMPLES)
    assert found.cost == pytest.approx(n)
    assert found.accuracy.mean() == pytest.approx(expected, abs=0.012)


def test_a_vote_by_self_certainty_is_replayed_as_it_was_recorded(tmp_path: Path) -> None:
    made = make_pool(60, {"small": 9}, seed=3)
    deck, rng = made.deck("small"), np.random.default_rng(0)
    sure = replace(deck, certainty=np.where(deck.correct, 2.0, 1.0) + rng.uniform(0.0, 1.5, len(deck.correct)))
    pool = read_pool(write_pool(replace(made, decks={"small": sure}), tmp_path / "pool"))
    assert pool.deck("small").certainty == pytest.approx(sure.certainty)
    by_rank = curves_of(pool.deck("small"), (3, 9), "accuracy", "borda").mean(axis=0)
    for at, n in enumerate((3.0, 9.0)):
        found = replay(pool, ["small"], "uniform", [n], repeats=20, unit=Unit.SAMPLES, select="borda")
        assert found.accuracy.mean() == pytest.approx(by_rank[at], abs=0.02)
        plain = replay(pool, ["small"], "uniform", [n], repeats=20, unit=Unit.SAMPLES)
        assert found.accuracy.mean() > plain.accuracy.mean()
    for policy in ("price", "oracle"):
        assert (
            replay(pool, ["small"], policy, [4.0], repeats=2, unit=Unit.SAMPLES, select="borda").accuracy.mean() > 0.5
        )


def test_coverage_is_the_share_of_prompts_with_a_right_candidate() -> None:
    pool = make_pool(30, {"small": 6}, seed=2)
    right = np.add.reduceat(pool.deck("small").correct, pool.deck("small").begin[:-1])
    found = replay(pool, ["small"], "uniform", [6.0], repeats=2, unit=Unit.SAMPLES, objective="coverage")
    assert (found.values[0] == (right > 0)).all()
    quota = replay(pool, ["small"], "uniform", [6.0], repeats=2, unit=Unit.SAMPLES, objective="quota:4")
    assert quota.values[0] == pytest.approx(np.minimum(right, 4) / 4)
    pairs = replay(pool, ["small"], "uniform", [6.0], repeats=2, unit=Unit.SAMPLES, objective="pairs:2")
    assert pairs.values[0] == pytest.approx(np.minimum(np.minimum(right, 6 - right), 2) / 2)


def test_a_checkable_reward_is_seen_by_the_policy_and_otherwise_nothing_is() -> None:
    pool = make_pool(3, {"small": 4})
    for revealed in (False, True):
        policy: list[Greedy] = []

        def make(problem: Problem, kept: list[Greedy] = policy) -> Greedy:
            kept.append(Greedy(problem, [Purchase("small", 4)]))
            return kept[0]

        table = table_of(pool, revealed=revealed)
        play(table, Game(np.arange(3), 1e6, Objective("coverage"), {}), make, Dealer(table, 0, 0))
        for candidate in (one for dealt in policy[0].dealt for one in dealt):
            expected = float(table.correct[int(candidate.draft.text)]) if revealed else None
            assert candidate.score == expected


@pytest.mark.parametrize("fit", ["none", "cross"])
def test_the_same_seed_gives_the_same_frontier_whatever_the_number_of_processes(fit: str) -> None:
    pool = make_pool(24, {"small": 10}, seed=5)
    one, two, other = (
        replay(pool, ["small"], "asc", 3, repeats=4, seed=seed, fit=fit, workers=workers)
        for seed, workers in ((0, 1), (0, 2), (1, 1))
    )
    assert (one.accuracy == two.accuracy).all()
    assert (one.cost == two.cost).all()
    assert (one.values == two.values).all()
    assert (one.cost != other.cost).any()


def test_all_policies_and_budgets_of_a_repeat_see_the_same_orders() -> None:
    pool = make_pool(16, {"small": 8})
    alone = replay(pool, ["small"], "uniform", [2.0], repeats=3, unit=Unit.SAMPLES)
    among = replay(pool, ["small"], "uniform", [1.0, 2.0, 8.0], repeats=5, unit=Unit.SAMPLES)
    assert (alone.accuracy[0] == among.accuracy[1, :3]).all()
    # With no more to draw, the first candidates no longer matter: every policy ends at the same answers.
    asc = replay(pool, ["small"], "esc", [100.0], repeats=5, unit=Unit.SAMPLES, settings={"window": 8})
    assert (asc.accuracy[0] == among.accuracy[2]).all()


def test_cross_never_fits_on_what_it_is_scored_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(21, {"small": 8})
    fitted: dict[int, set[str]] = {}
    built: list[tuple[set[str], set[str]]] = []
    real_fit, real_build = contest.fit, build_allocation

    def fit(pools: Sequence[Pool]):
        policy = real_fit(pools)
        fitted[id(policy)] = set(pools[0].ids)
        return policy

    def build(name, settings, problem, probe, policy, truth):
        built.append((fitted[id(policy)], {text.removeprefix("question ") for text in problem.texts}))
        return real_build(name, settings, problem, probe, policy, truth)

    monkeypatch.setattr(contest, "fit", fit)
    monkeypatch.setattr(contest, "build_allocation", build)
    replay(pool, ["small"], "uniform", [2.0], repeats=2, unit=Unit.SAMPLES, fit="cross")
    assert len(built) == 4
    for known, played in built:
        assert not known & played
        assert known | played == set(pool.ids)


def test_a_replay_of_a_jobs_own_candidates_is_that_job() -> None:
    """A job on the fake engine, recorded; then `asc` on the engine, and on the recording in the order it was drawn."""
    prompts = make_prompts(12)
    recording = World(prompts, 1e9, script=[Purchase("vote", 24)])
    recording.run()
    drawn = sorted(recording.committed, key=lambda committed: committed.result.index)
    pool = _pool_of(prompts, [committed.candidates for committed in drawn])

    def asc(problem: Problem):
        limits = np.full((problem.prompts, len(problem.arms)), 24)
        return build_allocation("asc", {"arm": "vote"}, replace(problem, limits=limits), 4)

    live = World(prompts, 100.0, Unit.SAMPLES, in_flight=1, ordered=True, allocate=asc)
    live.run()
    table = table_of(pool, Unit.SAMPLES)
    dealer = Dealer(table, 0, 0)
    dealer._order["vote"] = list(range(len(table.drafts)))
    results = {}

    def keep(problem: Problem):
        return build_allocation("asc", {}, problem, 4)

    played = play(table, Game(np.arange(12), 100.0, Objective(), {}), keep, dealer)
    for committed in live.committed:
        results[committed.result.index] = committed
    for at, prompt in enumerate(prompts):
        result = results[at].result
        assert result.spent.samples == played.cost[at]
        assert (result.answer == prompt.reference) == bool(played.value[at])


def _pool_of(prompts, candidates) -> Pool:
    answers = [list(dict.fromkeys(c.answer for c in group if c.answer is not None)) for group in candidates]
    number = [
        -1 if c.answer is None else answers[at].index(c.answer) for at, group in enumerate(candidates) for c in group
    ]
    right = [c.answer == prompts[at].reference for at, group in enumerate(candidates) for c in group]
    nothing = np.full(len(number), np.nan)
    begin = np.concatenate([[0], np.cumsum([len(group) for group in candidates])]).astype(np.int64)
    deck = Deck("vote", begin, np.array(number), np.array(right), nothing, nothing, nothing)
    return Pool("job", [p.id for p in prompts], [p.text for p in prompts], answers, {"vote": deck})


def test_budgets_go_from_one_of_the_cheapest_to_all_of_the_dearest() -> None:
    pool = make_pool(10, {"small": 6, "large": 3})
    budgets = spread(pool, Unit.TOKENS, 5)
    small, large = pool.deck("small"), pool.deck("large")
    assert budgets[0] == pytest.approx(small.tokens.mean())
    assert budgets[-1] == pytest.approx(max(small.tokens.sum(), large.tokens.sum()) / 10)
    assert np.diff(np.log(budgets)) == pytest.approx(np.log(budgets[-1] / budgets[0]) / 4)
    assert spread(pool, Unit.SAMPLES, 2) == pytest.approx((1.0, 6.0))


def test_units_and_selectors_follow_what_is_known() -> None:
    tokens, dollars = make_pool(4, {"small": 2}), make_pool(4, {"small": 1}, dollars=True, scored=True)
    deck = replace(tokens.deck("small"), tokens=np.full(8, np.nan))
    unknown = replace(tokens, decks={"small": deck})
    assert [default_unit(one) for one in (tokens, dollars, unknown)] == [Unit.TOKENS, Unit.DOLLARS, Unit.SAMPLES]
    scored = make_pool(4, {"small": 2}, scored=True)
    assert [default_select(one.deck("small")) for one in (tokens, dollars, scored)] == [
        "majority",
        "max_score",
        "weighted",
    ]
    with pytest.raises(DataError, match=r"8 of 8 candidates without tokens.*--unit samples"):
        replay(unknown, ["small"], "uniform", [10.0], unit=Unit.TOKENS)
    with pytest.raises(DataError, match="8 of 8 candidates without cost_usd"):
        replay(tokens, ["small"], "uniform", [10.0], unit=Unit.DOLLARS)


def test_a_dollar_budget_is_kept_in_dollars() -> None:
    pool = make_pool(30, {"cheap": 1, "dear": 1}, dollars=True, scored=True)
    whole = pool.deck("cheap").dollars.sum() / 30
    found = replay(pool, ["cheap"], "uniform", [whole * 1.001, whole / 2], repeats=2)
    assert found.unit is Unit.DOLLARS
    assert found.cost[0] == pytest.approx(whole, rel=1e-3)
    assert (found.cost[1] <= whole / 2).all()
    assert found.values[0] == pytest.approx(pool.deck("cheap").correct * 1.0)


def test_uniform_keeps_to_what_a_prompt_has_and_gives_the_rest_to_others() -> None:
    whole = make_pool(4, {"small": 10})
    deck = whole.deck("small")
    kept = np.concatenate([np.arange(10 * at, 10 * at + size) for at, size in enumerate((2, 0, 10, 10))])
    short = replace(
        deck,
        begin=np.array([0, 2, 2, 12, 22]),
        **{name: getattr(deck, name)[kept] for name in ("answer", "correct", "tokens", "score", "dollars")},
    )
    pool = replace(whole, decks={"small": short})
    found = replay(pool, ["small"], "uniform", [1.0, 3.0, 100.0], repeats=3, unit=Unit.SAMPLES)
    assert found.costs[1] == pytest.approx([2.0, 0.0, 5.0, 5.0])
    assert found.costs[2] == pytest.approx([2.0, 0.0, 10.0, 10.0])
    assert found.cost[0].sum() == pytest.approx(3.0)


def test_the_interval_is_over_prompts() -> None:
    pool = make_pool(50, {"small": 8})
    low, high = (found := replay(pool, ["small"], "uniform", [4.0], repeats=8, unit=Unit.SAMPLES)).interval()
    mean = found.values[0].mean()
    assert found.accuracy[0].mean() == pytest.approx(mean)
    assert high[0] - low[0] == pytest.approx(2 * 1.645 * found.values[0].std(ddof=1) / 50**0.5, rel=0.1)
    assert low[0] < mean < high[0]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ten_prompts_that_are_all_alike_say_little_of_others(value: float) -> None:
    found = replay(make_pool(10, {"small": 2}), ["small"], "uniform", [1.0], repeats=1, unit=Unit.SAMPLES)
    low, high = replace(found, values=np.full((1, 10), value)).interval()
    assert low[0] == pytest.approx(max(0.0, value - 0.26), abs=0.05)
    assert high[0] == pytest.approx(min(1.0, value + 0.26), abs=0.05)


def test_objectives_are_written_with_their_number() -> None:
    assert goal_of("quota:4") == Objective("quota", 4)
    assert goal_of("coverage") == Objective("coverage")
    for text, hint in (
        ("quota", "quota:K"),
        ("accuracy:2", "write accuracy alone"),
        ("covrage", "did you mean 'coverage'"),
    ):
        with pytest.raises(Exception, match=hint):
            goal_of(text)
