"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from apportion.actors.inline import InlineBackend
from apportion.cli import main
from apportion.errors import EngineError, ModelError
from apportion.scheduler import solve

COMMAND = [sys.executable, "-m", "apportion"]
CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl", "prompt": "q", "id": "name", "reference": "a"},
    "output": "runs/x",
    "budget": {"amount": 60, "unit": "samples"},
    "models": {
        "small": {"engine": "fake", "model": "x", "step_separator": "\n"},
        "prm": {"engine": "fake", "role": "scorer", "model": "y"},
    },
    "arms": {
        "vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4]},
        "beam": {"strategy": "beam_search", "policy": "small", "verifier": "prm", "select": "weighted", "n": [4]},
    },
    "cluster": {"address": "inline"},
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with job.yaml and its dataset of ten good rows and two bad ones, as the current directory."""
    rows = [
        json.dumps({"name": f"q{i}", "q": f"question {i} p={i / 10} answer={10 + i}", "a": 10 + i}) for i in range(10)
    ]
    (tmp_path / "d.jsonl").write_text("\n".join([*rows, "{broken", '{"name": "[bold]\\u001b[31m", "q": ""}']) + "\n")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(text: str) -> str:
    """Text with table borders and line breaks taken out."""
    return " ".join(re.sub(r"[│┃┏┓┗┛┡┩┳┻╇┴┬└┘├┤─━]", " ", text).split())


def test_help_shows_commands_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out == bare
    for text in ("run a job, or resume it", "apportion run quickstart", "key=value", "CONFIG is a YAML file"):
        assert text in bare


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert re.fullmatch(r"apportion \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "CONFIG"),
        (["run", "job.yaml", "--fast"], "unknown argument '--fast'"),
        (["run", "job.yaml", "-q", "budget"], "unknown argument 'budget'; a change to the config is written key=value"),
    ],
)
def test_a_wrong_command_line_is_told_and_leaves_with_2(
    job: Path, capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_run_then_run_again(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "job.yaml", "-q", "seed=3"]) == 0
    quiet = capsys.readouterr()
    assert quiet.out == ""
    assert quiet.err == ""
    summary = json.loads((job / "runs" / "x" / "summary.json").read_text())
    assert summary["prompts"] == 10
    assert summary["set_aside"] == 2
    assert 0 < summary["budget"]["spent"] <= 60
    before = {path.name: path.read_bytes() for path in (job / "runs" / "x").iterdir() if path.name != ".lock"}
    assert main(["run", "job.yaml", "seed=3"]) == 0
    again = capsys.readouterr()
    assert "runs/x is complete: nothing was run or spent" in again.err
    assert "10 of 10 prompts answered" in again.out
    assert "By estimated difficulty" in again.out
    assert {path.name: path.read_bytes() for path in (job / "runs" / "x").iterdir() if path.name != ".lock"} == before


def test_progress_goes_to_standard_error_and_the_result_to_standard_output(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "job.yaml"]) == 0
    shown = capsys.readouterr()
    assert "done 10 of 10 | spent " in shown.err
    assert "done " not in shown.out
    assert "results, candidates and the bill: runs/x" in shown.out
    assert "\x1b" not in shown.out + shown.err


def test_a_run_directory_of_another_config_is_refused_with_what_differs(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "job.yaml", "-q"]) == 0
    assert main(["run", "job.yaml", "-q", "budget.amount=61"]) == 2
    message = capsys.readouterr().err
    assert (
        "RunDirectoryError: output: runs/x belongs to another config: budget.amount: 60.0 there, 61.0 here" in message
    )


async def no_model(_: InlineBackend) -> None:
    raise ModelError("models.small.model: weights are missing")


@pytest.mark.parametrize(("overrides", "starts"), [(["budget.amount=0.5"], True), ([], False)])
def test_a_command_that_was_refused_can_be_corrected(
    job: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], starts: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not starts:
            patch.setattr(InlineBackend, "start", no_model)
        assert main(["run", "job.yaml", "-q", *overrides]) == 2
    assert main(["run", "job.yaml", "-q", "seed=7"]) == 0, capsys.readouterr().err
    assert yaml.safe_load((job / "runs" / "x" / "config.yaml").read_text())["seed"] == 7


def test_a_job_whose_every_prompt_failed_says_so_and_leaves_with_1(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise EngineError("the engine is out of memory")

    monkeypatch.setattr(InlineBackend, "submit", fail)
    for _ in range(2):
        assert main(["run", "job.yaml", "-q"]) == 1
        message = capsys.readouterr().err
        assert "apportion: all 10 prompts failed; the first error: " in message
        assert "the engine is out of memory" in message


def test_plan_says_what_is_expected_and_spends_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "job.yaml"]) == 0
    text = words(capsys.readouterr().out)
    assert "10 prompts, 2 rows set aside" in text
    assert "budget 60 samples, 6 samples a prompt" in text
    assert "vote 4 4 samples 4 samples 4 samples 10 (100.0%)" in text
    assert "beam 4 4 samples" in text
    for multiple in ("0.25x 15 samples", "0.5x 30 samples", "1x 60 samples", "2x 120 samples", "4x 240 samples"):
        assert multiple in text
    assert not (job / "runs").exists()


def test_check_says_what_was_found_and_spends_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "job.yaml"]) == 0
    out = capsys.readouterr().out
    text = words(out)
    assert "dataset: 10 prompts, 10 with a reference" in text
    assert "Rows set aside: 2" in text
    assert "11 - broken JSON: Expecting property name" in text
    assert "12 [bold]\\x1b[31m the prompt is empty" in text
    assert "small policy fake 1.00 M 4,096" in text
    assert "beam beam_search small prm weighted 4" in text
    assert "cluster: none, models run in this process" in text
    assert "\x1b" not in out
    assert not (job / "runs").exists()


# what is wrong -> what is changed -> what standard error must hold; section 7 of the main job
NAMED: list[tuple[str, list[str], str]] = [
    ("missing dataset", ["dataset.path=nope.jsonl"], "DataError: dataset.path: "),
    ("unknown key", ["budjet.amount=1"], "ConfigError: unknown key 'budjet'"),
    ("wrong type", ["seed=x"], "ConfigError: seed is 'x', but must be a whole number"),
    ("negative seed", ["seed=-1"], "ConfigError: seed is -1, but must be a number of at least 0"),
    ("wrong unit", ["budget.unit=tokns"], "did you mean 'tokens'?"),
    ("zero budget", ["budget.amount=0"], "budget.amount is 0"),
    ("negative budget", ["budget.amount=-1"], "budget.amount is -1"),
    ("NaN budget", ["budget.amount=.nan"], "budget.amount is nan"),
    ("unknown strategy", ["arms.vote.strategy=best"], "arms.vote.strategy: no strategy is called 'best'"),
    ("missing verifier", ["arms.beam.verifier=null"], "arms.beam.verifier is missing"),
    ("missing model folder", ["models.small.engine=embedded", "models.small.model=./gone"], "ModelError: models.small"),
    ("missing column", ["dataset.prompt=question"], "no row has a column 'question'; known: a, name, q"),
    ("unknown allocation setting", ["allocation.florr=1"], "'florr'"),
]


@pytest.mark.parametrize("command", ["run", "plan", "check"])
@pytest.mark.parametrize(("overrides", "message"), [row[1:] for row in NAMED], ids=[row[0] for row in NAMED])
def test_bad_input_is_named_before_anything_is_spent(
    job: Path, capsys: pytest.CaptureFixture[str], command: str, overrides: list[str], message: str
) -> None:
    assert main([command, "job.yaml", *overrides]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith("apportion: ")
    assert message in shown.err
    assert shown.out == ""
    assert not (job / "runs" / "x" / "journal.sqlite").exists()


def test_a_missing_config_and_broken_yaml_are_named(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nope.yaml"]) == 2
    assert "config 'nope.yaml' is no file in" in capsys.readouterr().err
    (job / "bad.yaml").write_text("output: [1\nseed: 2\n")
    assert main(["run", "bad.yaml"]) == 2
    assert "bad.yaml, line 2, column 5: " in capsys.readouterr().err


def test_no_usable_row_fails_the_job(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "d.jsonl").write_text('{"name": 1, "q": "", "a": 1}\nnonsense \x1b[2J\n')
    assert main(["run", "job.yaml"]) == 2
    message = capsys.readouterr().err
    assert "DataError: no usable row among the 2 of" in message
    assert "line 1: the prompt is empty; line 2: broken JSON" in message
    assert "\x1b" not in message


def test_rows_longer_than_the_context_are_set_aside(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (job / "d.jsonl").open("a") as stream:
        stream.write(json.dumps({"name": "long", "q": "word " * 100, "a": 1}) + "\n")
    assert main(["run", "job.yaml", "-q", "models.small.engine_args={max_model_len: 60}"]) == 0
    aside = [json.loads(line) for line in (job / "runs" / "x" / "set_aside.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [11, 12, 13]
    assert aside[2]["id"] == "long"
    assert aside[2]["reason"].startswith("longer than the context of small")
    assert json.loads((job / "runs" / "x" / "summary.json").read_text())["set_aside"] == 3


def test_an_interrupted_run_says_how_to_go_on(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(solve, "run_prepared", interrupted)
    assert main(["run", "job.yaml"]) == 130
    assert "everything so far is kept in runs/x: run the same command to resume" in capsys.readouterr().err


def call(argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *argv], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_named_error_has_no_traceback_and_exit_code_2(job: Path) -> None:
    done = call(["run", "job.yaml", "budget.amount=0"], job)
    assert done.returncode == 2
    assert done.stderr.startswith("apportion: ConfigError: budget.amount is 0")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_reader_that_leaves_early_is_no_error_to_talk_about(job: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "check", "job.yaml"], cwd=job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_importing_the_command_line_is_light() -> None:
    heavy = "('ray', 'torch', 'transformers', 'vllm', 'numpy', 'omegaconf', 'pyarrow', 'rich')"
    code = f"import sys, apportion.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ctrl_c_stops_and_the_same_command_resumes(job: Path) -> None:
    slow = ["run", "job.yaml", "models.small.engine_args={latency: 0.2}", "execution.in_flight=2"]
    with subprocess.Popen([*COMMAND, *slow], cwd=job, stderr=subprocess.PIPE, text=True) as process:
        results = job / "runs" / "x" / "results.jsonl"
        journal = job / "runs" / "x" / "journal.sqlite-wal"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 0):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == 130, message
    assert "run the same command to resume" in message
    assert "Traceback" not in message
    assert not (job / "runs" / "x" / "summary.json").exists()
    done = call(slow, job)
    assert done.returncode == 0, done.stderr
    names = [json.loads(line)["prompt_id"] for line in results.read_text().splitlines()]
    assert sorted(names) == [f"q{i}" for i in range(10)]


@pytest.fixture
def hostile(job: Path) -> Path:
    """The job's directory with packages of our folders' names that end the process when imported."""
    for name in ("policies", "configs", "scheduler", "actors", "difficulty", "lab"):
        (job / name).mkdir()
        (job / name / "__init__.py").write_text(
            f"import os, sys\nsys.stderr.write('{name} of the user')\nos._exit(99)\n"
        )
    return job


@pytest.mark.parametrize("address", ["inline", pytest.param("local", marks=pytest.mark.slow)])
def test_packages_of_the_user_never_shadow_ours(hostile: Path, address: str) -> None:
    done = call(["run", "job.yaml", "-q", f"cluster.address={address}", "budget.amount=20"], hostile)
    assert done.returncode == 0, done.stderr
    assert "of the user" not in done.stderr
    assert json.loads((hostile / "runs" / "x" / "summary.json").read_text())["answered"] > 0


def test_the_installed_script_runs_from_anywhere(hostile: Path) -> None:
    script = Path(sys.executable).with_name("apportion")
    if not os.access(script, os.X_OK):
        pytest.skip("apportion is not installed beside this Python")
    done = subprocess.run([script, "check", "job.yaml"], cwd=hostile, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dataset: 10 prompts" in done.stdout
