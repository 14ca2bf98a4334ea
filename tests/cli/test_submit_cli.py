"""`submit`, `status`, `logs` and `stop` against a head as `ray start --head` starts one, with dashboard and token."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray_head import Head, ray_head
from test_recovery import events_in

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="ap-"))
    try:
        with ray_head(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_project(folder: Path, output: Path, **changes: Any) -> Path:
    """A folder to ship: a config, its dataset and an answer function of the user's own; the fake engine runs it."""
    (folder / "data").mkdir(parents=True)
    rows = [json.dumps({"q": f"question {i} p=1 answer={i}", "a": f"<{i}>"}) for i in range(6)]
    (folder / "data" / "d.jsonl").write_text("\n".join(rows) + "\n")
    # Like the one beside the head, it must not be taken for ours.
    (folder / "apportion").mkdir()
    (folder / "apportion" / "__init__.py").write_text("raise SystemExit('another apportion was imported')\n")
    reader = "import re\n\ndef read(text):\n    return '<' + re.findall(r'-?\\d+', text)[-1] + '>'\n"
    (folder / "their_answers.py").write_text(reader)
    config = {
        "dataset": {"path": "data/d.jsonl", "prompt": "q", "reference": "a"},
        "output": str(output),
        "budget": {"amount": 12, "unit": "samples"},
        "models": {"small": {"engine": "fake", "model": "x"}},
        "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2]}},
        "answer": {"kind": "function", "function": "their_answers:read"},
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(config))
    return folder / "job.yaml"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def journal_of(output: Path) -> list[tuple[str, str]]:
    """Requests and replies, in the order in which they came."""
    with sqlite3.connect(f"file:{output / 'journal.sqlite'}?mode=ro", uri=True) as db:
        return db.execute("SELECT request, body FROM events ORDER BY seq").fetchall()


def wait_for_events(head: Head, job_id: str, output: Path, count: int) -> None:
    looked = time.monotonic()
    while events_in(output / "journal.sqlite") < count:
        if time.monotonic() - looked > 10:
            assert "RUNNING" in head.run("status", job_id).stdout, head.run("logs", job_id).stdout
            looked = time.monotonic()
        time.sleep(0.2)


def test_a_job_submitted_watched_stopped_and_resumed(head: Head, tmp_path: Path) -> None:
    output = tmp_path / "quick"
    job = ["quickstart", "dataset.limit=20", "budget.amount=4e10", f"output={output}"]
    submitted = head.run("submit", *job)
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    assert f"apportion logs {job_id} --address {head.url} --follow" in submitted.stderr
    assert f"results will be in {output} there" in submitted.stderr

    watching = head.command("logs", job_id, "--follow")
    wait_for_events(head, job_id, output, 4)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "apportion 0.1.0+" in out  # the wheel, not what is installed there
    assert f"{job_id} goes on without being watched" in err
    assert f"apportion logs {job_id} --address {head.url} --follow" in err
    assert "Traceback" not in err

    stopped = head.run("stop", job_id)
    assert stopped.returncode == 0, stopped.stderr
    assert f"{job_id} was stopped; submit the same job again to resume it ({output} on the cluster)" in stopped.stderr
    assert "STOPPED" in head.run("status", job_id).stdout
    assert "stopped; everything so far is kept" in head.run("logs", job_id).stdout
    assert not [name for name in head.processes().values() if "Replica" in name or "commands.submitted" in name]
    before = journal_of(output)
    assert len(before) >= 4
    assert not (output / "summary.json").exists()

    resumed = head.run("submit", *job, "--follow", seconds=200)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "20 of 20 prompts answered" in resumed.stdout
    assert "succeeded" in resumed.stderr
    after = journal_of(output)
    assert after[: len(before)] == before
    assert len({request for request, _ in after}) == len(after)
    assert len({row["prompt_id"] for row in rows(output / "results.jsonl")}) == 20
    summary = json.loads((output / "summary.json").read_text())
    assert 0 < summary["budget"]["spent"] <= 4e10


def test_a_folder_with_data_and_code_is_shipped_and_all_jobs_are_listed(head: Head, tmp_path: Path) -> None:
    output = tmp_path / "out"
    config = write_project(tmp_path / "project", output)
    ran = head.run("submit", str(config), "--working-dir", str(config.parent), "--follow")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((output / "summary.json").read_text())["accuracy"] == 1.0
    (job_id,) = [line.split()[1] for line in ran.stderr.splitlines() if line.startswith("submitted ")]
    listed = head.run("status").stdout
    assert job_id in listed
    assert "SUCCEEDED" in listed
    late = head.run("stop", job_id)
    assert late.returncode == 0
    assert f"{job_id} had ended before: SUCCEEDED" in late.stderr


def test_a_file_that_git_ignores_is_missed_by_name(head: Head, tmp_path: Path) -> None:
    config = write_project(tmp_path / "project", tmp_path / "out")
    (config.parent / ".gitignore").write_text("data/\n")
    ran = head.run("submit", str(config), "--working-dir", str(config.parent), "--follow")
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "data/d.jsonl did not travel with --working-dir: a .gitignore" in ran.stdout
    assert "failed with exit code 2" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_the_cluster_has_not_ends_the_job_with_its_exit_code(head: Head, tmp_path: Path) -> None:
    output = tmp_path / "out"
    ran = head.run("submit", "quickstart", "dataset.path=/mnt/none/d.jsonl", f"output={output}", "--follow")
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "DataError: dataset.path: /mnt/none/d.jsonl is not there" in ran.stdout
    assert not output.exists()


def test_a_wrong_token_and_an_unknown_job_are_named(head: Head, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    for environment, message in (
        ({"RAY_AUTH_TOKEN": "another-token"}, "does not accept the token it was sent; the token is read from RAY_AUTH"),
        ({"HOME": str(other)}, "asks for a token, and none was found; the token is read from RAY_AUTH_TOKEN"),
    ):
        refused = head.run("submit", "quickstart", f"output={tmp_path / 'out'}", **environment)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert "another-token" not in refused.stderr
    for command in (["status"], ["logs"], ["logs", "--follow"], ["stop"]):
        unknown = head.run(command[0], "quickstart-none", *command[1:])
        assert unknown.returncode == 2
        assert "no job 'quickstart-none' on the cluster" in unknown.stderr
        assert "Traceback" not in unknown.stderr
