"""Rows of a pipeline kept on disk beside their job, to be joined with their results: only prompts are held in memory.

One Arrow file a batch, read back through the page cache. Invariant: rows keep every column they came with; where the
batches of one dataset differ in their types, they are joined in types that hold both.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa


class CarriedRows:
    """Rows by number, from 0, in a folder of their own that goes when this is closed; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts: list[int] = []
        self.rows = 0
        # What a killed job left behind.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def __enter__(self) -> CarriedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, table: Any) -> None:
        """The next rows, an Arrow table of at least one."""
        whole = table.combine_chunks().replace_schema_metadata(None)
        with pa.OSFile(str(self._file(len(self._starts))), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)
        self._starts.append(self.rows)
        self.rows += whole.num_rows

    def take(self, numbers: Sequence[int]) -> Any:
        """These rows, an Arrow table; `numbers` ascend. Without any, no rows, with the columns of the first batch."""
        wanted: dict[int, list[int]] = {}
        for number in numbers:
            batch = bisect_right(self._starts, number) - 1
            wanted.setdefault(batch, []).append(number - self._starts[batch])
        if not wanted:
            wanted[0] = []
        parts = [self._read(batch).take(pa.array(places, pa.int64())) for batch, places in wanted.items()]
        return pa.concat_tables(parts, promote_options="permissive")

    def close(self) -> None:
        """Forget the rows."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, batch: int) -> Any:
        with pa.memory_map(str(self._file(batch))) as source:
            return pa.ipc.open_file(source).read_all()

    def _file(self, batch: int) -> Path:
        return self._folder / f"{batch:06}.arrow"
