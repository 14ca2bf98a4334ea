"""What difficulty.py measures: figures of perfect, blind and wrong predictions, and the whole command at small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from estimates import FIELDS, Truth, groups, quality, resampled

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def figures(said: np.ndarray, rate: np.ndarray) -> dict[str, float]:
    return dict(zip(FIELDS, quality(said, Truth(rate)).tolist(), strict=True))


def test_the_truth_predicts_itself_and_chance_is_what_is_left() -> None:
    rate = np.linspace(0.0, 1.0, 101)
    found = figures(rate, rate)
    assert found["rank"] == pytest.approx(1.0)
    assert found["brier"] == pytest.approx(float(np.mean(rate * (1 - rate))))
    assert (found["calibration_error"], found["right_bin"], found["right_band"]) == (pytest.approx(0.0), 1.0, 1.0)


def test_a_constant_ranks_nothing_and_a_wrong_one_is_miscalibrated() -> None:
    rate = np.linspace(0.0, 1.0, 101)
    blind, wrong = figures(np.full(101, 0.5), rate), figures(np.full(101, 0.9), rate)
    assert blind["rank"] == 0.0
    assert blind["calibration_error"] == pytest.approx(0.0)
    assert wrong["calibration_error"] == pytest.approx(0.4)
    assert blind["brier"] == pytest.approx(0.25)
    assert wrong["brier"] == pytest.approx(0.25 + 0.4**2)
    assert figures(1.0 - rate, rate)["rank"] == pytest.approx(-1.0)


def test_groups_hold_everyone_once() -> None:
    rng = np.random.default_rng(0)
    said, rate = rng.random(200), rng.random(200)
    place, predicted, true, share = groups(said, rate)
    assert len(place) == 200
    assert share.sum() == pytest.approx(1.0)
    assert predicted @ share == pytest.approx(said.mean())
    assert true @ share == pytest.approx(rate.mean())


def test_intervals_hold_the_figure() -> None:
    rng = np.random.default_rng(1)
    rate = rng.random(120)
    value, low, high = resampled(np.clip(rate + rng.normal(0, 0.2, 120), 0, 1), Truth(rate))
    assert (low <= high).all()
    assert low[0] < value[0] < high[0]
    assert low[1] < value[1] < high[1]


def test_the_command_prints_every_estimate(tmp_path: Path) -> None:
    picture = tmp_path / "difficulty.png"
    command = [sys.executable, str(BENCHMARKS / "difficulty.py"), "--prompts", "60", "--picture", str(picture)]
    quiet = {name: value for name, value in os.environ.items() if name != "APPORTION_POOLS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True, env=quiet)
    rows = {row["estimate"]: row for row in json.loads(done.stdout.splitlines()[-1])["pools"]["lab"]}
    assert rows["probe of 4"]["flops"] > rows["probe of 1"]["flops"] > 0.0
    assert rows["probe of 4, scored"]["rank"][0] > 0.5
    assert picture.stat().st_size > 10_000
