"""How jobs on a cluster end: the exit code, and the reason with the next step."""

from __future__ import annotations

import re

import pytest

from apportion.cli import main
from apportion.commands.remote import ended, reason
from apportion.errors import SubmissionError
from apportion.scheduler import submit_cluster
from apportion.scheduler.submit_cluster import JobState

PIP = "runtime_env setup failed: ...\nFileNotFoundError: [Errno 2] No such file or directory: 'pip'\n\nDuring handling"


def state(status: str, exit_code: int | None = None, message: str | None = None) -> JobState:
    return JobState("job-1", status, message, exit_code, 1.0, 2.0, "/mnt/out", "job.yaml")


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        (state("SUCCEEDED", 0), 0, "job-1 succeeded (/mnt/out on the cluster)"),
        (state("STOPPED"), 130, "job-1 was stopped; submit the same job again to resume it (/mnt/out on the cluster)"),
        (state("FAILED", 2), 2, "job-1 failed: exit code 2; see apportion logs job-1"),
        (state("FAILED", -9), -9, "exit code -9"),
        (state("FAILED", None, "head node died"), 1, "job-1 failed: head node died"),
        (state("FAILED", None, None), 1, "Ray gave no reason"),
    ],
)
def test_the_exit_code_is_the_jobs(job: JobState, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(job) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (state("FAILED", 127, "..."), "there is no `python` on the PATH that Ray was started with"),
        (state("FAILED", None, PIP), "there is no `pip`"),
        (
            state("FAILED", None, "ERROR: Package 'apportion' requires a different Python: 3.10"),
            "older than apportion needs",
        ),
        (state("FAILED", None, "Traceback:\n" + "  File\n" * 50 + "ValueError: odd\n"), "ValueError: odd"),
    ],
)
def test_what_kept_a_job_from_running_is_said_with_the_next_step(job: JobState, why: str) -> None:
    assert why in reason(job)
    assert len(reason(job).splitlines()) <= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logs", "one", "two"], "one job at a time, not 2: one two"),
        (["stop", "../api/x"], "'../api/x' is no job id; `apportion status` lists them"),
        (["status", "job-1", "--address", "head:8265"], "'head:8265' is no URL; write http://head:8265"),
        (["logs", "--address", "ray://head:10001", "job-1"], "ray://head:10001 is no dashboard"),
        (["submit", "quickstart", "output=/x", "--working-dir", "/no/such"], "--working-dir: /no/such is no folder"),
        (["submit", "quickstart"], "output: 'runs/quickstart' is relative"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "log", "says"),
    [
        ("RUNNING", "preparing the job\nwaiting for room on the cluster, 5 s\x1b[2J\n\n", r"waiting .* 5 s\\x1b\[2J"),
        ("PENDING", "", None),
        ("STOPPED", "done 3 of 4\n", None),
        ("RUNNING", None, None),
    ],
)
def test_the_status_of_a_job_ends_with_what_it_said_last(
    status: str, log: str | None, says: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cluster:
        def __init__(self, _: str | None) -> None:
            pass

        def state(self, _: str) -> JobState:
            return state(status)

        def logs(self, _: str) -> str:
            if log is None:
                raise SubmissionError("the node of the job does not answer")
            return log

    monkeypatch.setattr(submit_cluster, "Cluster", Cluster)
    assert main(["status", "job-1"]) == 0
    shown = capsys.readouterr().out
    assert "preparing" not in shown
    assert bool(re.search(r"^says", shown, re.MULTILINE)) == (says is not None)
    assert says is None or re.search(rf"^says +{says}", shown, re.MULTILINE)
