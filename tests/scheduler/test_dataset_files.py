"""Datasets of several files, and of kinds that are not read: where a bad row is, and what to do."""

from __future__ import annotations

import bz2
import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from apportion.actors.fake import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import DataError
from apportion.scheduler.dataset import Dataset, read_dataset, set_aside_too_long
from apportion.scheduler.rows import data_files
from apportion.scheduler.spec import DatasetSpec


def read(path: Path) -> Dataset:
    return read_dataset(DatasetSpec(str(path), "q", "id"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of three lines; the second has a broken one, an id of the first, and a long prompt."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"id": 1, "q": "one"}\n\n{"id": 2, "q": ""}\n')
    (folder / "b.jsonl").write_text(f'broken\n{{"id": 1, "q": "again"}}\n{{"id": 3, "q": "{"long " * 60}"}}\n')
    return folder


def test_a_row_of_several_files_is_set_aside_with_its_own_line_and_file(folder: Path) -> None:
    a, b = folder / "a.jsonl", folder / "b.jsonl"
    dataset = read(folder)
    assert [(one.line, one.id, one.reason) for one in dataset.set_aside] == [
        (3, "2", f"the prompt is empty, on line 3 of {a}"),
        (4, None, f"broken JSON: Expecting value at column 1, on line 1 of {b}"),
        (5, "1", f"duplicate id '1', first on line 1 of {a}, on line 2 of {b}"),
    ]
    narrow = describe(ModelSpec("m", "fake", Role.POLICY, "x", engine_args={"max_model_len": 40}))
    assert set_aside_too_long(dataset, {"m": narrow}).set_aside[-1].reason.endswith(f"of 40, on line 3 of {b}")


def test_a_single_file_of_a_glob_needs_no_name(folder: Path) -> None:
    assert read(folder / "a*.jsonl").set_aside[0].reason == "the prompt is empty"


def test_a_table_of_another_kind_is_refused_with_a_command_that_converts_it(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    path = tmp_path / "D.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("id", "q"), ("x", "what?")])
    with pytest.raises(DataError, match=r"D\.csv is a table of a kind that is not read") as caught:
        read(path)
    program = str(caught.value).partition('python -c "')[2].partition('"')[0]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert "name D.parquet in dataset.path" in str(caught.value)
    assert [prompt.text for prompt in read(tmp_path / "D.parquet").prompts] == ["what?"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("d.tsv", r"pandas\.read_csv\('.*d\.tsv', sep='\\t'\)"),
        ("d.xlsx", r"pandas\.read_excel"),
        ("d.csv.gz", r"read_csv\('.*d\.csv\.gz'\)\.to_parquet\('d\.parquet'\)"),
        ("d.arrow", r"pandas\.read_feather"),
        ("d.jsonl.zst", "unzstd"),
    ],
)
def test_other_kinds_are_told_by_their_suffix(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(DataError, match=advice):
        read(tmp_path / name)
    with pytest.raises(DataError, match=advice):
        read(tmp_path / "d*")


def test_a_compression_that_is_not_read_is_named_with_what_undoes_it(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl.bz2"
    path.write_bytes(bz2.compress(b'{"id": 1, "q": "a"}\n'))
    with pytest.raises(DataError, match=r"unpack it with `bunzip2 -k .*d\.jsonl\.bz2`"):
        read(path)


def test_a_folder_without_data_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,q\n1,a\n")
    with pytest.raises(DataError, match=r"no JSONL or Parquet file; correct dataset\.path, or convert what is there"):
        read(tmp_path)


def test_a_table_in_memory_is_refused_with_what_makes_rows_of_it() -> None:
    pandas = pytest.importorskip("pandas")
    table = pa.table({"q": ["a"]})
    for rows, advice in (
        (pandas.DataFrame({"q": ["a"]}), r'rows\.to_dict\("records"\)'),
        (table, r"rows\.to_pylist\(\)"),
    ):
        with pytest.raises(DataError, match=f"must be dicts, one a prompt; give the rows as {advice}"):
            read_dataset(DatasetSpec("<rows>", "q"), rows)


def test_an_array_over_several_lines_is_refused_and_not_read_as_its_last_row(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    for text in (
        json.dumps(rows, indent=1),
        "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
        '[{"prompt": "a"},\n',
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=r"one JSON array over several lines.*jq -c '\.\[\]' d.json > d.jsonl"):
            read_dataset(DatasetSpec(str(file)))
    file.write_text('[1, 2]\n{"prompt": "a"}\n[\n')
    dataset = read_dataset(DatasetSpec(str(file)))
    assert len(dataset.prompts) == 1
    assert len(dataset.set_aside) == 2


def test_what_tools_hide_in_a_folder_is_no_data(tmp_path: Path) -> None:
    for name in (".hidden.jsonl", ".ipynb_checkpoints/d-checkpoint.jsonl", "part/d.jsonl", "part/._d.jsonl"):
        (tmp_path / ".set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".set" / name).write_text('{"prompt": "a"}\n')
    for path in (str(tmp_path / ".set"), f"file://{tmp_path}/.set/"):
        (file,) = data_files(path)
        assert file.endswith("/.set/part/d.jsonl")
