"""The page on strategies names every strategy with all of its settings, and every selector and aggregate."""

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from apportion.policies.aggregate import AGGREGATES
from apportion.policies.registry import SELECTORS, STRATEGIES

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_stands_there_with_its_settings(name: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    bases = [base for base in STRATEGIES[name].__mro__[1:] if base in STRATEGIES.values()]
    inherited = {field.name for base in bases for field in _of(base)}
    missing = [field.name for field in _of(STRATEGIES[name]) if f"`{field.name}`" not in row]
    assert set(missing) <= inherited


@pytest.mark.parametrize("name", [*SELECTORS, *AGGREGATES])
def test_a_selector_or_an_aggregate_stands_there(name: str) -> None:
    assert f"`{name}`" in PAGE


def _of(strategy: type) -> tuple[Field[Any], ...]:
    return fields(strategy)
