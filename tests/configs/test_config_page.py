"""docs/config.md names every key of a job, in its section, and every setting of engines, policies and answers."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from apportion.actors.embedded import EmbeddedSettings
from apportion.actors.endpoint_settings import EndpointSettings
from apportion.actors.registry import ENGINES
from apportion.actors.score_format import FORMATS
from apportion.actors.spec import Role
from apportion.actors.vllm_args import OwnArgs
from apportion.configs.keys import written_keys
from apportion.configs.schema import ArmConfig, JobConfig, ModelConfig
from apportion.costs import Unit
from apportion.policies.aggregate import AGGREGATES
from apportion.policies.registry import ANSWER_KINDS, SELECTORS
from apportion.scheduler.allocation_settings import SETTINGS
from apportion.scheduler.allocations import ALLOCATIONS
from apportion.scheduler.contest import MANY_ARMS, NEED_LABELS

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
SCHEMAS = {"models": ModelConfig, "arms": ArmConfig} | {
    name: hint for name, hint in typing.get_type_hints(JobConfig).items() if dataclasses.is_dataclass(hint)
}


def section(name: str) -> str:
    return next(text for title, text in SECTIONS.items() if name in title.split())


def named(text: str) -> set[str]:
    """What stands in the first cell of rows of tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def row(text: str, name: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
    return found


def fields(owner: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(owner) if field.init]


def test_every_section_and_key_of_the_whole_stands_there() -> None:
    assert named(SECTIONS["The whole"]) == {field.name for field in fields(JobConfig)}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_of_a_section_stands_there(name: str) -> None:
    assert set(written_keys(SCHEMAS[name])) <= named(section(name))


def test_a_section_has_no_key_that_a_job_does_not() -> None:
    for name in ("dataset", "objective", "budget", "arms", "difficulty", "calibration"):
        assert named(section(name)) == set(written_keys(SCHEMAS[name]))


@pytest.mark.parametrize("name", ["dataset", "models", "arms", "difficulty", "calibration", "execution", "cluster"])
def test_defaults_are_those_of_the_schema(name: str) -> None:
    text = section(name).partition("\n`engine_args` of")[0]
    for field in fields(SCHEMAS[name]):
        if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            if field.default == "???":
                expected = "must be given"
            else:
                expected = field.default if isinstance(field.default, str) else f"{field.default:g}"
            (line,) = [
                one for one in text.splitlines() if one.startswith("| `") and f"`{field.name}`" in one.split("|")[1]
            ]
            assert str(expected) in line, field.name


@pytest.mark.parametrize(
    ("engine", "owner"), [("embedded", EmbeddedSettings), ("vllm", OwnArgs), ("openai", EndpointSettings)]
)
def test_every_setting_of_an_engine_stands_under_it(engine: str, owner: Any) -> None:
    (table,) = re.findall(rf"^`engine_args` of `{engine}`.*?\n\n\|.*?(?=\n\n)", section("models"), re.M | re.S)
    assert named(table) == {field.name for field in fields(owner)}


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_every_policy_stands_there_with_its_settings_and_what_it_needs(name: str) -> None:
    line = row(section("allocation"), name)
    for field in fields(SETTINGS[name]):
        assert f"`{field.name}`" in line
        if isinstance(field.default, int | float):
            assert f"{field.default:g}" in line
    assert line.endswith("| `difficulty.fitted` |") == (name in NEED_LABELS)


def test_the_table_of_settings_has_every_policy() -> None:
    assert set(SETTINGS) == set(ALLOCATIONS)
    assert "only `price`, `binned` and `oracle` choose among arms" in section("allocation")
    assert {"price", "binned", "oracle"} == MANY_ARMS


@pytest.mark.parametrize("name", ANSWER_KINDS)
def test_every_kind_of_answer_stands_there_with_its_settings(name: str) -> None:
    line = row(section("answer"), name)
    hints = typing.get_type_hints(ANSWER_KINDS[name])
    for field in fields(ANSWER_KINDS[name]):
        assert f"`{field.name}`" in line
        for word in typing.get_args(hints[field.name]):
            assert not isinstance(word, str) or f"`{word}`" in line


@pytest.mark.parametrize("word", [*ENGINES, *FORMATS, *SELECTORS, *AGGREGATES, *map(str, Unit), *map(str, Role)])
def test_every_word_that_a_key_takes_stands_there(word: str) -> None:
    assert f"`{word}`" in PAGE
