"""The objective of a config: a name, or a name with its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from apportion.configs.arms import build_arms
from apportion.configs.load import load_config
from apportion.configs.objective import build_objective
from apportion.difficulty.objectives import Objective
from apportion.errors import ConfigError

CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl", "prompt": "q"},
    "output": "runs/x",
    "budget": {"amount": 10, "unit": "samples"},
    "models": {
        "small": {"engine": "fake", "model": "x"},
        "prm": {"engine": "fake", "role": "scorer", "model": "y"},
    },
    "arms": {
        "checked": {"strategy": "best_of_n", "policy": "small", "verifier": "prm", "select": "weighted", "n": [1, 2]}
    },
}
PLAIN = {"strategy": "best_of_n", "policy": "small", "n": [1, 2]}


def built(objective: Any = None, *overrides: str, **arms: Any) -> Objective:
    config = {**CONFIG, "arms": {**CONFIG["arms"], **arms}}
    job = load_config(config if objective is None else {**config, "objective": objective}, overrides).job
    return build_objective(job.objective, build_arms(job))


@pytest.mark.parametrize(
    ("written", "overrides", "found"),
    [
        (None, (), Objective("accuracy")),
        ("coverage", (), Objective("coverage")),
        ({"name": "coverage"}, (), Objective("coverage")),
        ({"name": "coverage", "accept": 0.9}, (), Objective("coverage", 1, 0.9)),
        ({"name": "quota", "k": 4}, (), Objective("quota", 4, 0.5)),
        ({"name": "quota", "k": 4, "accept": 0.8}, (), Objective("quota", 4, 0.8)),
        ("pairs", (), Objective("pairs", 1, 0.5)),
        ("accuracy", ("objective.name=quota", "objective.k=2"), Objective("quota", 2, 0.5)),
        ({"name": "quota", "k": 4}, ("objective=coverage",), Objective("coverage")),
        (None, ("objective={name: pairs, k: 3}",), Objective("pairs", 3, 0.5)),
    ],
)
def test_an_objective_is_read(written: Any, overrides: tuple[str, ...], found: Objective) -> None:
    assert built(written, *overrides) == found


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("acuracy", r"objective: no objective is called 'acuracy'; did you mean 'accuracy'"),
        ("quota", r"objective\.k is missing"),
        ({"name": "quota", "k": 0}, r"objective\.k is 0, but must be a whole number of at least 1"),
        ({"name": "quota", "k": 2.5}, r"objective\.k is 2\.5, but must be a whole number"),
        ({"name": "pairs", "accept": 0}, r"objective\.accept is 0, but must be above 0 and at most 1"),
        ({"name": "pairs", "accept": 1.5}, r"objective\.accept is 1\.5"),
        (
            {"name": "coverage", "k": 3},
            r"objective\.k is 3, but coverage knows no k; leave it out, or use quota or pairs",
        ),
        ({"name": "accuracy", "accept": 0.5}, r"objective\.accept is 0\.5, but accuracy knows no accept"),
        ({"name": "quota", "kk": 3}, r"unknown key 'objective\.kk'.*'k'"),
        (["quota"], r"objective is \['quota'\], but must be a name, or a mapping with the keys name, k, accept"),
        (7, r"objective is 7, but must be a name, or a mapping"),
    ],
)
def test_a_wrong_objective_is_named(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(written)


def test_an_arm_that_nobody_scores_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match=r"objective 'pairs' counts candidates.*arms\.plain has no verifier"):
        built("pairs", plain=PLAIN)
    assert built("coverage", plain=PLAIN).name == "coverage"


@pytest.mark.parametrize("written", ["coverage", {"name": "quota", "k": 4}, {"name": "pairs", "accept": 0.25}])
def test_the_resolved_config_keeps_it_as_it_was_written(written: Any) -> None:
    loaded = load_config({**CONFIG, "objective": written})
    assert loaded.resolved["objective"] == written
    assert load_config(loaded.resolved).job.objective == loaded.job.objective
