"""`apportion.solve` in a pipeline: each row once, as it is committed, under one budget."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import apportion
from apportion.actors.inline import InlineBackend
from apportion.configs.build import load_job
from apportion.errors import BudgetError, ConfigError, DataError
from apportion.scheduler import driver, solve
from apportion.scheduler.progress import JobView
from apportion.scheduler.solve import run_job

ARM = {"policy": "small", "select": "majority", "max_tokens": 64, "step_separator": "\n"}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"prompt": "q", "id": "id", "reference": "a"},
        "budget": {"amount": 20_000, "unit": "tokens"},
        "models": {"small": {"engine": "fake", "model": "fake"}},
        "arms": {"vote": {"strategy": "best_of_n", "n": [1, 2, 4, 8], **ARM}},
        "answer": {"kind": "number"},
        "cluster": {"address": "inline"},
        **changes,
    }


def rows(count: int) -> list[dict[str, Any]]:
    return [{"q": f"question {i} p=0.9 answer={i + 10}", "id": f"q{i}", "a": i + 10} for i in range(count)]


def test_every_row_comes_once_and_the_bill_stays_within_the_budget() -> None:
    results = list(apportion.solve(rows(12), config()))
    assert sorted(result.prompt_id for result in results) == sorted(f"q{i}" for i in range(12))
    assert sum(result.spent.tokens for result in results) <= 20_000
    assert sum(result.correct is True for result in results) >= 10
    assert all(result.response is not None and "Answer" in result.response for result in results if result.answer)


def test_answers_do_not_depend_on_the_references() -> None:
    honest = {r.prompt_id: (r.answer, r.candidates) for r in apportion.solve(rows(8), config())}
    lying = [{**row, "a": 0} for row in rows(8)]
    misled = {r.prompt_id: (r.answer, r.candidates) for r in apportion.solve(lying, config())}
    assert misled == honest
    without = [{"q": row["q"], "id": row["id"]} for row in rows(8)]
    blind = apportion.solve(without, config(dataset={"prompt": "q", "id": "id"}))
    assert {r.prompt_id: (r.answer, r.candidates) for r in blind} == honest


def test_an_iterator_of_rows_and_overrides_are_taken() -> None:
    results = list(apportion.solve(iter(rows(5)), config(), ["dataset.limit=3"]))
    assert len(results) == 3


def test_closing_the_iterator_stops_the_job() -> None:
    results = apportion.solve(
        rows(200), config(models={"small": {"engine": "fake", "model": "fake", "engine_args": {"latency": 0.02}}})
    )
    assert next(results).prompt_id.startswith("q")
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "apportion-job"]


def test_an_output_makes_the_job_resumable(tmp_path: Any) -> None:
    job = config(output=str(tmp_path / "run"))
    results = apportion.solve(rows(12), job)
    next(results)
    results.close()  # type: ignore[attr-defined]
    again = list(apportion.solve(rows(12), job))
    assert len({result.prompt_id for result in again}) == len(again) == 12
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("given", "changes", "error", "message"),
    [
        (rows(2), {"budgt": 1}, ConfigError, "did you mean 'budget'"),
        ([], {}, DataError, "has no rows"),
        ([{"id": "x", "a": 1}], {}, DataError, "no row has a column 'q'"),
        ("data.jsonl", {}, DataError, "dataset.path"),
        (rows(2), {"budget": {"amount": 5, "unit": "tokens"}}, BudgetError, "less than the cheapest purchase, 1 of"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_spent(
    given: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        next(apportion.solve(given, config(**changes)))


def test_one_prompt_that_fails_does_not_stop_the_others() -> None:
    poisoned = {"small": {"engine": "fake", "model": "fake", "engine_args": {"poison": "question 3 "}}}
    results = {result.prompt_id: result for result in apportion.solve(rows(6), config(models=poisoned))}
    assert results["q3"].error is not None
    assert results["q3"].answer is None
    assert all(results[f"q{i}"].answer is not None for i in range(6) if i != 3)


def test_a_display_that_fails_leaves_no_models_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[InlineBackend] = []
    close = InlineBackend.close

    async def counted(backend: InlineBackend) -> None:
        closed.append(backend)
        await close(backend)

    def display(view: JobView) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(InlineBackend, "close", counted)
    with pytest.raises(BrokenPipeError):
        run_job(load_job(config(output=str(tmp_path / "run")), [], True), display, rows(4))
    assert len(closed) == 1


class Slow(InlineBackend):
    """Begins only when what it waits for, and then which of its models is not up yet, was shown."""

    waits_for = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shown: list[str] = []
        self.undone = False

    async def start(self) -> None:
        room = "waiting for room"
        try:
            self.waits_for = room
            await self.until(room)
            self.waits_for = ""
            specs, self._specs = self._specs, {"small": self._specs["small"]}
            await super().start()
            self._specs = specs
            await self.until("starting prm")
            await super().start()
        except asyncio.CancelledError:
            self.undone = True
            raise

    async def until(self, note: str) -> None:
        while note not in self.shown:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_job_waits_for_is_shown_while_it_starts(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    backends: list[Slow] = []

    def slow(_: str, specs: Any, wait_s: float) -> Slow:
        backends.append(Slow(specs))
        return backends[-1]

    def display(view: JobView) -> None:
        backends[0].shown.append(view.note)
        if leaves and view.note == "starting prm":
            raise BrokenPipeError

    monkeypatch.setattr(solve, "backend_for", slow)
    monkeypatch.setattr(solve, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.001)
    models = {
        "small": {"engine": "fake", "model": "fake"},
        "prm": {"engine": "fake", "model": "fake", "role": "scorer"},
    }
    arms = {"best": {"strategy": "best_of_n", "n": [2], "verifier": "prm", **ARM, "select": "max_score"}}
    job = load_job(config(output=str(tmp_path / "run"), models=models, arms=arms), [], True)
    if leaves:
        with pytest.raises(BrokenPipeError):
            run_job(job, display, rows(4))
    else:
        assert run_job(job, display, rows(4))["answered"] == 4
    (backend,) = backends
    assert backend.undone == leaves
    assert list(dict.fromkeys(backend.shown))[:3] == ["starting models", "waiting for room", "starting prm"]
    assert leaves or backend.shown[-1] == ""
