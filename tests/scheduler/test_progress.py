"""How a running job is shown."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from apportion.scheduler.progress import PLAIN_SECONDS, JobView, Progress, figures, picture, plain_line

VIEW = JobView(
    total=200,
    done=50,
    running=12,
    waiting=138,
    set_aside=3,
    budget=1.2e12,
    spent=3.0e11,
    unit="flops",
    price=5e-11,
    tokens=84_000,
    correct=30,
    scored=40,
    elapsed_s=20.0,
    replicas=(2, 3),
    restarts=1,
)


def test_the_figures_of_a_job() -> None:
    assert figures(VIEW) == [
        ("done", "50 of 200"),
        ("spent", "300 GFLOPs of 1.20 TFLOPs (25.0%)"),
        ("price", "0.6 answers per 1% of budget"),
        ("speed", "4,200 tokens/s"),
        ("accuracy", "75.0% of 40"),
        ("in flight", "12 (138 waiting)"),
        ("replicas", "2 of 3 up, 1 restarts"),
        ("set aside", "3 rows"),
        ("time", "20 s, 1 min 00 s left"),
    ]


def test_answers_that_may_still_change_are_counted_beside_those_that_are_done() -> None:
    assert dict(figures(replace(VIEW, answered=190)))["done"] == "50 of 200 (190 have an answer)"
    assert dict(figures(replace(VIEW, done=200, answered=198)))["done"] == "200 of 200"


def test_what_is_not_known_is_left_out() -> None:
    view = replace(VIEW, scored=0, correct=0, replicas=(0, 0), set_aside=0, price=0.0, done=0, spent=0.0, elapsed_s=0.0)
    shown = dict(figures(view))
    assert not {"accuracy", "replicas", "set aside"} & shown.keys()
    assert shown["price"] == "none"
    assert shown["time"] == "0 s, ? left"
    assert view.accuracy is None


@pytest.mark.parametrize(
    ("done", "spent", "left"),
    [(50, 0.0, 60.0), (0, 6.0e11, 20.0), (100, 3.0e11, 20.0), (200, 3.0e11, 0.0), (10, 1.2e12, 0.0), (0, 0.0, None)],
)
def test_a_job_ends_with_its_prompts_or_its_budget(done: int, spent: float, left: float | None) -> None:
    assert replace(VIEW, done=done, spent=spent).left_s == left


def test_a_job_that_has_hardly_begun_says_nothing_of_its_end() -> None:
    begun = replace(VIEW, done=1, spent=VIEW.budget / 1000)
    assert begun.left_s is None, "the first replies come while models warm up"
    assert replace(begun, spent=VIEW.budget / 50).left_s == pytest.approx(49 * VIEW.elapsed_s)


def test_a_resumed_job_is_timed_by_what_this_session_did() -> None:
    resumed = replace(VIEW, replayed_tokens=80_000, replayed_spent=2.7e11, replayed_done=40)
    assert resumed.tokens_per_second == 200.0
    assert resumed.left_s == pytest.approx(300.0), "10 prompts in 20 s, 150 left; the budget lasts for 600 s"
    assert replace(resumed, replayed_done=49).left_s == pytest.approx(600.0), "the budget ends first"
    assert replace(resumed, replayed_spent=VIEW.spent, replayed_done=VIEW.done).left_s is None
    assert dict(figures(resumed))["done"] == "50 of 200", "what earlier sessions did is shown"


def test_a_phase_before_any_work_is_shown() -> None:
    first = replace(VIEW, done=0, running=0, waiting=200, spent=0.0, tokens=0, price=0.0, correct=0, scored=0)
    first = replace(first, elapsed_s=0.0, replicas=(0, 0), restarts=0, note="starting models")
    assert plain_line(first) == (
        "starting models | done 0 of 200 | spent 0 FLOPs of 1.20 TFLOPs (0.0%) | price none | speed 0 tokens/s | "
        "in flight 0 (200 waiting) | set aside 3 rows | time 0 s, ? left"
    )
    shown, stream = console(True)
    with Progress(shown, first="preparing the job", clock=Clock()) as progress:
        progress(first)
    assert "starting models" in stream.getvalue()


def test_a_phase_is_named_first() -> None:
    assert plain_line(replace(VIEW, note="starting models")).startswith(
        "starting models | done 50 of 200 | spent 300 G"
    )


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100), stream


def test_the_live_picture_holds_every_figure() -> None:
    shown, stream = console(False)
    shown.print(picture(VIEW))
    text = " ".join(stream.getvalue().split())
    assert all(" ".join(value.split()) in text for _, value in figures(VIEW))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_a_plain_line_is_written_now_and_then_and_at_the_end() -> None:
    shown, stream = console(False)
    clock = Clock()
    with Progress(shown, first="starting", clock=clock) as progress:
        for done in (0, 10, 20, 30):
            progress(replace(VIEW, done=done))
            clock.now += PLAIN_SECONDS / 2
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["starting", "done 0 of 200", "done 20 of 200", "done 30 of 200"]
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_display_is_redrawn() -> None:
    shown, stream = console(True)
    clock = Clock()
    with Progress(shown, first="starting", clock=clock) as progress:
        assert "starting" in stream.getvalue()
        progress(VIEW)
        clock.now += 1
        progress(replace(VIEW, done=77))
    assert "50 of 200" in stream.getvalue()
    assert "77 of 200" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal: bool) -> None:
    shown, stream = console(terminal)
    with Progress(shown, quiet=True, first="starting") as progress:
        progress(VIEW)
    assert stream.getvalue() == ""


def test_a_job_that_shows_nothing_draws_nothing() -> None:
    shown, stream = console(False)

    def fail() -> Any:
        with Progress(shown):
            raise ValueError("before the first view")

    with pytest.raises(ValueError, match="before the first view"):
        fail()
    assert stream.getvalue() == ""
