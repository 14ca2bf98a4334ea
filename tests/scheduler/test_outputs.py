"""The run directory: what is written, when it may be written to, and what a crash leaves behind."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from apportion.costs import Cost
from apportion.errors import RunDirectoryError
from apportion.scheduler.claim import differences
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.events import Failed, RequestId
from apportion.scheduler.journal import Journal
from apportion.scheduler.outputs import RunDirectory, read_summary
from apportion.scheduler.results import Committed, Ended, PromptResult
from apportion.types import Candidate, Draft, Finish, LogprobStats, Purchase

CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl"},
    "output": "runs/x",
    "budget": {"amount": 10.0, "unit": "samples"},
    "models": {"small": {"model": "a", "replicas": 1, "cpus": 1.0, "gpus": 0.0, "max_batch": 8}},
    "arms": {"vote": {"n": [1, 2]}},
    "execution": {"in_flight": None, "ordered": False},
    "cluster": {"address": "local"},
}

SUMMARY: dict[str, Any] = {"prompts": 2, "answered": 2, "budget": {"amount": 10.0}}


def committed(name: str, index: int, answer: str | None = "4") -> Committed:
    stats = LogprobStats(-0.5, 1.0, 2.0)
    draft = Draft("2+2\nAnswer: 4", ("2+2", "Answer: 4"), 9, Finish.END, stats, (0.25, 0.5), weight=0.5)
    candidates = (
        Candidate(name, 0, "vote", 0, draft, answer, 0.5),
        Candidate(name, 1, "vote", 1, Draft("é", ("é",), 1, Finish.LENGTH), None),
    )
    result = PromptResult(
        prompt_id=name,
        index=index,
        answer=answer,
        response=draft.text,
        confidence=0.5,
        difficulty=0.3,
        spent=Cost(tokens=10, flops=1e6, samples=2),
        purchases=(Purchase("vote", 1), Purchase("vote", 1)),
        candidates=2,
        reason="not worth the price",
        correct=True,
    )
    return Committed(result, candidates, (Ended(Cost(6, 1e6, 0.5, 0.25, 1)), Ended(Cost(4, 0, 0, 0, 1))))


def run_directory(path: Path, config: Mapping[str, Any] = CONFIG, fingerprint: str = "f1") -> RunDirectory:
    return RunDirectory(path, config, fingerprint)


def pay(path: Path) -> None:
    """Leave the journal of a job that got one reply."""
    with Journal(path / "journal.sqlite", {"dataset": "f1"}) as journal:
        journal.append([Failed(RequestId(0, 0, 0, 0), "out of memory")])


def changed(key: str, value: Any) -> dict[str, Any]:
    """CONFIG with one dotted key set."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    *path, last = key.split(".")
    section = config
    for part in path:
        section = section[part]
    section[last] = value
    return config


def test_a_finished_directory_holds_everything(tmp_path: Path) -> None:
    with run_directory(tmp_path / "runs" / "x") as directory:
        assert directory.complete() is None
        directory.set_aside([SetAside(3, None, "broken JSON"), SetAside(5, "q5", "the prompt is empty")])
        directory.commit(committed("second", 1), [True, False])
        directory.commit(committed("first", 0), [None, None])
        directory.finish({**SUMMARY, "accuracy": None})
        complete = directory.complete()
        assert complete is not None
        assert (complete["prompts"], complete["accuracy"], complete["responses"]["total"]) == (2, None, 4)
    path = tmp_path / "runs" / "x"
    tables = {"candidates.parquet", "results.parquet", "results.jsonl", "set_aside.jsonl", "summary.json"}
    assert {one.name for one in path.iterdir()} == tables | {".lock", "config.yaml", "dataset.json"}
    assert yaml.safe_load((path / "config.yaml").read_text()) == CONFIG
    assert [json.loads(line) for line in (path / "set_aside.jsonl").read_text().splitlines()] == [
        {"line": 3, "id": None, "reason": "broken JSON"},
        {"line": 5, "id": "q5", "reason": "the prompt is empty"},
    ]
    rows = [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]
    assert [row["prompt_id"] for row in rows] == ["second", "first"], "as they were committed"
    assert rows[0]["purchases"] == [{"arm": "vote", "n": 1}, {"arm": "vote", "n": 1}]
    assert rows[0]["spent"]["flops"] == 1e6
    table = pq.read_table(path / "results.parquet").to_pylist()
    assert [row["prompt_id"] for row in table] == ["first", "second"], "as they stand in the dataset"
    assert table == sorted(rows, key=lambda row: row["prompt_id"])


def test_every_candidate_is_kept_with_where_it_came_from(tmp_path: Path) -> None:
    with run_directory(tmp_path) as directory:
        directory.commit(committed("q", 0), [True, None])
        directory.finish({})
    first, second = pq.read_table(tmp_path / "candidates.parquet").to_pylist()
    assert first == {
        "prompt_id": "q",
        "index": 0,
        "arm": "vote",
        "purchase": 0,
        "answer": "4",
        "correct": True,
        "tokens": 9,
        "score": 0.5,
        "step_scores": [0.25, 0.5],
        "mean_logprob": -0.5,
        "self_certainty": 2.0,
        "finish": "end",
        "text": "2+2\nAnswer: 4",
        "weight": 0.5,
        "n": 1,
        "cost_tokens": 6.0,
        "cost_flops": 1e6,
        "cost_gpu_seconds": 0.5,
        "cost_usd": 0.25,
        "accepted": None,
        "group": None,
        "cut": False,
    }
    assert (second["index"], second["answer"], second["correct"], second["score"]) == (1, None, None, None)
    assert (second["step_scores"], second["mean_logprob"], second["finish"]) == (None, None, "length")


def test_a_job_without_candidates_still_has_both_tables(tmp_path: Path) -> None:
    with run_directory(tmp_path) as directory:
        directory.finish({})
    assert pq.read_table(tmp_path / "candidates.parquet").num_rows == 0
    assert "step_scores" in pq.read_table(tmp_path / "candidates.parquet").column_names
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 0


def test_a_resumed_job_writes_no_result_twice_and_all_candidates(tmp_path: Path) -> None:
    with run_directory(tmp_path) as directory:
        directory.commit(committed("a", 0), [True, False])
    assert read_summary(tmp_path) is None
    assert not list(tmp_path.glob("candidates*")), "nothing half-written is left"
    with run_directory(tmp_path) as directory:
        assert directory.written == {"a"}
        directory.commit(committed("a", 0), [True, False])
        directory.commit(committed("b", 1), [True, False])
        directory.finish({})
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt_id"] for line in lines] == ["a", "b"]
    candidates = pq.read_table(tmp_path / "candidates.parquet").column("prompt_id").to_pylist()
    assert candidates == ["a", "a", "b", "b"]
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 2


@pytest.mark.parametrize("kept", [1, 10, 200])
def test_a_line_torn_by_a_crash_is_removed_and_written_again(tmp_path: Path, kept: int) -> None:
    with run_directory(tmp_path) as directory:
        directory.commit(committed("a", 0), [True, False])
        directory.commit(committed("b", 1), [True, False])
    results = tmp_path / "results.jsonl"
    whole = results.read_bytes()
    first = whole.index(b"\n") + 1
    results.write_bytes(whole[: first + kept])
    with run_directory(tmp_path) as directory:
        assert directory.written == {"a"}
        directory.commit(committed("b", 1), [True, False])
    assert results.read_bytes() == whole


def test_results_that_this_job_did_not_write_are_refused(tmp_path: Path) -> None:
    with run_directory(tmp_path):
        pay(tmp_path)
    (tmp_path / "results.jsonl").write_text("my own notes\n")
    with pytest.raises(RunDirectoryError, match=r"results\.jsonl holds a line that this job did not write"):
        run_directory(tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == "my own notes\n"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("budget.amount", 20.0, "budget.amount: 10.0 there, 20.0 here"),
        ("arms.vote.n", [1, 4], "arms.vote.n: [1, 2] there, [1, 4] here"),
        ("arms.beam", {"n": [4]}, "arms.beam.n: absent there, [4] here"),
        ("models.small.gpus", 1.0, "models.small.gpus: 0.0 there, 1.0 here"),
        ("models.small.replicas", 2, "models.small.replicas: 1 there, 2 here"),
        ("execution.ordered", True, "execution.ordered: False there, True here"),
    ],
)
def test_a_directory_of_another_config_is_refused_and_says_what_differs(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    with run_directory(tmp_path):
        pay(tmp_path)
    with pytest.raises(RunDirectoryError) as caught:
        run_directory(tmp_path, changed(key, value))
    assert f"belongs to another config: {message}. Restore" in str(caught.value)
    assert str(caught.value).endswith("or choose another one with output=...")
    with run_directory(tmp_path):
        pass


@pytest.mark.parametrize(
    ("key", "value"), [("output", "elsewhere"), ("cluster.address", "auto"), ("models.small.cpus", 2)]
)
def test_where_a_job_runs_may_change(tmp_path: Path, key: str, value: Any) -> None:
    with run_directory(tmp_path):
        pay(tmp_path)
    with run_directory(tmp_path, changed(key, value)) as directory:
        assert directory.journal.exists()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == CONFIG


def test_replicas_may_change_where_they_do_not_decide_what_is_in_flight() -> None:
    there, here = changed("execution.in_flight", 4), changed("models.small.replicas", 3)
    here["execution"]["in_flight"] = 4
    assert differences(there, here) == []
    assert differences(CONFIG, changed("models.small.replicas", 3)) == ["models.small.replicas: 1 there, 3 here"]


def test_a_changed_dataset_is_noticed(tmp_path: Path) -> None:
    with run_directory(tmp_path):
        pay(tmp_path)
    with pytest.raises(RunDirectoryError, match="begun on other prompts: the dataset has changed since"):
        run_directory(tmp_path, fingerprint="f2")


@pytest.mark.parametrize("journal", [False, True], ids=["no journal", "a journal without events"])
def test_a_job_that_got_no_reply_leaves_its_directory_free(tmp_path: Path, journal: bool) -> None:
    with run_directory(tmp_path) as directory:
        if journal:
            Journal(directory.journal, {"dataset": "f1"}).close()
    corrected = changed("budget.amount", 20.0)
    with run_directory(tmp_path, corrected, "f2") as directory:
        assert not list(tmp_path.glob("journal.sqlite*"))
        Journal(directory.journal, {"dataset": "f2"}).close()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == corrected
    assert json.loads((tmp_path / "dataset.json").read_text()) == {"fingerprint": "f2"}


def test_a_job_killed_after_a_reply_keeps_its_directory(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from apportion.scheduler.journal import Journal\n"
        "from apportion.scheduler.events import Failed, RequestId\n"
        "journal = Journal(Path(sys.argv[1]), {'dataset': 'f1'})\n"
        "journal.append([Failed(RequestId(0, 0, 0, 0), 'x')]); os._exit(9)"
    )
    with run_directory(tmp_path) as directory:
        subprocess.run([sys.executable, "-c", code, str(directory.journal)], check=False)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size > 0
    with pytest.raises(RunDirectoryError, match="belongs to another config"):
        run_directory(tmp_path, changed("budget.amount", 20.0))


def test_results_or_a_journal_that_cannot_be_read_keep_a_directory(tmp_path: Path) -> None:
    other = changed("budget.amount", 20.0)
    with run_directory(tmp_path / "results") as directory:
        directory.commit(committed("a", 0), [True, False])
    with pytest.raises(RunDirectoryError, match="belongs to another config"):
        run_directory(tmp_path / "results", other)
    with run_directory(tmp_path / "journal") as directory:
        directory.journal.write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(RunDirectoryError, match="belongs to another config"):
        run_directory(tmp_path / "journal", other)


def test_a_config_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with pytest.raises(RunDirectoryError, match="belongs to another config"):
        run_directory(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "mine: 1\n"


def test_secrets_of_a_url_are_not_told(tmp_path: Path) -> None:
    with run_directory(tmp_path, changed("dataset.path", "https://me:pw@host/d.jsonl?token=abc")):
        pay(tmp_path)
    with pytest.raises(RunDirectoryError) as caught:
        run_directory(tmp_path)
    assert "'https://***@host/d.jsonl?token=***' there" in str(caught.value)
    assert "abc" not in str(caught.value)


def test_what_a_model_wrote_never_breaks_a_file(tmp_path: Path) -> None:
    one = committed("q", 0, answer="\ud83d 4")
    draft = replace(one.candidates[0].draft, text="half \ud83d \u2028 a pair")
    odd = replace(one.candidates[0], draft=draft, score=math.nan)
    result = replace(one.result, response="half \ud83d a pair", confidence=math.nan, difficulty=math.inf)
    with run_directory(tmp_path) as directory:
        directory.commit(Committed(result, [odd]), [True])
        directory.finish({**SUMMARY, "accuracy": math.nan, "by_arm": {"vote": [math.inf, 1.0]}})
    row = json.loads((tmp_path / "results.jsonl").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (row["response"], row["answer"]) == ("half \\ud83d a pair", "\\ud83d 4")
    assert (row["confidence"], row["difficulty"]) == (None, None)
    assert pq.read_table(tmp_path / "results.parquet").to_pylist() == [row]
    (candidate,) = pq.read_table(tmp_path / "candidates.parquet").to_pylist()
    assert (candidate["text"], candidate["answer"]) == ("half \\ud83d \u2028 a pair", "\\ud83d 4")
    assert candidate["score"] is None
    summary = read_summary(tmp_path)
    assert summary is not None
    assert (summary["accuracy"], summary["by_arm"]) == (None, {"vote": [None, 1.0]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1"),
        ("dataset.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"mine": 1}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    with run_directory(tmp_path) as directory:
        directory.finish({**SUMMARY})
    (tmp_path / name).write_text(content)
    with pytest.raises(RunDirectoryError, match=name.replace(".", r"\.")), run_directory(tmp_path) as directory:
        directory.complete()


def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunDirectoryError, match=r"output: .*file cannot be written"):
        run_directory(tmp_path / "file")


def test_a_second_job_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    first = run_directory(tmp_path)
    with pytest.raises(RunDirectoryError, match=rf"another job \(process {os.getpid()}\) writes to"):
        run_directory(tmp_path)
    first.close()
    with run_directory(tmp_path):
        pass


def test_a_killed_job_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from apportion.scheduler.outputs import RunDirectory\n"
        "directory = RunDirectory(Path(sys.argv[1]), {'seed': 1}, 'f'); print('open', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(RunDirectoryError, match=rf"process {holder.pid}\b"):
            RunDirectory(tmp_path, {"seed": 1}, "f")
        holder.send_signal(signal.SIGKILL)
    with RunDirectory(tmp_path, {"seed": 1}, "f"):
        pass
