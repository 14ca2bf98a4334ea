"""`check` finds what `run` would refuse, and neither writes over what is not theirs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_job import write_job

from apportion.cli import main

EMBEDDED = ["models.small.engine=embedded", "models.small.model=lab:small", "output=b"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with job.yaml and ten prompts, as the current directory."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for locks."""
    return {str(one): one.read_bytes() for one in folder.rglob("*") if one.is_file() and one.name != ".lock"}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["output=job.yaml"], "output: job.yaml cannot be written"),
        (["output=job.yaml/x"], "output: job.yaml/x cannot be written"),
        (["budget.amount=61"], "output: out belongs to another config: budget.amount: 60.0 there, 61.0 here"),
        (["output=pool"], "output: pool holds candidates.parquet, which no run wrote there (it is a recorded pool)"),
        (["output=mine"], "output: mine holds summary.json, which no run wrote there"),
        (
            [*EMBEDDED, "models.small.engine_args.foo=3"],
            "models.small.engine_args has no setting 'foo' (= 3): known: chat_template",
        ),
        (
            [*EMBEDDED, "models.small.engine_args.dtype=foo"],
            "models.small.engine_args.dtype: 'foo' is not one of float32",
        ),
    ],
)
def test_what_is_refused_is_found_beforehand_and_nothing_is_touched(
    job: Path, capsys: pytest.CaptureFixture[str], command: str, overrides: list[str], message: str
) -> None:
    assert main(["run", "job.yaml", "-q"]) == 0
    assert main(["calibrate", "job.yaml", "-q", "-o", "pool", "--samples", "2"]) == 0
    (job / "mine").mkdir()
    (job / "mine" / "summary.json").write_text('{"mine": 1}')
    before = tree(job)
    capsys.readouterr()
    assert main([command, "job.yaml", *overrides]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "is complete" not in shown.err
    assert tree(job) == before


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_url_that_cannot_be_used_is_found_beforehand(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "job.yaml", "output=s3://bucket/run"]) == 2
    assert "ConfigError: output: s3://bucket/run cannot be used" in capsys.readouterr().err


def test_an_output_that_goes_on_or_is_done_is_fine(job: Path) -> None:
    assert main(["run", "job.yaml", "-q"]) == 0
    before = tree(job)
    assert main(["check", "job.yaml"]) == 0
    assert tree(job) == before


def test_gpus_that_a_job_in_this_process_cannot_have_are_a_caution(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert main(["check", "job.yaml", "models.small.gpus=1"]) == 0
        told = "models.small asks for gpus, and there is none here" in " ".join(capsys.readouterr().out.split())
        assert told is not there


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", None, "-o d.jsonl must be a name that ends in .json, as in -o policy.json"),
        ("mine.json", '[{"q": "a dataset"}]', "-o mine.json is there and is no fitted policy"),
        ("mine.json", "not JSON", "-o mine.json is there and is no fitted policy"),
        ("folder.json/", None, "-o folder.json is there and is no fitted policy"),
    ],
)
def test_a_fit_writes_over_nothing_but_a_fitted_policy(
    job: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, message: str
) -> None:
    (job / "folder.json").mkdir()
    if content is not None:
        (job / name).write_text(content)
    before = tree(job)
    assert main(["fit", "lab:pool/test", "-o", name]) == 2
    assert message in capsys.readouterr().err
    assert tree(job) == before


def test_a_fit_that_cannot_be_written_is_named_before_it_is_made(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job / "policy.json.tmp").mkdir()
    monkeypatch.setattr("apportion.difficulty.crossfit.fit_with_error", lambda *_: pytest.fail("it was made"))
    assert main(["fit", "lab:pool/test", "-o", "policy.json"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("apportion: ConfigError: -o policy.json cannot be written: ")
    assert "name another file" in told


def test_a_fit_may_be_done_again(job: Path) -> None:
    for _ in range(2):
        assert main(["fit", "lab:pool/test", "-o", "policy.json", "--arms", "small"]) == 0


def test_a_user_summary_is_not_a_run(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "out").mkdir()
    (job / "out" / "summary.json").write_text('{"mine": 1}')
    (job / "out" / "config.yaml").write_text("mine: 1\n")
    assert main(["run", "job.yaml"]) == 2
    assert "out/summary.json is not the summary of a run; choose another output" in capsys.readouterr().err
