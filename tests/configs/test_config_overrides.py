"""Changes on the command line: text is taken as it is written, everything else is YAML."""

from __future__ import annotations

from typing import Any

import pytest

from apportion.configs.load import load_config
from apportion.errors import ConfigError

CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl", "id": "id"},
    "output": "runs/x",
    "budget": {"amount": 1.0e9, "unit": "flops"},
    "models": {"small": {"engine": "fake", "model": "x"}},
    "arms": {"vote": {"strategy": "revise", "policy": "small", "n": [1, 2]}},
}


def found(*overrides: str) -> Any:
    """What the last override's key holds then."""
    value: Any = load_config(CONFIG, overrides).resolved
    for part in overrides[-1].partition("=")[0].split("."):
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("output=007", "007"),
        ("output=1e5", "1e5"),
        ("output=a: b #c", "a: b #c"),
        ("output='a b'", "a b"),
        ('output="2024"', "2024"),
        ("output='a' and 'b'", "'a' and 'b'"),
        ("dataset.id=no", "no"),
        ("dataset.path=*.parquet", "*.parquet"),
        ("dataset.path=[ab].jsonl", "[ab].jsonl"),
        ("models.small.model=1e3", "1e3"),
        ("models.small.step_separator= ", " "),
        # Settings of an arm's strategy and of the answers.
        ("arms.vote.instruction=", ""),
        ("arms.vote.instruction=yes", "yes"),
        ("answer.pattern=[0-9]+", "[0-9]+"),
    ],
)
def test_text_is_taken_as_it_is_written(override: str, value: str) -> None:
    assert found(override) == value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("dataset.id=null", None),
        ("dataset.id=", None),
        ("answer.pattern=null", None),
        ("answer.pattern=", None),
        ("answer.pattern=~", None),
        ("seed=7", 7),
        ("budget.amount=1e3", 1000.0),
        ("dataset.limit=null", None),
        ("execution.ordered=yes", True),
        ("arms.vote.n=[4,8]", [4, 8]),
        # A setting that may be a number or a word.
        ("arms.vote.chain=4", 4),
        ("arms.vote.chain=all", "all"),
        ("models.small.replicas={min: 1, max: 2}", {"min": 1, "max": 2}),
    ],
)
def test_null_takes_text_away_and_everything_else_is_yaml(override: str, value: Any) -> None:
    assert found(override) == value


def test_a_setting_goes_by_the_policy_kind_or_strategy_that_is_chosen_beside_it() -> None:
    assert found("answer.kind=choice", "answer.letters=NO") == "NO"
    assert found("allocation.policy=asc", "allocation.arm=007") == "007"
    assert found("arms.vote.strategy=genrm", "arms.vote.says_yes=yes") == "yes"
    # Of no strategy: a mistake, which is named when the job is built.
    assert found("arms.vote.instrution=7") == 7


def test_a_forgotten_variable_does_not_name_the_current_folder() -> None:
    with pytest.raises(ConfigError, match="output is None, but must be text"):
        load_config(CONFIG, ["output="])
