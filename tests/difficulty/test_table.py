"""The table of a pool: what its bins and knots say is what its prompts did, and it survives a file."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from apportion.difficulty.bins import ABSOLUTE, BINS, QUANTILE
from apportion.difficulty.pools import Deck, Pool
from apportion.difficulty.table import KNOTS, REWARD, SCORE, SHARE, Table, amounts_to, fit_table


def two_kinds(prompts: int = 200, size: int = 16, seed: int = 0, scored: bool = False) -> Pool:
    """Half of the prompts are always right, half are right one time in five with scattered wrong answers."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(prompts) % 2 == 0, 1.0, 0.2)
    decks = {}
    for name, tokens in (("cheap", 10.0), ("dear", 90.0)):
        right = rng.random((prompts, size)) < rate[:, None]
        answer = np.where(right, 0, rng.integers(1, 60, (prompts, size)))
        score = np.where(right, 0.9, 0.1) if scored else np.full(right.shape, np.nan)
        begin = np.arange(prompts + 1, dtype=np.int64) * size
        length = np.full(right.size, tokens)
        decks[name] = Deck(name, begin, answer.ravel(), right.ravel(), length, score.ravel(), length * np.nan)
    names = [f"q{at}" for at in range(prompts)]
    return Pool("kinds", names, [""] * prompts, [[str(k) for k in range(60)]] * prompts, decks)


def test_bins_tell_the_settled_from_the_split():
    table = fit_table(two_kinds())
    probe = table.probe("cheap", 4, SHARE)
    assert probe is not None
    assert probe.size == 4
    settled, split = probe.bin(1.0), probe.bin(0.25)
    assert settled > split
    amounts = table.arms["cheap"].amounts
    assert amounts == (1, 2, 4, 8, 16)
    easy, hard = (np.array(probe.value["majority"]["cheap"][at]) for at in (settled, split))
    assert easy == pytest.approx(np.ones(5), abs=0.06)
    assert hard[0] == pytest.approx(0.2, abs=0.06)
    assert hard[-1] > 0.5
    assert probe.value["coverage"]["dear"][split][-1] > 0.9
    assert sum(probe.shares) == pytest.approx(1.0, abs=1e-3)


def test_rewards_and_scores_have_bins_of_their_own():
    table = fit_table(two_kinds(scored=True))
    for shows in (SCORE, REWARD, SHARE):
        probe = table.probe("cheap", 8, shows)
        assert probe is not None
        kinds = {"coverage"} if shows == REWARD else {"coverage", "majority", "max_score", "weighted"}
        assert set(probe.value) == kinds
        assert probe.bin(0.9) > probe.bin(0.2)
    assert fit_table(two_kinds(20)).probe("cheap", 8, SCORE) is None


def test_values_that_are_alike_share_a_bin_and_no_bin_is_cut_off_by_ties():
    """Nine in ten probes are unanimous: the tenth still gets a bin of its own."""
    pool = two_kinds(40)
    table = fit_table(pool.part(np.array([at for at in range(40) if at % 2 == 0 or at % 20 == 1])))
    probe = table.probe("cheap", 4, SHARE)
    assert probe is not None
    assert probe.bin(1.0) != probe.bin(0.5)


def test_a_probe_of_another_size_uses_the_next_smaller_one():
    table = fit_table(two_kinds(20))
    assert [getattr(table.probe("cheap", size, SHARE), "size", None) for size in (1, 3, 4, 7, 100)] == [1, 2, 4, 4, 8]
    assert table.probe("cheap", 0, SHARE) is None
    assert table.probe("other", 4, SHARE) is None


def test_an_oracle_s_bins_are_by_pass_rate():
    table = fit_table(two_kinds())
    for kind, count in ((QUANTILE, 5), (ABSOLUTE, 3)):
        found = table.oracle("cheap", kind)
        assert found is not None
        assert len(found.shares) == len(found.value["majority"]["dear"]) == count
        assert found.value["majority"]["cheap"][found.bin(1.0)][0] == pytest.approx(1.0, abs=0.02)
    assert found.edges == (0.1, 0.5)
    assert found.shares[2] == pytest.approx(0.5, abs=0.02)
    assert found.value["majority"]["cheap"][found.bin(0.2)][0] == pytest.approx(0.2, abs=0.06)


def test_knots_follow_the_pass_rate():
    arm = fit_table(two_kinds()).arms["cheap"]
    majority, coverage = np.array(arm.knots["majority"]), np.array(arm.knots["coverage"])
    assert majority.shape == (len(KNOTS), 5)
    assert majority[-1] == pytest.approx(np.ones(5), abs=1e-3)
    assert majority[KNOTS.index(0.2), -1] > 0.5
    # Where no prompt was, coverage is what chance makes it.
    assert coverage[KNOTS.index(0.8)] == pytest.approx(1 - 0.2 ** np.array(arm.amounts), abs=1e-3)
    assert (arm.tokens, arm.dollars) == (10.0, None)


def test_dear_arms_are_no_probes_for_others():
    pool = two_kinds(20)
    cheap = pool.decks["cheap"]
    many = {f"arm{at}": replace(cheap, arm=f"arm{at}", tokens=cheap.tokens * (1 + at)) for at in range(6)}
    table = fit_table(Pool("many", pool.ids, pool.texts, pool.answers, many))
    told = {one.arm: set(one.value["coverage"]) for one in table.probes}
    assert told["arm0"] == told["arm3"] == set(many)
    assert told["arm5"] == {"arm5"}


def test_it_survives_a_file_and_damage_is_noticed():
    table = fit_table(two_kinds(20, scored=True))
    raw = json.loads(json.dumps(asdict(table), allow_nan=False))
    assert Table.from_json(raw) == table
    raw["probes"][0]["edges"] = raw["probes"][0]["edges"][::-1]
    raw["probes"][0]["edges"][0] = 9.0
    with pytest.raises(ValueError, match="ascending"):
        Table.from_json(raw)
    raw = asdict(table)
    raw["arms"]["cheap"]["knots"]["majority"] = raw["arms"]["cheap"]["knots"]["majority"][:-1]
    with pytest.raises(ValueError, match="shape"):
        Table.from_json(raw)
    assert BINS == 5


def test_amounts_are_powers_of_two_and_all_there_is():
    assert amounts_to(10) == (1, 2, 4, 8, 10)
    assert amounts_to(1) == (1,)
    assert amounts_to(0) == ()
