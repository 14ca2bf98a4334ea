"""What overhead.py measures: a job's end takes no more looks at its prompts because there are more of them."""

from __future__ import annotations

import overhead
import pytest

from apportion.scheduler.machine import Machine


def looks(title: str, prompts: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a job finds nothing under way, and looks at all its prompts again."""
    found, reopen = 0, Machine._reopen

    def counted(machine: Machine) -> bool:
        nonlocal found
        found += 1
        return reopen(machine)

    case = next(case for case in overhead.CASES if case.title == title)
    with monkeypatch.context() as patched:
        patched.setattr(Machine, "_reopen", counted)
        overhead.play(case, prompts, prompts, overhead.at_once, False)
    return found


@pytest.mark.parametrize("title", ["price vote", "price vote or beam"])
def test_what_covers_nobody_is_not_offered_to_one_prompt_after_the_other(
    title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (looks(title, prompts, monkeypatch) for prompts in (25, 200))
    # Offered to two or three times as many each time, rounds grow as the logarithm of the prompts.
    assert many <= few + 8
