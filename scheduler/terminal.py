"""What is written to a terminal: numbers for people, and text that came from a model or a dataset made harmless."""

from __future__ import annotations

import math

from rich.console import Console
from rich.text import Text

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_PLAIN_BELOW = 10_000.0
"""Counts below this are written out: 1,234 reads better than 1.23 k."""
_SHOWN_CHARACTERS = 200


def safe(text: str, limit: int = _SHOWN_CHARACTERS) -> Text:
    """Untrusted text for a rich console: never read as markup, control characters as escapes, cut at `limit`."""
    return Text(printable(text[:limit]) + ("…" if len(text) > limit else ""))


def printable(text: str) -> str:
    """Text whose control characters, but for newlines inside it, are shown as escapes: it cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def amount(value: float, unit: str) -> str:
    """A budget amount with its unit: `1.20 TFLOPs`, `3,456 tokens`, `$1.25`, `12.5 GPU s`."""
    if unit == "dollars":
        return f"${value:,.2f}" if abs(value) >= 0.01 or value == 0 else f"${value:.2g}"
    if unit == "flops":
        return f"{_scaled(value)}FLOPs"
    if unit == "gpu_seconds":
        return f"{value / 3600:,.1f} GPU h" if value >= 3600 else f"{value:,.1f} GPU s"
    return f"{_scaled(value)}{unit}"


def spending(spent: float, budget: float, unit: str) -> str:
    """`spent of budget`, the unit written once where both have it."""
    left, right = amount(spent, unit), amount(budget, unit)
    suffix = " " + right.rpartition(" ")[2]
    return f"{left.removesuffix(suffix) if suffix != ' ' + right else left} of {right}"


def count(value: float) -> str:
    """A bare number: `950`, `1,234`, `12.3 M`."""
    return _scaled(value).strip()


def several(number: int, noun: str) -> str:
    """A number of things, each a `noun`: 1 row, 2 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(value: float | None) -> str:
    """A share in [0, 1] as `63.5%`; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}%"


def duration(seconds: float | None) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`; `?` where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def error_console() -> Console:
    """Where progress and errors go: standard error, so that standard output stays clean."""
    return Console(stderr=True, highlight=False)


def output_console(plain_width: int) -> Console:
    """Where results go: standard output, `plain_width` columns wide where that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=plain_width)


def _scaled(value: float) -> str:
    if not math.isfinite(value):
        return f"{value} "
    if abs(value) < _PLAIN_BELOW:
        return f"{value:,.0f} " if value == round(value) else f"{value:,.2f} "
    # 999,999 must become 1.00 M, not 1,000 k.
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}" if abs(value) >= factor * 10 else f"{value / factor:.2f} {prefix}"
    return f"{value:,.0f} "
