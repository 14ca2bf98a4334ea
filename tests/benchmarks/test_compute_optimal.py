"""The pure parts of benchmarks/compute_optimal.py: what samples cost, the best cell, the FLOPs match, what is saved."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import optimal_flops
import optimal_frontier
import optimal_pool
import optimal_reward
import optimal_table
import pytest
from savings import Curve

from apportion.difficulty.pools import Deck, Pool, Reuse

PROMPT, VERIFY, ALONE = 5e6, 2e6, 3e6
LIKE = [[0, 0, 1, 0], [0, 1, 2, 3]]


def vote() -> Deck:
    like = np.array(LIKE)
    reuse = Reuse(np.array([PROMPT, 2 * PROMPT]), np.full(like.size, VERIFY), like.ravel())
    scores = np.array([0.9, 0.9, 0.1, 0.9, 0.4, 0.3, 0.2, 0.1])
    right = like.ravel() == 0
    each = np.full(like.size, ALONE)
    return Deck("vote", np.array([0, 4, 8]), like.ravel(), right, each / 1e6, scores, each * np.nan, None, each, reuse)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_samples_cost_their_prompt_and_the_verification_of_those_that_differ(n: int) -> None:
    found = optimal_pool.sampled_cost(vote(), n)
    for prompt, likes in enumerate(LIKE):
        distinct = np.mean([len(set(some)) for some in combinations(likes, n)])
        assert found[prompt] == pytest.approx((prompt + 1) * PROMPT + n * (ALONE - VERIFY) + distinct * VERIFY)


def test_a_search_is_what_all_its_finals_choose() -> None:
    value, cost = optimal_pool.searched(vote())
    assert value.tolist() == [1.0, 1.0]
    assert cost.tolist() == [4 * ALONE] * 2


def test_small_may_spend_what_the_large_models_training_took() -> None:
    assert optimal_flops.times_of(14.0, 0.79) == pytest.approx(14.0 + 39.0 / 0.79)
    # The more inference there is, the less a training is worth: in the end inference alone is matched.
    assert optimal_flops.times_of(14.0, 1e9) == pytest.approx(14.0)
    assert optimal_flops.larger() > 10.0


def test_the_best_cell_is_the_cheapest_of_the_most_accurate() -> None:
    row = {
        "vote": {"accuracy": 0.7, "gflops": 3.0},
        "beam": {"accuracy": 0.7, "gflops": 2.0},
        "majority": {"accuracy": 0.6, "gflops": 1.0},
    }
    assert optimal_table.best_of(row) == "beam"
    assert optimal_table.best_of({}) is None


def test_auc_is_within_prompts_and_knows_ties() -> None:
    # The second prompt scores lower as a whole, which no comparison within a prompt sees.
    assert optimal_reward.auc_within(vote()) == pytest.approx(1.0)
    flat = vote()
    flat.score[:] = 0.5
    assert optimal_reward.auc_within(flat) == pytest.approx(0.5)


def curve(values: list[float], costs: list[float]) -> Curve:
    return Curve(np.array(values)[:, None], np.array(costs)[:, None], costs[-1])


def test_what_is_saved_is_a_ratio_of_costs_for_the_same_accuracy() -> None:
    single = {"vote": curve([0.0, 1.0], [0.0, 8.0])}
    chosen = {
        ("price", "all arms"): curve([0.0, 1.0], [0.0, 2.0]),
        ("binned", "all arms"): curve([0.0, 0.5], [0.0, 2.0]),
    }
    curves = optimal_frontier.Frontiers(single, chosen, np.ones((3, 1)), curve([0.0, 1.0], [0.0, 16.0]))
    found = optimal_frontier.saved(curves)
    assert found["targets"] == list(optimal_frontier.SHARES)
    assert found["saving_price_all_arms"] == pytest.approx(4.0)
    assert found["saving_price_all_arms_over_each_verified"] == pytest.approx(8.0)
    assert found["reached_saving_binned_all_arms"] == [False] * 4
    gap = optimal_frontier.price_over_binned(curves, "all arms")
    assert gap["gap"] == pytest.approx([0.0, 0.5])


def test_over_the_reviser_the_same_is_measured_against_its_own_votes() -> None:
    single = {"vote": curve([0.0, 1.0], [0.0, 8.0]), "reviser": curve([0.5, 1.5], [1.0, 5.0])}
    chosen = {("price", kind): curve([0.0, 2.0], [0.0, 4.0]) for kind in ("all arms", optimal_frontier.PARALLEL)}
    curves = optimal_frontier.Frontiers(single, chosen, np.ones((3, 1)), single["vote"])
    found = optimal_frontier.saved(curves)
    # At 80% of the reviser's gain, 1.3, it needs 4.2 and price 2.6.
    key = "saving_price_all_arms_and_parallel_attempts_over_reviser"
    assert found["reviser_targets"] == pytest.approx([1.3, 1.4, 1.45, 1.49])
    assert found[f"{key}_by_share"][0] == pytest.approx(4.2 / 2.6)
    assert "saving_price_all_arms_over_reviser" not in found


def test_difficulty_is_pass_rate_of_all_the_small_models_samples() -> None:
    pool = Pool("p", ["a", "b"], ["", ""], [["r", "w"]] * 2, {"vote": vote(), "majority": vote()})
    rate = np.array([0.75, 0.05])
    found = optimal_pool.Strategies(pool, rate)
    bands = {name.split()[0]: prompts.tolist() for name, prompts in found.bands().items()}
    assert bands == {"easy": [0], "medium": [], "hard": [1]}
    assert next(iter(found.quintiles())) == "quintile 1"
    assert sorted(np.concatenate(list(found.quintiles().values())).tolist()) == [0, 1]
