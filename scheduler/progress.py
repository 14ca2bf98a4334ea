"""How a running job is shown: a live display on a terminal, plain lines now and then anywhere else.

Formatting is pure (`JobView` in, text out); only `Progress` knows the time and writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from apportion.scheduler.terminal import count, duration, percent, several, spending

LIVE_SECONDS = 0.25
"""Between two drawings of the live display: smooth, and far below 1% of a driver's time."""
PLAIN_SECONDS = 5.0
"""Between two plain lines: a log of an hour's job stays readable."""
LEAST_SHARE = 0.01
"""Of what is to be done: before, the pace is that of models that warm up, and hours are said to be left of a minute."""
_BAR_WIDTH = 36


@dataclass(frozen=True, slots=True)
class JobView:
    """A snapshot of a job. `budget` and `spent` are in `unit`; `price` is expected objective per unit of budget.

    `running` counts purchases under way, `waiting` prompts whose next purchase is not worth the present price or has
    no capacity yet. `correct` of `scored` committed answers equal their reference. `replicas` is (alive, all).
    """

    total: int
    done: int
    running: int
    waiting: int
    set_aside: int
    budget: float
    spent: float
    unit: str
    price: float
    tokens: float
    correct: int
    scored: int
    elapsed_s: float
    replicas: tuple[int, int] = (0, 0)
    restarts: int = 0
    note: str = ""
    """a phase worth naming, e.g. `starting models`"""
    replayed_tokens: float = 0.0
    """of `tokens`, those that earlier sessions of a resumed job paid for; so with `spent` and `done`"""
    replayed_spent: float = 0.0
    replayed_done: int = 0
    answered: int = 0
    """prompts that have an answer, which may still change: where a budget is shared most are done at the very end"""

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among those with a reference so far."""
        return self.correct / self.scored if self.scored else None

    @property
    def share_spent(self) -> float:
        """Share of the budget spent, in [0, 1]."""
        return min(1.0, self.spent / self.budget) if self.budget > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of policies and verifiers a second since this session was started."""
        return max(0.0, self.tokens - self.replayed_tokens) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at this session's pace; None before it can be told.

        A job ends when its prompts are done or its budget is, whichever comes first.
        """
        if self.elapsed_s <= 0.0:
            return None
        ends = ((self.spent, self.replayed_spent, self.budget), (self.done, self.replayed_done, self.total))
        times = [self._time_to(*end) for end in ends]
        return min((time for time in times if time is not None), default=None)

    def _time_to(self, now: float, before: float, end: float) -> float | None:
        """Seconds until a count that stood at `before` when this session began, and is `now`, reaches `end`."""
        if now >= end:
            return 0.0
        if now - before < LEAST_SHARE * (end - before):
            return None
        return self.elapsed_s * (end - now) / (now - before)


Display = Callable[[JobView], None]
"""What a driver tells of its job, as often as it likes."""


def figures(view: JobView) -> list[tuple[str, str]]:
    """Label and value of everything shown, in order."""
    shown = [
        ("done", f"{view.done:,} of {view.total:,}{_more_answered(view)}"),
        ("spent", f"{spending(view.spent, view.budget, view.unit)} ({percent(view.share_spent)})"),
        ("price", f"{_price(view)}"),
        ("speed", f"{count(round(view.tokens_per_second))} tokens/s"),
    ]
    if view.scored:
        shown.append(("accuracy", f"{percent(view.accuracy)} of {view.scored:,}"))
    shown.append(("in flight", f"{view.running:,} ({view.waiting:,} waiting)"))
    alive, replicas = view.replicas
    if replicas:
        restarts = f", {view.restarts} restarts" if view.restarts else ""
        shown.append(("replicas", f"{alive} of {replicas} up{restarts}"))
    if view.set_aside:
        shown.append(("set aside", several(view.set_aside, "row")))
    shown.append(("time", f"{duration(view.elapsed_s)}, {duration(view.left_s)} left"))
    return shown


def plain_line(view: JobView) -> str:
    """One line for a log."""
    parts = [f"{label} {value}" for label, value in figures(view)]
    return " | ".join([view.note, *parts] if view.note else parts)


def picture(view: JobView) -> RenderableType:
    """The live display: two bars, then the figures."""
    bars = Table.grid(padding=(0, 2))
    done = ProgressBar(total=max(view.total, 1), completed=max(view.done, view.answered), width=_BAR_WIDTH)
    spent = ProgressBar(total=1.0, completed=view.share_spent, width=_BAR_WIDTH)
    values = dict(figures(view))
    bars.add_row("prompts", done, Text(values.pop("done")))
    bars.add_row("budget", spent, Text(values.pop("spent")))
    rest = [Text(f"{label} {value}") for label, value in values.items()]
    return Group(bars, Columns([Text(view.note), *rest] if view.note else rest, padding=(0, 3)))


class Progress:
    """Shows snapshots on a console; use as a context manager and call it with each `JobView`.

    `first` is shown until the first snapshot. `clock` is in seconds; it decides only how often something is drawn.
    """

    def __init__(
        self, console: Console, quiet: bool = False, first: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._first = first
        self._clock = clock
        self._last = float("-inf")
        self._view: JobView | None = None
        self._drawn: JobView | None = None
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal and not quiet else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.update(Text(self._first))
            self._live.start(refresh=True)
        elif self._first and not self._quiet:
            self._console.print(self._first, markup=False, soft_wrap=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None and self._view is not self._drawn:
            self._draw(self._view)
        if self._live is not None:
            self._live.stop()

    def __call__(self, view: JobView) -> None:
        """Remember a snapshot and draw it where it is time to."""
        self._view = view
        now = self._clock()
        if now - self._last >= (LIVE_SECONDS if self._live is not None else PLAIN_SECONDS):
            self._last = now
            self._draw(view)

    def _draw(self, view: JobView) -> None:
        self._drawn = view
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(picture(view), refresh=True)
        else:
            self._console.print(plain_line(view), markup=False, soft_wrap=True)


def _more_answered(view: JobView) -> str:
    return f" ({view.answered:,} have an answer)" if view.answered > view.done else ""


def _price(view: JobView) -> str:
    """The price per hundredth of the budget: a number people can compare between jobs."""
    if view.price <= 0.0:
        return "none"
    return f"{view.price * view.budget / 100:.3g} answers per 1% of budget"
