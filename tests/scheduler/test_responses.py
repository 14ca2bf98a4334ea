"""A budget that is spent on responses nobody can read is told: in the summary, on the page and on the console."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_job import write_job

from apportion.cli import main
from apportion.costs import Cost
from apportion.scheduler.responses import Responses, response_cautions
from apportion.scheduler.results import Committed, PromptResult
from apportion.scheduler.summary import add_responses
from apportion.types import Candidate, Draft, Finish, Purchase

UNREAD = "responses has an answer that answer.kind=choice can read; the last one ends '"


def prompt(correct: bool | None, *candidates: tuple[str, str | None, Finish]) -> Committed:
    """A prompt with candidates (arm, answer, how it ended)."""
    made = tuple(
        Candidate("q", at, arm, 0, Draft(f"{at}: so it is\n", ("",), 5, finish), answer)
        for at, (arm, answer, finish) in enumerate(candidates)
    )
    purchases = (Purchase("vote", len(made)),)
    return Committed(PromptResult("q", 0, "4", "", 0.5, 0.5, Cost(), purchases, len(made), "", correct=correct), made)


def cautions(*prompts: Committed) -> list[str]:
    responses = Responses()
    for one in prompts:
        responses.add(one, [None] * len(one.candidates))
    return list(response_cautions(responses.as_dict(), "choice"))


def test_a_few_that_cannot_be_read_or_were_cut_are_no_mistake() -> None:
    some = prompt(None, ("vote", "4", Finish.END), ("vote", None, Finish.LENGTH))
    assert cautions(some) == []
    assert cautions() == []


def test_most_that_cannot_be_read_are_told_with_the_end_of_the_last() -> None:
    (said,) = cautions(prompt(None, *[("vote", None, Finish.END)] * 3, ("vote", "4", Finish.END)))
    assert said == (
        "3 of 4 responses have no answer that answer.kind=choice can read; the last one ends '2: so it is'; see "
        "answer.kind, answer.pattern and answer.fallback"
    )
    (said,) = cautions(prompt(None, ("vote", None, Finish.END)))
    assert said.startswith("none of 1 response has an answer")


def test_most_that_were_cut_are_told_with_the_arms_whose_most_were() -> None:
    (said,) = cautions(
        prompt(None, ("vote", "4", Finish.END), *[("long", "4", Finish.LENGTH)] * 3, ("vote", "4", Finish.LENGTH))
    )
    assert said.startswith("4 of 5 responses were cut off by their length before they ended: raise max_tokens of ")
    assert "arms.long," in said
    assert "arms.vote" not in said


def test_most_that_nobody_could_score_are_told_with_their_arms() -> None:
    def judged(arm: str, *scores: tuple[float, ...] | None, steps: tuple[str, ...] = ("a",)) -> Committed:
        one = prompt(None, *[(arm, "4", Finish.END)] * len(scores))
        pairs = zip(one.candidates, scores, strict=True)
        made = [replace(c, draft=replace(c.draft, steps=steps, step_scores=score)) for c, score in pairs]
        return replace(one, candidates=tuple(made))

    (said,) = cautions(judged("judged", (), (), (0.5,)), judged("vote", None, None), judged("few", (), (1.0,)))
    assert said.startswith("most responses of arms.judged have no score")
    assert "says_yes" in said
    assert cautions(judged("cut", None, None), judged("empty", (), steps=())) == []


def test_a_search_that_met_no_step_separator_is_told() -> None:
    def responses(*steps: int) -> Responses:
        one = prompt(None, *[("beam", "4", Finish.END)] * len(steps))
        pairs = zip(one.candidates, steps, strict=True)
        made = [replace(c, draft=replace(c.draft, steps=("a",) * count)) for c, count in pairs]
        found = Responses()
        found.add(replace(one, candidates=tuple(made)), [None] * len(steps))
        return found

    summary: dict[str, Any] = {}
    config = {"arms": {"beam": {"strategy": "beam_search"}, "gone": None}}
    (said,) = add_responses(summary, responses(1, 1, 3), config)
    assert said.startswith("caution: most responses of arms.beam are one step")
    assert "step_separator" in said
    assert add_responses(summary, responses(1, 3), config) == []
    assert add_responses(summary, responses(1, 1), {"arms": {"beam": {"strategy": "best_of_n"}}}) == []


def test_coverage_is_by_references_and_only_of_prompts_that_have_one() -> None:
    responses = Responses()
    assert responses.coverage() is None
    four = [("vote", "4", Finish.END)] * 2
    responses.add(prompt(False, *four), [False, True])
    responses.add(prompt(False, *four), [False, False])
    responses.add(prompt(None, *four), [None, None])
    found = responses.coverage()
    assert found is not None
    assert (found["reached"], found["whole"], found["scored"]) == (0.5, 1, 2)
    assert (found["accepted"], found["rejected"]) == (1, 3)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with job.yaml and ten prompts whose answers are numbers, as the current directory."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_job_of_which_nothing_can_be_read_says_so_everywhere(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # also a run that is complete
        assert main(["run", "job.yaml", "-q", "answer.kind=choice"]) == 0
        told = capsys.readouterr().err
        assert "caution: 10 of 10 references hold nothing that answer.kind=choice can read" in told
        assert UNREAD in told
    summary = json.loads((job / "out" / "summary.json").read_text())
    assert summary["responses"]["total"] == summary["responses"]["unread"] > 0
    assert UNREAD in summary["cautions"][0]
    page = (job / "out" / "report.html").read_text()
    assert "responses has an answer that answer.kind=choice can read" in page


def test_a_job_that_can_be_read_has_no_cautions(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "job.yaml", "-q"]) == 0
    assert capsys.readouterr().err == ""
    summary = json.loads((job / "out" / "summary.json").read_text())
    assert summary["cautions"] == []
    assert "caution" not in (job / "out" / "report.html").read_text()


def test_coverage_without_a_verifier_is_reported_by_references(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "job.yaml", "objective=coverage"]) == 0
    summary = json.loads((job / "out" / "summary.json").read_text())
    whole = summary["objective"]["whole"]
    assert whole >= summary["accuracy"] * summary["scored"]
    line = f"{whole} of 10 prompts with a reference have a right candidate"
    assert line in " ".join(capsys.readouterr().out.split())
    assert line in (job / "out" / "report.html").read_text()
