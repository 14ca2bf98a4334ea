"""The race against simulated votes: exact for a majority, close for a vote weighted by scores."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.difficulty.grid import PASS, POINTS
from apportion.difficulty.opening import largest_block, opening
from apportion.difficulty.race import SHARES, Race, Weights, share_weights

AT, SHARE = 24, 7
DRAWS = 100_000


def alone(size, at):
    weights = np.zeros((1, size))
    weights[0, at] = 1.0
    return weights


def simulated(lead, k, weights, rng):
    p, rival = PASS[AT], (1 - PASS[AT]) * SHARES[SHARE]
    votes = rng.multinomial(k, [p, rival, 1 - p - rival], size=DRAWS)
    spread = np.sqrt(votes[:, 0] * weights.right_sd**2 + votes[:, 1] * weights.wrong_sd**2)
    end = lead * weights.unit + votes[:, 0] * weights.right - votes[:, 1] * weights.wrong
    end = end + spread * rng.standard_normal(DRAWS)
    return np.mean(end > 1e-9) + 0.5 * np.mean(np.abs(end) <= 1e-9)


@pytest.mark.parametrize("weights", [Weights(), Weights(0.7, 0.2, 0.45, 0.25)])
@pytest.mark.parametrize("lead", [-3.0, -1.0, 0.0, 2.0])
def test_the_table_agrees_with_simulated_votes(weights, lead):
    rng = np.random.default_rng(0)
    amounts = np.array([1.0, 2.0, 5.0, 24.0])
    won = Race(amounts, weights).win(np.array([lead]), alone(len(SHARES), SHARE), alone(POINTS, AT))[0]
    expected = [simulated(lead, int(k), weights, rng) for k in amounts]
    assert won == pytest.approx(expected, abs=0.006 if weights.right_sd == 0 else 0.012)


def test_a_lead_that_cannot_be_lost_is_kept_exactly():
    race = Race(np.array([1.0, 2.0, 3.0]), Weights())
    won = race.win(np.array([2.0]), alone(len(SHARES), 12), alone(POINTS, 0))[0]
    assert won[0] == pytest.approx(1.0, abs=1e-6)
    assert won[2] < 0.5


def test_fractional_amounts_lie_between_whole_ones():
    race = Race(np.array([4.0, 4.5, 5.0]), Weights())
    low, middle, high = race.win(np.array([-1.0]), alone(len(SHARES), SHARE), alone(POINTS, AT))[0]
    assert middle == pytest.approx(0.5 * (low + high), abs=1e-6)


def test_share_weights_have_the_mean_of_their_beta():
    found = share_weights(np.array([3.0]), np.array([5.0]))[0]
    assert found.sum() == pytest.approx(1.0)
    assert found @ SHARES == pytest.approx(3 / 8, abs=0.01)


def test_the_opening_agrees_with_a_simulated_restaurant():
    rng = np.random.default_rng(1)
    k, p, alpha, column = 6, PASS[AT], 3.0, 2
    wins = 0.0
    for _ in range(20_000):
        right, tables = 0, []
        for _ in range(k):
            if rng.random() < p:
                right += 1
                continue
            seated = sum(tables)
            if rng.random() < alpha / (alpha + seated):
                tables.append(1)
            else:
                tables[rng.choice(len(tables), p=np.array(tables) / seated)] += 1
        most = max(tables, default=0)
        wins += (right > most) + 0.5 * (right == most > 0)
    assert opening(np.array([float(k)]))[0, AT, column] == pytest.approx(wins / 20_000, abs=0.01)


def test_the_largest_block_is_at_most_everyone_and_at_least_one():
    within = largest_block(8)
    for n in range(1, 9):
        assert within[0, n] == pytest.approx(0.0)
        assert within[n, n] == pytest.approx(1.0)
        assert (np.diff(within[:, n], axis=0) >= -1e-9).all()
