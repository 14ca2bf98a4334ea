"""Rows carried on disk come back as they were, by number."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from apportion.scheduler.carried import CarriedRows

ROW = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(),
        "tags": st.lists(st.integers(0, 9)),
        "more": st.fixed_dictionaries({"n": st.floats()}),
    }
)


@given(st.lists(st.lists(ROW, min_size=1, max_size=5), min_size=1, max_size=4), st.data())
def test_any_rows_come_back_as_they_were(
    tmp_path_factory: object, batches: list[list[dict]], data: st.DataObject
) -> None:
    schema = pa.schema(
        [("text", pa.string()), ("tags", pa.list_(pa.int64())), ("more", pa.struct([("n", pa.float64())]))]
    )
    everything = pa.Table.from_pylist([row for batch in batches for row in batch], schema=schema)
    numbers = sorted(data.draw(st.sets(st.integers(0, everything.num_rows - 1))))
    folder = tmp_path_factory.mktemp("rows") / "here"  # type: ignore[attr-defined]
    with CarriedRows(folder) as carried:
        for batch in batches:
            carried.add(pa.Table.from_pylist(batch, schema=schema))
        assert carried.rows == everything.num_rows
        taken = carried.take(numbers)
    assert taken.schema == schema
    # By text, because nan is not itself.
    assert repr(taken.to_pylist()) == repr(everything.take(pa.array(numbers, pa.int64())).to_pylist())
    assert not folder.exists()


def test_batches_of_other_types_are_joined_in_types_that_hold_both(tmp_path: Path) -> None:
    with CarriedRows(tmp_path / "rows") as carried:
        carried.add(pa.table({"id": [1], "note": pa.nulls(1)}))
        carried.add(pa.table({"id": [2], "note": ["two"]}))
        assert carried.take([0, 1]).to_pylist() == [{"id": 1, "note": None}, {"id": 2, "note": "two"}]


def test_what_a_killed_job_left_is_not_taken_for_ours(tmp_path: Path) -> None:
    left = CarriedRows(tmp_path / "rows")
    left.add(pa.table({"id": [1, 2, 3]}))
    with CarriedRows(tmp_path / "rows") as carried:
        carried.add(pa.table({"id": [9]}))
        assert carried.take([0]).to_pylist() == [{"id": 9}]
        assert len(list((tmp_path / "rows").iterdir())) == 1
