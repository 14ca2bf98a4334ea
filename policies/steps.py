"""Splitting a response into the steps a process reward model scores."""

from __future__ import annotations


def split_steps(text: str, separator: str) -> tuple[str, ...]:
    """The steps of a response, without separators, surrounding space or empty steps.

    An empty separator makes the whole response one step.
    """
    parts = text.split(separator) if separator else [text]
    return tuple([step for part in parts if (step := part.strip())])
