"""`submit`, `status`, `logs` and `stop` against a head as `ray start --head` starts one, with dashboard and token."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray_head import Head, ray_head
from test_recovery import events_in

from apportion.cli import main

Call = Callable[..., tuple[int, str, str]]
"""Runs a command; its exit code, standard output and standard error."""

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


@pytest.fixture
def call(head: Head, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in this process, as a user with the cluster's token and, where named, another environment."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
                patch.delenv(name, raising=False)
            patch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # --address goes before it
            patch.setenv("HOME", head.environment["HOME"])
            for name, value in environment.items():
                patch.setenv(name, value)
            capsys.readouterr()
            code = main([*arguments, "--address", head.url])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_job_submitted_watched_stopped_and_resumed(head: Head, call: Call, tmp_path: Path) -> None:
    output = tmp_path / "quick"
    one_model = ["arms.beam=null", "arms.vote.verifier=null", "arms.vote.select=majority"]
    job = ["quickstart", "dataset.limit=20", "budget.amount=4e10", f"output={output}", *one_model]
    code, shown, said = call("submit", *job)
    assert code == 0, said
    job_id = shown.strip()
    assert f"apportion logs {job_id} --address {head.url} --follow" in said
    assert f"results will be in {output} there" in said

    watching = head.command("logs", job_id, "--follow")
    looked = time.monotonic()
    while events_in(output / "journal.sqlite") < 4:
        if time.monotonic() - looked > 5:
            assert re.search("PENDING|RUNNING", call("status", job_id)[1]), call("logs", job_id)[1]
            looked = time.monotonic()
        time.sleep(0.2)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "apportion 0.1.0+" in out  # the wheel, not what is installed there
    assert f"{job_id} goes on without being watched" in err
    assert f"apportion logs {job_id} --address {head.url} --follow" in err
    assert "Traceback" not in err

    code, _, said = call("stop", job_id)
    assert code == 0, said
    assert f"{job_id} was stopped; submit the same job again to resume it ({output} on the cluster)" in said
    assert "STOPPED" in call("status", job_id)[1]
    assert "stopped; everything so far is kept" in call("logs", job_id)[1]
    assert not [name for name in head.processes().values() if "Replica" in name or "commands.submitted" in name]
    before = journal_of(output)
    assert len(before) >= 4
    assert not (output / "summary.json").exists()

    resumed = head.run("submit", *job, "--follow", seconds=300)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "20 of 20 prompts answered" in resumed.stdout
    assert "succeeded" in resumed.stderr
    after = journal_of(output)
    assert after[: len(before)] == before
    assert len({request for request, _ in after}) == len(after)
    assert len({row["prompt_id"] for row in rows(output / "results.jsonl")}) == 20
    summary = json.loads((output / "summary.json").read_text())
    assert 0 < summary["budget"]["spent"] <= 4e10


def test_what_a_folder_ships_and_what_it_misses(head: Head, call: Call, tmp_path: Path) -> None:
    """Three jobs at once: data and code of the user's own; data that git ignores; data that the cluster has not."""
    whole, ignored, absent = tmp_path / "whole", tmp_path / "ignored", tmp_path / "absent"
    started = {}
    for name in (whole, ignored):
        config = write_project(name / "project", name / "out")
        started[name] = ["submit", str(config), "--working-dir", str(config.parent), "--follow"]
    (ignored / "project" / ".gitignore").write_text("data/\n")
    path = "dataset.path=/mnt/none/d.jsonl"
    started[absent] = ["submit", "quickstart", path, f"output={absent / 'out'}", "--follow"]
    running = {name: head.command(*arguments) for name, arguments in started.items()}
    ended = {name: (*process.communicate(timeout=300), process.returncode) for name, process in running.items()}

    out, err, code = ended[whole]
    assert code == 0, out + err
    assert json.loads((whole / "out" / "summary.json").read_text())["accuracy"] == 1.0
    (job_id,) = [line.split()[1] for line in err.splitlines() if line.startswith("submitted ")]
    listed = call("status")[1]
    assert job_id in listed
    assert "SUCCEEDED" in listed
    code, _, said = call("stop", job_id)
    assert code == 0
    assert f"{job_id} had ended before: SUCCEEDED" in said

    out, err, code = ended[ignored]
    assert code == 2, out + err
    assert "data/d.jsonl did not travel with --working-dir: a .gitignore" in out
    assert "failed: exit code 2; see apportion logs" in err

    out, err, code = ended[absent]
    assert code == 2, out + err
    assert "DataError: dataset.path: /mnt/none/d.jsonl is not there" in out
    assert not (ignored / "out").exists()
    assert not (absent / "out").exists()


def test_a_wrong_token_and_an_unknown_job_are_named(call: Call, tmp_path: Path) -> None:
    for environment, message in (
        ({"RAY_AUTH_TOKEN": "another-token"}, "does not accept the token it was sent; the token is read from RAY_AUTH"),
        ({"HOME": str(tmp_path)}, "asks for a token, and none was found; the token is read from RAY_AUTH_TOKEN"),
    ):
        code, _, said = call("submit", "quickstart", f"output={tmp_path / 'out'}", **environment)
        assert code == 2
        assert message in said
        assert "another-token" not in said
    for command in (["status"], ["logs"], ["logs", "--follow"], ["stop"]):
        code, shown, said = call(command[0], "quickstart-none", *command[1:])
        assert code == 2
        assert shown == ""
        assert "no job 'quickstart-none' on the cluster" in said
