"""Fitted policies: fitted on a labelled pool, restored exactly, refused with a named error when they cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pool_world import make_pool

from apportion.difficulty.fit import fit
from apportion.difficulty.fitted import KNOWN_DEVIATION, FittedArm, load
from apportion.difficulty.grid import PASS
from apportion.difficulty.pools import read_pool
from apportion.errors import ConfigError, DataError
from apportion.policies.arm import Arm
from apportion.policies.beam_search import BeamSearch
from apportion.policies.best_of_n import BestOfN
from apportion.types import Sampling


def arm(name, policy="m"):
    return Arm(name, BestOfN(), policy, None, "majority", "last", (1, 2, 4), Sampling())


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """200 prompts of which those with long numbers are hard; arm `large` is 1.5 logits better than `small`."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    rows, prompts = [], []
    for prompt in range(200):
        hard = prompt % 2 == 1
        number = "".join(rng.choice(list("123456789"), 6 if hard else 1))
        prompts.append({"prompt_id": prompt, "text": f"What is {number} times {number}?"})
        logit = rng.normal(-1.5 if hard else 2.0, 0.5)
        for name, lift, count in (("small", 0.0, 12), ("large", 1.5, 6)):
            p = 1 / (1 + np.exp(-(logit + lift)))
            for index in range(count):
                right = rng.random() < p
                score = 1 / (1 + np.exp(-rng.normal(1.0 if right else -1.0, 1.0)))
                answer = "r" if right else f"w{rng.integers(5)}"
                rows.append(
                    {"prompt_id": prompt, "arm": name, "index": index, "answer": answer, "correct": bool(right)}
                    | {"tokens": 20 + hard, "score": float(score)}
                )
    pq.write_table(pa.Table.from_pylist(prompts), folder / "prompts.parquet")
    pq.write_table(pa.Table.from_pylist(rows), folder / "candidates.parquet")
    return folder


@pytest.fixture(scope="module")
def policy(pool):
    return fit([read_pool(pool)])


def test_it_finds_the_lift_the_calibration_and_the_prior(policy):
    assert policy.reference == "small"
    assert policy.arms["small"].lift == 0.0
    assert policy.arms["large"].lift == pytest.approx(1.5, abs=0.4)
    # Two unit normals at +1 and -1; clipped logits are a little nearer.
    assert policy.calibration.gap == pytest.approx(2.0, abs=0.15)
    assert policy.calibration.noise == pytest.approx(1.0, abs=0.1)
    assert policy.weights.right > policy.weights.wrong
    mean = np.array(policy.prior).sum(axis=1) @ PASS
    assert mean == pytest.approx(policy.arms["small"].pass_rate, abs=0.04)


def test_every_prompt_counts_the_same_however_many_candidates_it_has():
    rows = {"easy": [("r", True)], "hard": [("w", False)] * 18 + [("r", True)], "unknown": []}
    made = make_pool({"a": rows})
    deck = made.deck("a")
    tokens, dollars = np.where(deck.owner == 0, 10.0, 30.0), np.where(deck.owner == 0, np.nan, 2.0)
    found = fit([replace(made, decks={"a": replace(deck, tokens=tokens, dollars=dollars)})]).arms["a"]
    assert found.pass_rate == pytest.approx((1.0 + 1.0 / 19.0) / 2.0)
    assert (found.tokens, found.dollars) == (20.0, 2.0)
    assert found.candidates == 20


def test_the_text_tells_hard_from_easy_and_is_worth_something_held_out(policy):
    easy, hard = policy.text.mean(["What is 7 times 7?", "What is 712345 times 712345?"])
    assert easy > 0.7
    assert hard < 0.4
    assert policy.error.log_likelihood_text > policy.error.log_likelihood_prior + 0.1


def test_a_file_restores_it_exactly(policy, tmp_path):
    path = tmp_path / "policy.json"
    policy.save(path)
    again = load(path)
    assert again == policy
    texts = ["What is 7 times 7?", "How many apples are left?"]
    np.testing.assert_array_equal(again.text.factor(texts), policy.text.factor(texts))


def test_arms_taken_for_the_same_one_are_believed_to_differ_as_their_settings_do(policy):
    known, hot = arm("small"), replace(arm("hot", policy="small"), sampling=Sampling(temperature=1.5))
    assert policy.shared([known, hot]) == {"small": ("small", "hot")}
    assert policy.shared([known, arm("large")]) == {}
    apart, alone = policy.start((known, hot), ["?"]), policy.start((hot, arm("large")), ["?"])
    assert apart.deviations[0] == alone.deviations[0] == KNOWN_DEVIATION
    assert apart.deviations[1] > 5 * KNOWN_DEVIATION
    assert apart.lifts[1] == policy.arms["small"].lift


def test_a_job_starts_from_it_by_arm_or_model_name(policy):
    arms = (arm("small"), arm("other", policy="large"), arm("unknown", policy="x"))
    start = policy.start(arms, ["What is 3 times 3?"] * 2)
    assert start.trained
    assert start.lifts.tolist() == [0.0, policy.arms["large"].lift, 0.0]
    assert start.deviations[2] > start.deviations[1]
    assert start.text.shape == (2, len(PASS))


def test_files_that_cannot_be_used_are_named(policy, tmp_path):
    path = tmp_path / "policy.json"
    with pytest.raises(ConfigError, match=r"policy\.json, which does not exist.*fit it again"):
        load(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="not readable JSON"):
        load(path)
    path.write_text('{"format": "other"}')
    with pytest.raises(ConfigError, match="no fitted policy"):
        load(path)
    policy.save(path)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"version": 9}))
    with pytest.raises(ConfigError, match="version 9, and this apportion reads 2"):
        load(path)
    path.write_text(json.dumps(raw | {"prior": [[1.0]]}))
    with pytest.raises(ConfigError, match="is damaged"):
        load(path)
    with pytest.raises(ConfigError, match=r"arms \(vote \(model m\)\).*other arms, of pool0: known: large, small"):
        policy.start((arm("vote"),), ["?"])


def test_pools_that_cannot_be_fitted_on_are_named(pool, tmp_path):
    with pytest.raises(DataError, match=r"no candidates\.parquet"):
        fit([read_pool(tmp_path)])
    table = pq.read_table(pool / "candidates.parquet")
    pq.write_table(table.drop_columns(["correct"]), tmp_path / "candidates.parquet")
    with pytest.raises(DataError, match="lacks the columns correct"):
        fit([read_pool(tmp_path)])
    unknown = pa.nulls(len(table), pa.bool_())
    blank = table.set_column(table.column_names.index("correct"), "correct", unknown)
    pq.write_table(blank, tmp_path / "candidates.parquet")
    with pytest.raises(DataError, match="have no `correct`"):
        fit([read_pool(tmp_path)])


def test_without_texts_there_is_no_text_prior(pool, tmp_path):
    table = pq.read_table(pool / "candidates.parquet")
    pq.write_table(table, tmp_path / "candidates.parquet")
    policy = fit([read_pool(tmp_path)])
    assert policy.text is None
    assert policy.start((arm("small"),), ["?"]).text is None
    assert replace(policy, calibration=None).start((arm("small"),), ["?"]).calibration.gap > 0


def search(name, amounts):
    return Arm(name, BeamSearch(), "m", "prm", "weighted", "last", amounts, Sampling())


def test_a_search_is_known_by_the_amounts_that_were_recorded(policy):
    known = {
        "beam@4": FittedArm(0.5, 0.5, 100, 30.0, None),
        "beam@16": FittedArm(1.0, 0.6, 300, 40.0, 0.25),
        "small": policy.arms["small"],
    }
    fitted = replace(policy, arms=known)
    assert fitted.arm(search("beam", (4,))) == known["beam@4"]
    assert fitted.arm(search("beam", (4, 16))) == FittedArm(0.875, 0.575, 400, 37.5, 0.25)
    assert fitted.arm(search("beam", (64,))) == fitted.arm(search("beam", (4, 16))), "all there are"
    assert fitted.arm(search("bea", (4,))) is None
    start = fitted.start((arm("small"), search("beam", (16,))), ["?"])
    assert start.lifts.tolist() == [0.0, 1.0]
    assert fitted.lengths((arm("small"), search("beam", (4,)), arm("x"))) == {
        "small": policy.arms["small"].tokens,
        "beam": 30.0,
    }


def test_the_file_is_for_people_to_read(policy):
    lines = policy.text_file().splitlines()
    assert any(line.startswith('  "small": {"lift": 0.0, "pass_rate": 0.') for line in lines)
    assert max(map(len, lines)) < 125
    assert not [line for line in lines if line.strip(" ,").replace(".", "").isdigit()], (
        "no number has a line of its own"
    )
