"""Numbers for people, and text that must not steer a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from apportion.scheduler.terminal import amount, count, duration, percent, printable, safe, several, spending


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2e12, "flops", "1.20 TFLOPs"),
        (2.0e15, "flops", "2.00 PFLOPs"),
        (123.4e12, "flops", "123 TFLOPs"),
        (999_999_999.0, "flops", "1.00 GFLOPs"),
        (0.0, "flops", "0 FLOPs"),
        (3456, "tokens", "3,456 tokens"),
        (45_678, "tokens", "45.7 ktokens"),
        (1.5, "samples", "1.50 samples"),
        (1.25, "dollars", "$1.25"),
        (0.00123, "dollars", "$0.0012"),
        (12.34, "gpu_seconds", "12.3 GPU s"),
        (7200, "gpu_seconds", "2.0 GPU h"),
    ],
)
def test_amounts_read_well(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


@pytest.mark.parametrize(
    ("spent", "budget", "unit", "text"),
    [
        (20, 200, "samples", "20 of 200 samples"),
        (3e11, 1e12, "flops", "300 GFLOPs of 1.00 TFLOPs"),
        (1, 3.5, "dollars", "$1.00 of $3.50"),
    ],
)
def test_a_unit_is_written_once(spent: float, budget: float, unit: str, text: str) -> None:
    assert spending(spent, budget, unit) == text


def test_counts_shares_and_durations_read_well() -> None:
    assert [count(value) for value in (0, 950, 1234, 12_345, 2_500_000)] == ["0", "950", "1,234", "12.3 k", "2.50 M"]
    assert [percent(value) for value in (0.635, 1.0, None, float("nan"))] == ["63.5%", "100.0%", "-", "-"]
    assert [duration(value) for value in (0.4, 59.6, 200, 7500, None, float("inf"))] == [
        "0 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
        "?",
        "?",
    ]


@given(st.text())
def test_any_text_is_shown_on_one_line_without_control_characters_or_markup(text: str) -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=False, width=10_000).print(safe(text, limit=1000), end="", soft_wrap=True)
    shown = stream.getvalue()
    assert all(character.isprintable() or character == "\n" for character in printable(text))
    assert shown.replace("\n", "").isprintable() or shown == ""
    if text.isprintable() and len(text) <= 1000:
        assert shown == text


def test_an_escape_sequence_and_markup_become_text() -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system=None, width=80).print(safe("[red]\x1b[31mhi[/red]"), end="")
    assert stream.getvalue() == "[red]\\x1b[31mhi[/red]"


def test_one_thing_is_no_plural():
    assert [several(number, "row") for number in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
