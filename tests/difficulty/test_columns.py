"""A pool's files as people make them: what is damaged, or of another type than it must be, is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apportion.difficulty.hidden import HIDDEN, read_hidden
from apportion.difficulty.pools import Pool, read_pool
from apportion.errors import DataError

ROWS: dict[str, Any] = {
    "prompt_id": ["p", "p", "q", "q"],
    "arm": ["a"] * 4,
    "answer": ["1", "2", None, "1"],
    "correct": [True, False, False, True],
    "tokens": [5, 6, 7, 8],
}


def read(folder: Path, **columns: Any) -> Pool:
    pq.write_table(pa.table({**ROWS, **columns}), folder / "candidates.parquet")
    return read_pool(folder)


@pytest.mark.parametrize("labels", [[True, False, False, True], [1, 0, 0, 1], [1.0, 0.0, 0.0, 1.0]])
def test_labels_are_truth_values_or_the_numbers_that_stand_for_them(tmp_path: Path, labels: list[Any]) -> None:
    assert read(tmp_path, correct=labels).deck("a").correct.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"correct": ["True", "False", "False", "True"]}, "the column correct must hold numbers, but holds string"),
        ({"correct": [0.5, 0.0, 0.0, 1.0]}, "correct must hold true or false, or 1 or 0, and nothing between"),
        ({"tokens": ["5", "6", "7", "long"]}, "the column tokens must hold numbers, but holds string"),
        ({"score": [[0.1], [0.2], [0.3], [0.4]]}, "the column score must hold numbers, but holds list"),
        ({"prompt_id": [None, "p", "q", "q"]}, "1 of 4 rows have no prompt_id"),
        ({"arm": [None, None, "a", "a"]}, "2 of 4 rows have no arm"),
    ],
)
def test_a_column_that_cannot_be_taken_as_it_is_is_named(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, **columns)


@pytest.mark.parametrize("name", ["candidates.parquet", "prompts.parquet", HIDDEN])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    read(tmp_path)
    (tmp_path / name).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=f"{name} cannot be read .*; copy it again, or record the pool again"):
        read_hidden(tmp_path, ["p"]) if name == HIDDEN else read_pool(tmp_path)


def test_texts_that_are_numbers_are_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt_id": ["p", "q"], "text": [12, None]}), tmp_path / "prompts.parquet")
    assert read(tmp_path).texts == ["12", ""]
