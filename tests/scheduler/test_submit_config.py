"""What of a config travels to a cluster, what is taken to be there, and what is refused before anything is sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from apportion.configs.load import load_config
from apportion.errors import BudgetError, ConfigError, DataError, ModelError
from apportion.lab.paths import lab_path
from apportion.scheduler.submit_config import Parcel, pack

CONFIG: dict[str, Any] = {
    "dataset": {"path": "data/d.jsonl", "prompt": "q"},
    "output": "/mnt/shared/run",
    "budget": {"amount": 40, "unit": "samples"},
    "models": {"small": {"engine": "fake", "model": "x"}},
    "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2]}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to ship, with data/d.jsonl in it; the current directory is another one."""
    shipped = tmp_path / "project"
    (shipped / "data").mkdir(parents=True)
    rows = [json.dumps({"q": f"question {i} p=0.5 answer={i}"}) for i in range(5)]
    (shipped / "data" / "d.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shipped


def packed(folder: Path | None, *overrides: str, **changes: Any) -> Parcel:
    return pack({**CONFIG, **changes}, list(overrides), folder)


def test_a_relative_dataset_is_that_of_the_shipped_folder(folder: Path) -> None:
    parcel = packed(folder)
    assert parcel.config["dataset"]["path"] == "data/d.jsonl"
    assert parcel.shipped == ("data/d.jsonl",)
    assert parcel.config["cluster"]["address"] == "auto"
    assert parcel.output == "/mnt/shared/run"


def test_an_absolute_path_into_the_shipped_folder_is_made_relative(folder: Path) -> None:
    parcel = packed(folder, f"dataset.path={folder / 'data' / 'd.jsonl'}")
    assert parcel.config["dataset"]["path"] == "data/d.jsonl"


@pytest.mark.parametrize("path", ["data/*.jsonl", "data", "./data", "**/*.jsonl", "data/[de].jsonl", "."])
def test_every_file_of_a_folder_or_glob_must_arrive(folder: Path, tmp_path: Path, path: str) -> None:
    elsewhere = tmp_path / "e.jsonl"
    elsewhere.write_text('{"q": "another"}\n')
    if "*" not in path and "[" not in path:
        (folder / "data" / "e.jsonl").symlink_to(elsewhere)
    else:
        (folder / "data" / "e.jsonl").write_text(elsewhere.read_text())
    (folder / "data" / "notes.txt").write_text("not data")
    for text in (path, str(folder / path)):
        parcel = packed(folder, f"dataset.path={text}")
        assert parcel.config["dataset"]["path"] == Path(path).as_posix()
        assert parcel.shipped == ("data/d.jsonl", "data/e.jsonl")


def test_a_glob_that_finds_nothing_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "mine.jsonl").write_text('{"q": "a"}\n')
    for path in ("data/*.parquet", "../here/*.jsonl"):
        with pytest.raises(DataError, match=r"is not in --working-dir"):
            packed(folder, f"dataset.path={path}")


@pytest.mark.parametrize("path", ["/mnt/shared/d.jsonl", "s3://bucket/d.parquet", "lab:test", "~/d.jsonl"])
def test_what_the_cluster_has_is_sent_as_it_was_written(folder: Path, path: str) -> None:
    changes = {"dataset": {"path": path, "prompt": "problem"}}
    for shipped in (None, folder):
        parcel = packed(shipped, **changes)
        assert parcel.config["dataset"]["path"] == path
        assert not parcel.shipped


def test_a_sent_config_reads_back_as_the_same_job(folder: Path) -> None:
    text = yaml.safe_dump(packed(folder, "seed=3", "arms.vote.stop=['$', '\\${x}']").config)
    again = load_config(yaml.safe_load(text))
    first = load_config(CONFIG, ["seed=3", "arms.vote.stop=['$', '\\${x}']", "cluster.address=auto"])
    assert again.job == first.job
    assert again.resolved == first.resolved


def test_a_secret_stays_where_it_is_and_is_read_on_the_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET_KEY", "hunter2")
    parcel = packed(None, dataset={"path": "https://u:${oc.env:BUCKET_KEY}@host/d.jsonl", "prompt": "q"})
    assert "hunter2" not in json.dumps(parcel.config)
    assert (
        packed(None, "dataset.path=/d.jsonl", "output=s3://k:${oc.env:BUCKET_KEY}@bucket/run").output
        == "s3://***@bucket/run"
    )
    assert parcel.config["dataset"]["path"] == "https://u:${oc.env:BUCKET_KEY}@host/d.jsonl"


def test_a_dataset_that_would_not_travel_is_refused_with_the_next_step(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'data/d.jsonl' is relative, and no folder is shipped.*--working-dir FOLDER"):
        packed(None)
    (tmp_path / "here" / "mine.jsonl").write_text('{"q": "a"}\n')
    with pytest.raises(DataError, match=r"'mine.jsonl' is on this machine only; ship the folder it lies in"):
        packed(None, "dataset.path=mine.jsonl")
    with pytest.raises(DataError, match=r"'mine.jsonl' is on this machine, but not in --working-dir .*Move it there"):
        packed(folder, "dataset.path=mine.jsonl")
    with pytest.raises(DataError, match=r"'../here/mine.jsonl' is on this machine, but not in"):
        packed(folder, "dataset.path=../here/mine.jsonl")


def test_a_relative_run_directory_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"output: 'runs/x' is relative.*output=/mnt/shared/x"):
        packed(folder, "output=runs/x")


def test_models_travel_in_the_folder_or_are_the_clusters_own(folder: Path, tmp_path: Path) -> None:
    model = {"engine": "embedded"}
    (folder / "tiny").mkdir()
    (tmp_path / "here" / "mine").mkdir()
    for text in ("/mnt/models/qwen", "Qwen/Qwen2.5-1.5B-Instruct"):
        sent = packed(folder, models={"small": {**model, "model": text}})
        assert sent.config["models"]["small"]["model"] == text
    with pytest.raises(ModelError, match=r"models.small.model: .*tiny has no config.json"):
        packed(folder, models={"small": {**model, "model": "tiny"}})
    with pytest.raises(ModelError, match=r"models.small.model: 'mine' is on this machine only.*--working-dir"):
        packed(None, "dataset.path=/d.jsonl", models={"small": {**model, "model": "mine"}})


def test_an_endpoints_tokenizer_travels_in_the_folder_or_is_the_clusters_own(folder: Path) -> None:
    shutil.copytree(lab_path("lab:small"), folder / "reader")
    model = {"engine": "openai", "model": "x"}

    def sent(tokenizer: str, shipped: Path | None = folder, **changes: Any) -> Parcel:
        settings = {"base_url": "http://host/v1", "tokenizer": tokenizer}
        return packed(shipped, models={"small": {**model, "engine_args": settings}}, **changes)

    for text in ("reader", str(folder / "reader")):
        parcel = sent(text)
        assert parcel.config["models"]["small"]["engine_args"]["tokenizer"] == "reader"
        assert parcel.shipped == ("data/d.jsonl", "reader")
    for text in ("/mnt/models/reader", "lab:small"):
        assert sent(text).config["models"]["small"]["engine_args"]["tokenizer"] == text
    with pytest.raises(ModelError, match=r"models.small.engine_args.tokenizer: 'reader' is relative, and no folder"):
        sent("reader", None, dataset={"path": "/mnt/d.jsonl", "prompt": "q"})


def test_a_fitted_policy_travels_from_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "here" / "fitted.json"
    fitted.write_text("{}")
    parcel = packed(None, "dataset.path=/mnt/d.jsonl", "difficulty.fitted=fitted.json")
    assert parcel.fitted == fitted
    assert parcel.config["difficulty"]["fitted"] is None
    with pytest.raises(ConfigError, match=r"fitted"):
        packed(folder, "difficulty.fitted=fitted.json")  # what travels with all the data is read here, as `check` does
    away = packed(None, "dataset.path=/mnt/d.jsonl", "difficulty.fitted=/mnt/fitted.json")
    assert away.fitted is None
    assert away.config["difficulty"]["fitted"] == "/mnt/fitted.json"
    with pytest.raises(ConfigError, match=r"difficulty.fitted: .*gone.json is no file"):
        packed(None, "dataset.path=/mnt/d.jsonl", "difficulty.fitted=gone.json")


def test_mistakes_are_named_before_anything_is_sent(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"arms.vote.policy: no model is called 'smal'"):
        packed(None, "dataset.path=s3://b/d", "arms.vote.policy=smal")
    with pytest.raises(DataError, match=r"no row has a column 'question'"):
        packed(folder, "dataset.prompt=question")
    with pytest.raises(BudgetError, match=r"budget.amount"):
        packed(folder, "budget.amount=0.5")


def test_a_users_own_answer_function_is_found_in_the_shipped_folder(folder: Path) -> None:
    (folder / "their_answers.py").write_text("def read(text):\n    return text\n")
    answer = {"kind": "function", "function": "their_answers:read"}
    assert packed(folder, answer=answer).config["answer"]["function"] == "their_answers:read"
    with pytest.raises(ConfigError, match=r"importing no_answers failed"):
        packed(folder, answer={"kind": "function", "function": "no_answers:read"})
