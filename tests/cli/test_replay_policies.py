"""`apportion replay`: policies with settings, its progress, and what is left of it when it is stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_pools import make_pool, write_pool

from apportion.cli import main
from apportion.scheduler import frontier


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `maths` with two arms, in the current directory."""
    monkeypatch.chdir(tmp_path)
    return write_pool(make_pool(16, {"small": 8, "large": 4}), tmp_path / "maths")


def replay(*arguments: str) -> int:
    options = ["--workers", "1", "--repeats", "2", "--budgets", "60,120", "--out", "a.json"]
    return main(["replay", "maths", *options, *arguments])


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("a.json").read_text())
    return found


def test_one_policy_with_several_settings_is_told_apart_in_rows_table_and_picture(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = ["binned", "binned:difficulty=oracle", "binned:bins=absolute:difficulty=oracle", "asc:threshold=0.6"]
    assert replay("--policies", ",".join([*policies, "asc"]), "--arms", "small", "--fit", "cross") == 0
    rows = written()["rows"]
    assert [row["policy"] for row in rows[::2]] == [*policies, "asc"]
    spent = {row["policy"]: row["cost_per_prompt"] for row in rows[1::2]}
    # A criterion that is met sooner spends less.
    assert spent["asc:threshold=0.6"] < spent["asc"]
    told = capsys.readouterr()
    assert re.search(r"asc:threshold=0\.6", told.out)
    assert "picture: a.png" in told.err


def test_difficulty_can_be_known_to_an_oracle(pool: Path) -> None:
    assert replay("-q", "--policies", "binned,binned:difficulty=oracle", "--fit", "cross") == 0
    probe, oracle = (written()["rows"][at]["accuracy"] for at in (0, 2))
    assert oracle != probe


@pytest.mark.parametrize(
    ("policies", "hint"),
    [
        (
            "binned:dificulty=oracle",
            r"policy 'binned' has no setting 'dificulty' \(= 'oracle'\): did you mean 'difficulty'",
        ),
        ("asc:threshold=high", r"policy 'asc'\.threshold is 'high'; it must be a number"),
        ("esc:window=0", r"allocation\.window is 0; it must be at least 1"),
        ("bined:difficulty=oracle", r"policy 'bined' is unknown: did you mean 'binned'"),
        ("binned:oracle", r"has 'oracle' where a setting belongs; write binned:probe=VALUE"),
        ("oracle:x", "write oracle alone, which has no settings"),
        ("asc:arm=small", "names an arm, but a replay plays .* each by itself; choose arms with --arms small"),
        ("esc:window=3:window=4", "sets 'window' twice"),
        ("asc,asc", "names 'asc' twice"),
        ("damani", "learns from labels.*under difficulty.fitted, or in a replay with --fit, which also takes cross"),
    ],
)
def test_settings_that_cannot_be_are_named_and_nothing_is_written(
    pool: Path, capsys: pytest.CaptureFixture[str], policies: str, hint: str
) -> None:
    assert replay("--policies", policies) == 2
    told = capsys.readouterr().err
    assert re.search(hint, told), told
    assert not Path("a.json").exists()


def test_labels_that_are_missing_are_named_before_other_policies_are_played(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay("--policies", "uniform,binned") == 2
    assert "entry 1" not in capsys.readouterr().err
    assert not Path("a.json").exists()


def test_entries_are_counted_as_they_are_played(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay("--policies", "uniform,oracle") == 0
    told = capsys.readouterr().err.splitlines()
    assert told[:3] == [
        "entry 1 of 3: maths large uniform",
        "entry 2 of 3: maths small uniform",
        "entry 3 of 3: maths large+small oracle",
    ]
    assert {key: written()["meta"][key] for key in ("entries", "played")} == {"entries": 3, "played": 3}


def test_what_was_played_is_kept_when_the_rest_is_interrupted(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = frontier.replay_all

    def stopped(*arguments: Any) -> Iterator[frontier.Frontier]:
        yield next(whole(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(frontier, "replay_all", stopped)
    assert replay("--policies", "uniform,oracle") == 130
    assert "rows of the 1 of 3 entries that were played: a.json" in capsys.readouterr().err
    assert [row["arms"] for row in written()["rows"]] == [["large"], ["large"]]
    assert {key: written()["meta"][key] for key in ("entries", "played")} == {"entries": 3, "played": 1}


def test_a_file_that_cannot_be_written_is_named_before_anything_is_played(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.json.tmp").mkdir()
    assert replay("--policies", "uniform") == 2
    told = capsys.readouterr().err
    assert told.startswith("apportion: ConfigError: --out a.json cannot be written: ")
    assert "name another file" in told
    assert "entry 1" not in told


def test_units_are_called_by_their_names(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay("--policies", "uniform", "--unit", "flop") == 2
    assert "did you mean 'flops'? known: dollars, flops, samples, tokens" in capsys.readouterr().err
