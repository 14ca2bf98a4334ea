"""Splitting a response into the steps a process reward model scores."""

from __future__ import annotations

from collections.abc import Sequence


def split_steps(text: str, separator: str) -> tuple[str, ...]:
    """The steps of a response, without separators, surrounding space or empty steps.

    An empty separator makes the whole response one step.
    """
    parts = text.split(separator) if separator else [text]
    return tuple([step for part in parts if (step := part.strip())])


def steps_of(text: str, separator: str, stops: Sequence[str]) -> tuple[str, ...]:
    """The steps of a response that may have ended with one of its stop strings, which is no step of its own."""
    steps = split_steps(text, separator)
    for stop in stops:
        before = split_steps(text.removesuffix(stop), separator)
        if 0 < len(before) < len(steps):
            return before
    return steps
